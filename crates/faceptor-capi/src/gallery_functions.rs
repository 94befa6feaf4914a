//! The functions of the header about galleries, which documents them. They check, and the other modules work.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::ptr;
use std::time::Instant;

use faceptor::Photo;
use faceptor_identity::naming::NamingOptions;
use faceptor_identity::people::{self as identity_people, PhotoOutcome};

use crate::border;
use crate::failure::{Failure, Outcome, guarded};
use crate::functions::{ANALYZERS, RESULTS, fill, give, with_image, wrong_size};
use crate::handles::Handles;
use crate::network::Source;
use crate::people::{self, EnrolmentTexts, Gallery};
use crate::records::{self, is_known_size};

static GALLERIES: Handles<Gallery> = Handles::of("gallery");

/// Makes the file of a key.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_make_key(path: *const c_char) -> u32 {
    guarded(|| {
        // SAFETY: the caller vouches for the pointer.
        let path = unsafe { needed_path(path) }?;
        Ok(faceptor_identity::key_file::make(&path)?)
    })
}

/// Opens or makes a gallery.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_open(
    analyzer: *mut c_void,
    path: *const c_char,
    options: *const records::GalleryOptions,
    gallery: *mut *mut c_void,
) -> u32 {
    guarded(|| {
        // SAFETY: the caller vouches for the pointers, also for those in the options.
        unsafe {
            border::write(gallery, ptr::null_mut(), "gallery")?;
            let record = border::read(options, "options")?;
            if !is_known_size::<records::GalleryOptions>(record.struct_size) {
                let remedy = "set it to sizeof(faceptor_gallery_options)";
                return Err(wrong_size("faceptor_gallery_options", record.struct_size, remedy));
            }
            let (path, key) = (needed_path(path)?, border::path(record.key_path)?);
            let passphrase = border::text(record.passphrase, "passphrase")?;
            let analyzer = ANALYZERS.get(analyzer)?;
            let made = Gallery::open(&analyzer, &path, key.as_deref(), passphrase.as_deref(), record.access)?;
            border::write(gallery, GALLERIES.add(made), "gallery")
        }
    })
}

/// Closes a gallery.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_gallery_free(gallery: *mut c_void) {
    guarded(|| {
        GALLERIES.free(gallery);
        Ok(())
    });
}

/// Names the faces of pixels.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_identify(
    gallery: *mut c_void,
    image: *const records::Image,
    naming: *const records::Naming,
    result: *mut *mut c_void,
) -> u32 {
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        give(result, || {
            let options = options_of(naming)?;
            with_image(image, |source| GALLERIES.get(gallery)?.identify(source, &options))
        })
    }
}

/// Names the faces of a file.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_identify_file(
    gallery: *mut c_void,
    path: *const c_char,
    naming: *const records::Naming,
    result: *mut *mut c_void,
) -> u32 {
    let work = || {
        // SAFETY: the caller vouches for the pointers.
        let (path, options) = unsafe { (needed_path(path)?, options_of(naming)?) };
        let gallery = GALLERIES.get(gallery)?;
        let start = Instant::now();
        let photo = Photo::open(&path)?;
        let name = path.to_string_lossy().into_owned();
        gallery.identify(Source::Photo(photo, Some(name), start.elapsed().as_micros() as u64), &options)
    };
    // SAFETY: as above.
    unsafe { give(result, work) }
}

/// Fills in the usual way to names.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_naming_init(naming: *mut records::Naming) -> u32 {
    let NamingOptions { fpir, margin, .. } = NamingOptions::default();
    let struct_size = size_of::<records::Naming>();
    let usual = records::Naming { struct_size, fpir, threshold: f32::NAN, margin };
    // SAFETY: the caller vouches for the pointer.
    guarded(|| unsafe { border::write(naming, usual, "naming") })
}

/// Fills in who a face is.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_result_identity(
    result: *const c_void,
    index: usize,
    identity: *mut records::Identity,
) -> u32 {
    guarded(|| {
        let made = |size| Ok(records::Identity { struct_size: size, ..RESULTS.get(result)?.identity(index)? });
        // SAFETY: the caller vouches for the pointer.
        unsafe { fill(identity, "identity", "faceptor_identity", made) }
    })
}

/// Enrols a person, or adds photos.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_enroll(
    gallery: *mut c_void,
    name: *const c_char,
    enrolment: *const records::Enrolment,
    photos: *mut records::Photo,
    count: usize,
) -> u32 {
    guarded(|| {
        // SAFETY: the caller vouches for the pointers.
        let (name, texts) = unsafe { (needed_text(name, "name")?, texts_of(enrolment)?) };
        let gallery = GALLERIES.get(gallery)?;
        // SAFETY: as above.
        let photos = unsafe { border::slice_mut(photos, count, "photos") }?;
        // SAFETY: as above, for what the photos point to.
        let read = photos.iter().map(|photo| unsafe { photo_of(photo) }).collect::<Outcome<Vec<_>>>()?;
        let enrolled = gallery.enrol(name, texts, &read)?;
        for (record, outcome) in photos.iter_mut().zip(&enrolled.photos) {
            report(record, outcome);
        }
        Ok(())
    })
}

/// Removes a person.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_remove(gallery: *mut c_void, name: *const c_char) -> u32 {
    // SAFETY: the caller vouches for the pointer.
    guarded(|| GALLERIES.get(gallery)?.remove(&unsafe { needed_text(name, "name") }?))
}

/// Gives a person another name.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_gallery_rename(gallery: *mut c_void, name: *const c_char, to: *const c_char) -> u32 {
    guarded(|| {
        // SAFETY: the caller vouches for the pointers.
        let (name, to) = unsafe { (needed_text(name, "name")?, needed_text(to, "to")?) };
        GALLERIES.get(gallery)?.rename(&name, &to)
    })
}

/// Returns the people as JSON.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_gallery_json(gallery: *mut c_void) -> *const c_char {
    let mut text = ptr::null();
    guarded(|| {
        text = GALLERIES.get(gallery)?.json()?;
        Ok(())
    });
    text
}

/// Copies a path that must be there.
///
/// # Safety
/// The pointer is what the header demands.
unsafe fn needed_path(path: *const c_char) -> Outcome<PathBuf> {
    // SAFETY: the caller of this function vouches for it.
    unsafe { border::path(path) }?.ok_or_else(|| Failure::argument("path is NULL"))
}

/// Copies a text that must be there.
///
/// # Safety
/// The pointer is what the header demands.
unsafe fn needed_text(text: *const c_char, name: &str) -> Outcome<String> {
    // SAFETY: the caller of this function vouches for it.
    unsafe { border::text(text, name) }?.ok_or_else(|| Failure::argument(format!("{name} is NULL")))
}

/// Reads the way to names; the usual one for a null pointer.
///
/// # Safety
/// The pointer is what the header demands.
unsafe fn options_of(naming: *const records::Naming) -> Outcome<NamingOptions> {
    if naming.is_null() {
        return Ok(NamingOptions::default());
    }
    // SAFETY: the caller of this function vouches for it.
    let record = unsafe { border::read(naming, "naming") }?;
    if !is_known_size::<records::Naming>(record.struct_size) {
        return Err(wrong_size("faceptor_naming", record.struct_size, "call faceptor_naming_init first"));
    }
    let threshold = Some(record.threshold).filter(|threshold| !threshold.is_nan());
    let options = NamingOptions { fpir: record.fpir, threshold, margin: record.margin };
    options.check().map_err(Failure::argument)?;
    Ok(options)
}

/// Reads the options of an enrolment; the usual ones for a null pointer.
///
/// # Safety
/// The pointers are what the header demands.
unsafe fn texts_of(enrolment: *const records::Enrolment) -> Outcome<EnrolmentTexts> {
    if enrolment.is_null() {
        return Ok(EnrolmentTexts::default());
    }
    // SAFETY: the caller of this function vouches for them.
    unsafe {
        let record = border::read(enrolment, "enrolment")?;
        if !is_known_size::<records::Enrolment>(record.struct_size) {
            let remedy = "set it to sizeof(faceptor_enrolment)";
            return Err(wrong_size("faceptor_enrolment", record.struct_size, remedy));
        }
        Ok(EnrolmentTexts {
            by: border::text(record.by, "by")?,
            purpose: border::text(record.purpose, "purpose")?,
            expires: border::text(record.expires, "expires")?,
            force: record.force != 0,
        })
    }
}

/// Reads a photo of an enrolment.
///
/// # Safety
/// The pointers are what the header demands.
unsafe fn photo_of(record: &records::Photo) -> Outcome<identity_people::Photo> {
    if record.struct_size != size_of::<records::Photo>() {
        return Err(wrong_size("faceptor_photo", record.struct_size, "set it to sizeof(faceptor_photo)"));
    }
    match (record.path.is_null(), record.image.is_null()) {
        // SAFETY: the caller of this function vouches for the pointer.
        (false, true) => Ok(people::photo(&unsafe { needed_path(record.path) }?)),
        // SAFETY: as above.
        (true, false) => unsafe { with_image(record.image, |source| Ok(Ok(source.into_picture().0))) },
        _ => Err(Failure::argument("path and image of a photo: give one of them, and let the other be NULL")),
    }
}

/// Fills in the outcome for a photo.
fn report(record: &mut records::Photo, outcome: &PhotoOutcome) {
    record.enrolled = u32::from(outcome.is_enrolled);
    record.known = u32::from(outcome.is_known);
    record.reasons = [0; records::REASONS];
    // The last byte stays zero.
    let text = outcome.reasons.join(",");
    for (target, byte) in record.reasons.iter_mut().take(records::REASONS - 1).zip(text.bytes()) {
        *target = byte as c_char;
    }
}
