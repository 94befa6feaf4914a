//! The functions of the header, which documents them. They check, and the other modules work.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::time::Instant;

use faceptor::Photo;

use crate::border;
use crate::failure::{Failure, Outcome, guarded, last_message};
use crate::handles::Handles;
use crate::network::{self, Analyzer, Source, Tracker};
use crate::outcome::Results;
use crate::records::{self, is_known_size};

pub(crate) static ANALYZERS: Handles<Analyzer> = Handles::of("analyzer");
static TRACKERS: Handles<Tracker> = Handles::of("tracker");
pub(crate) static RESULTS: Handles<Results> = Handles::of("result");

/// `FACEPTOR_ABI_VERSION` of the header.
const ABI_VERSION: u32 = 0;

/// Returns the version of the library.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Returns the version of the binary interface.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_abi_version() -> u32 {
    ABI_VERSION
}

/// Returns this thread's last message.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_last_error() -> *const c_char {
    last_message()
}

/// Fills in the usual options.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_options_init(options: *mut records::Options) -> u32 {
    let usual = records::Options {
        struct_size: size_of::<records::Options>(),
        model_path: ptr::null(),
        model_data: ptr::null(),
        model_size: 0,
        tasks: ptr::null(),
        threads: 1,
        looks: 10,
        max_faces: 64,
        min_face: 24.0,
        upright: 0,
        fine_masks: 1,
    };
    // SAFETY: the caller vouches for the pointer.
    guarded(|| unsafe { border::write(options, usual, "options") })
}

/// Makes an analyzer.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_analyzer_new(options: *const records::Options, analyzer: *mut *mut c_void) -> u32 {
    guarded(|| {
        // SAFETY: the caller vouches for the pointers, also for those in the options.
        unsafe {
            border::write(analyzer, ptr::null_mut(), "analyzer")?;
            let made = with_options(options, Analyzer::new)?;
            border::write(analyzer, ANALYZERS.add(made), "analyzer")
        }
    })
}

/// Calls `work` with options, or the usual ones for a null pointer.
///
/// # Safety
/// The pointers are what the header demands.
unsafe fn with_options<T>(
    options: *const records::Options,
    work: impl FnOnce(&network::Options<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let mut record = std::mem::MaybeUninit::<records::Options>::uninit();
    let record = if options.is_null() {
        // SAFETY: the pointer is to the memory above, which the function fills.
        unsafe {
            faceptor_options_init(record.as_mut_ptr());
            record.assume_init()
        }
    } else {
        // SAFETY: the caller of this function vouches for it.
        unsafe { border::read(options, "options") }?
    };
    if !is_known_size::<records::Options>(record.struct_size) {
        return Err(wrong_size("faceptor_options", record.struct_size, "call faceptor_options_init first"));
    }
    // SAFETY: as above.
    let options = unsafe {
        network::Options {
            model_path: border::path(record.model_path)?,
            model: match record.model_data.is_null() {
                true => None,
                false => Some(border::bytes(record.model_data.cast(), record.model_size, "model_data")?),
            },
            tasks: border::text(record.tasks, "tasks")?,
            record,
        }
    };
    work(&options)
}

pub(crate) fn wrong_size(name: &str, given: usize, remedy: &str) -> Failure {
    Failure::argument(format!("struct_size of {name} is {given}, which is not a size of that struct: {remedy}"))
}

/// Fills in a struct of the caller. Its first field holds its size, from which `made` makes the content.
///
/// # Safety
/// The pointer is null or points to such a struct.
pub(crate) unsafe fn fill<T>(
    target: *mut T,
    parameter: &str,
    name: &str,
    made: impl FnOnce(usize) -> Outcome<T>,
) -> Outcome<()> {
    // SAFETY: the caller of this function guarantees it; the size is the first field.
    let size = unsafe { border::read(target.cast::<usize>(), parameter) }?;
    if !is_known_size::<T>(size) {
        return Err(wrong_size(name, size, &format!("set it to sizeof({name})")));
    }
    // SAFETY: as above.
    unsafe { border::write(target, made(size)?, parameter) }
}

/// Frees an analyzer.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_analyzer_free(analyzer: *mut c_void) {
    guarded(|| {
        ANALYZERS.free(analyzer);
        Ok(())
    });
}

/// Calls `work` with the pixels of an image.
///
/// # Safety
/// The pointers are what the header demands.
pub(crate) unsafe fn with_image<T>(
    image: *const records::Image,
    work: impl FnOnce(Source<'_>) -> Outcome<T>,
) -> Outcome<T> {
    // SAFETY: the caller of this function vouches for it.
    let record = unsafe { border::read(image, "image") }?;
    if !is_known_size::<records::Image>(record.struct_size) {
        return Err(wrong_size("faceptor_image", record.struct_size, "set it to sizeof(faceptor_image)"));
    }
    // SAFETY: as above.
    let bytes = unsafe { border::bytes(record.data, record.size, "data of the image") }?;
    work(network::source(&record, bytes)?)
}

/// Writes the handle of a result.
///
/// # Safety
/// The pointer is what the header demands.
pub(crate) unsafe fn give(result: *mut *mut c_void, work: impl FnOnce() -> Outcome<Results>) -> u32 {
    guarded(|| {
        // SAFETY: the caller of this function vouches for it.
        unsafe { border::write(result, ptr::null_mut(), "result") }?;
        let made = work()?;
        // SAFETY: as above.
        unsafe { border::write(result, RESULTS.add(made), "result") }
    })
}

/// Analyzes pixels.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_analyze(
    analyzer: *mut c_void,
    image: *const records::Image,
    result: *mut *mut c_void,
) -> u32 {
    // SAFETY: the caller vouches for the pointers.
    unsafe { give(result, || with_image(image, |source| ANALYZERS.get(analyzer)?.analyze(source, false))) }
}

/// Analyzes an aligned crop.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_analyze_aligned(
    analyzer: *mut c_void,
    image: *const records::Image,
    result: *mut *mut c_void,
) -> u32 {
    // SAFETY: the caller vouches for the pointers.
    unsafe { give(result, || with_image(image, |source| ANALYZERS.get(analyzer)?.analyze(source, true))) }
}

/// Reads and analyzes a file.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_analyze_file(
    analyzer: *mut c_void,
    path: *const c_char,
    result: *mut *mut c_void,
) -> u32 {
    let work = || {
        // SAFETY: the caller vouches for the pointer.
        let path = unsafe { border::path(path) }?.ok_or_else(|| Failure::argument("path is NULL"))?;
        let analyzer = ANALYZERS.get(analyzer)?;
        let start = Instant::now();
        let photo = Photo::open(&path)?;
        let name = path.to_string_lossy().into_owned();
        analyzer.analyze(Source::Photo(photo, Some(name), start.elapsed().as_micros() as u64), false)
    };
    // SAFETY: as above.
    unsafe { give(result, work) }
}

/// Decodes and analyzes the content of a file.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_analyze_encoded(
    analyzer: *mut c_void,
    data: *const c_void,
    size: usize,
    result: *mut *mut c_void,
) -> u32 {
    let work = || {
        // SAFETY: the caller vouches for the pointer.
        let bytes = unsafe { border::bytes(data.cast(), size, "data") }?;
        let analyzer = ANALYZERS.get(analyzer)?;
        let start = Instant::now();
        let photo = Photo::decode(bytes)?;
        analyzer.analyze(Source::Photo(photo, None, start.elapsed().as_micros() as u64), false)
    };
    // SAFETY: as above.
    unsafe { give(result, work) }
}

/// Makes a tracker.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_tracker_new(analyzer: *mut c_void, max_faces: u32, tracker: *mut *mut c_void) -> u32 {
    guarded(|| {
        // SAFETY: the caller vouches for the pointer.
        unsafe { border::write(tracker, ptr::null_mut(), "tracker") }?;
        let made = Tracker::new(&*ANALYZERS.get(analyzer)?, max_faces)?;
        // SAFETY: as above.
        unsafe { border::write(tracker, TRACKERS.add(made), "tracker") }
    })
}

/// Processes the next frame.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_tracker_update(
    tracker: *mut c_void,
    image: *const records::Image,
    elapsed: f64,
    result: *mut *mut c_void,
) -> u32 {
    // SAFETY: the caller vouches for the pointers.
    unsafe { give(result, || with_image(image, |source| TRACKERS.get(tracker)?.update(source, elapsed))) }
}

/// Declares a cut.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_tracker_cut(tracker: *mut c_void) -> u32 {
    guarded(|| {
        TRACKERS.get(tracker)?.cut();
        Ok(())
    })
}

/// Frees a tracker.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_tracker_free(tracker: *mut c_void) {
    guarded(|| {
        TRACKERS.free(tracker);
        Ok(())
    });
}

/// Returns the number of faces.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_result_count(result: *const c_void) -> usize {
    let mut count = 0;
    guarded(|| {
        count = RESULTS.get(result)?.count();
        Ok(())
    });
    count
}

/// Fills in a face.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_result_face(result: *const c_void, index: usize, face: *mut records::Face) -> u32 {
    guarded(|| {
        let made = |size| Ok(records::Face { struct_size: size, ..RESULTS.get(result)?.face(index)? });
        // SAFETY: the caller vouches for the pointer.
        unsafe { fill(face, "face", "faceptor_face", made) }
    })
}

/// Returns the JSON.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_result_json(result: *const c_void) -> *const c_char {
    let mut text = ptr::null();
    guarded(|| {
        text = RESULTS.get(result)?.json()?;
        Ok(())
    });
    text
}

/// Paints a mask.
///
/// # Safety
/// The caller keeps to the rules of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faceptor_result_mask(result: *const c_void, index: usize, mask: *mut u8, size: usize) -> u32 {
    guarded(|| {
        let result = RESULTS.get(result)?;
        // SAFETY: the caller vouches for the pointer.
        result.mask(index, unsafe { border::slice_mut(mask, size, "mask") }?)
    })
}

/// Frees a result.
#[unsafe(no_mangle)]
pub extern "C" fn faceptor_result_free(result: *mut c_void) {
    guarded(|| {
        RESULTS.free(result);
        Ok(())
    });
}
