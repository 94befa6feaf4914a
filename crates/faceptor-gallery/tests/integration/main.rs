//! A gallery as a file: its writer and its readers, and paths that lead to no gallery.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use faceptor_gallery::{
    Aggregation, AuditEvent, Decision, Details, Gallery, GalleryError, KeySource, Network, PassphraseCost, Platform,
    StoredTemplate, Template, Transfer, Unknown,
};
use faceptor_test_support::Folder;

const PLATFORM: Platform = Platform {
    random: |bytes| File::open("/dev/urandom")?.read_exact(bytes),
    create: |path| File::options().read(true).write(true).create(true).truncate(true).open(path),
};
const NOW: u64 = 1_780_000_000;
const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 8, passes: 1 };

fn key() -> KeySource {
    KeySource::from_file_content(&std::array::from_fn::<u8, 32, _>(|index| index as u8)).expect("a key")
}

fn network() -> Network {
    Network { name: "test 1".into(), recognition: [7; 32], dimension: 3 }
}

fn details(name: &str) -> Details {
    Details {
        name: name.into(),
        enrolled_at: NOW,
        enrolled_by: "root".into(),
        purpose: "door".into(),
        expires_at: None,
    }
}

fn stored(embedding: [f32; 3]) -> StoredTemplate {
    let template = Template::of(&embedding, 3).expect("a direction");
    StoredTemplate { template, added_at: NOW, eyes_px: 60.0, forced: Vec::new(), crop: None }
}

fn create(path: &Path) -> Gallery {
    Gallery::create(path, &key(), &network(), CHEAP, PLATFORM, NOW).expect("a new file")
}

fn refusal(path: &Path) -> String {
    match Gallery::open(path, &key(), PLATFORM) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn people_are_named_or_unknown_with_a_reason() {
    let folder = Folder::new();
    let mut gallery = create(&folder.path().join("g"));
    let rule = Decision::at(0.8);
    let found = gallery.identify(&[1.0, 0.0, 0.0], &rule, NOW).expect("fits");
    assert_eq!((found.person, found.unknown, found.similarity), (None, Some(Unknown::EmptyGallery), None));
    assert!(gallery.enrol(details("Ada"), vec![stored([1.0, 0.0, 0.0])], NOW).expect("enrolled"));
    assert!(gallery.enrol(details("Grace"), vec![stored([0.0, 1.0, 0.0])], NOW).expect("enrolled"));
    // A second enrolment under the name adds a template to the person.
    assert!(!gallery.enrol(details(" Ada "), vec![stored([0.8, 0.0, 0.6])], NOW).expect("enrolled"));
    assert_eq!((gallery.people().count(), gallery.person("Ada").map(|ada| ada.templates().len())), (2, Some(2)));
    let decide = |embedding, rule: &Decision, now| {
        let found = gallery.identify(embedding, rule, now).expect("fits");
        (found.person.map(|person| person.name().to_owned()), found.unknown)
    };
    assert_eq!(decide(&[0.8, 0.0, 0.6], &rule, NOW), (Some("Ada".into()), None));
    assert_eq!(decide(&[0.0, 0.0, 1.0], &rule, NOW), (None, Some(Unknown::BelowThreshold)));
    assert_eq!(decide(&[0.7, 0.7, 0.0], &Decision::at(0.5), NOW), (None, Some(Unknown::Ambiguous)));
    // The mean of two templates is less than the best of them.
    let mean = Decision { aggregation: Aggregation::MeanOfBest(2), ..Decision::at(0.95) };
    assert_eq!(decide(&[1.0, 0.0, 0.0], &mean, NOW), (None, Some(Unknown::BelowThreshold)));
    assert!(gallery.identify(&[1.0; 4], &rule, NOW).is_err());
    assert!(gallery.identify(&[0.0; 3], &rule, NOW).is_err());
}

#[test]
fn people_whose_time_is_over_are_not_matched_and_are_removed() {
    let folder = Folder::new();
    let mut gallery = create(&folder.path().join("g"));
    let until = Details { expires_at: Some(NOW + 10), ..details("Ada") };
    gallery.enrol(until, vec![stored([1.0, 0.0, 0.0])], NOW).expect("enrolled");
    let name = |gallery: &Gallery, now| {
        let found = gallery.identify(&[1.0, 0.0, 0.0], &Decision::at(0.8), now).expect("fits");
        found.person.map(|person| person.name().to_owned())
    };
    assert_eq!(name(&gallery, NOW + 9).as_deref(), Some("Ada"));
    assert_eq!((name(&gallery, NOW + 10), gallery.size(NOW + 10)), (None, 0));
    assert_eq!(gallery.remove_expired(NOW + 9).expect("written"), 0);
    assert_eq!(gallery.remove_expired(NOW + 10).expect("written"), 1);
    assert_eq!(gallery.people().count(), 0);
    let events: Vec<AuditEvent> = gallery.audit().iter().map(|entry| entry.event).collect();
    assert_eq!(events, [AuditEvent::Created, AuditEvent::Enrolled, AuditEvent::Expired]);
}

#[test]
fn copies_elsewhere_are_entered_and_stay_entered() {
    let folder = Folder::new();
    let path = folder.path().join("g");
    let mut gallery = create(&path);
    gallery.enrol(details("Ada"), vec![stored([1.0, 0.0, 0.0])], NOW).expect("enrolled");
    let to = |place: &str| Transfer { by: "root".into(), place: place.into() };
    gallery.note_transfer(AuditEvent::Pushed, 1, to("qdrant://a:1/b"), NOW + 1).expect("written");
    gallery.remove("Ada", NOW + 2).expect("the file is written anew");
    gallery.note_transfer(AuditEvent::Withdrawn, usize::MAX, to("qdrant://a:1/b"), NOW + 3).expect("written");
    for bad in ["two\nlines", "\u{1b}[31m", &"x".repeat(501)] {
        let refused = gallery.note_transfer(AuditEvent::Pushed, 1, to(bad), NOW);
        assert!(refused.is_err_and(|error| error.to_string().contains("place of the copies")), "{bad:?}");
    }
    drop(gallery);
    let gallery = Gallery::open(&path, &key(), PLATFORM).expect("intact");
    let found: Vec<_> = gallery.audit().iter().map(|entry| (entry.event, entry.at, entry.templates)).collect();
    let pushed = (AuditEvent::Pushed, NOW + 1, 1);
    assert!(found.contains(&pushed) && found.contains(&(AuditEvent::Withdrawn, NOW + 3, u32::MAX)), "{found:?}");
    let transfers: Vec<_> = gallery.audit().iter().filter_map(|entry| entry.transfer.clone()).collect();
    assert_eq!(transfers, [to("qdrant://a:1/b"), to("qdrant://a:1/b")]);
    // The place is encrypted like everything else.
    let bytes = std::fs::read(&path).expect("a file");
    assert!(!bytes.windows(6).any(|part| part == b"qdrant"));
}

#[test]
fn a_second_writer_is_refused_and_readers_see_whole_states() {
    let folder = Folder::new();
    let path = folder.path().join("g");
    let mut writer = create(&path);
    let second = Gallery::open_for_writing(&path, &key(), PLATFORM);
    assert!(matches!(second, Err(GalleryError::Busy)));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut generation = 0;
                    // Each person has two templates from the first moment on; the last one ends the readers.
                    loop {
                        let gallery = Gallery::open(&path, &key(), PLATFORM).expect("a whole state");
                        assert!(gallery.generation() >= generation, "time runs backwards");
                        assert!(gallery.people().all(|person| person.templates().len() == 2));
                        assert_eq!(gallery.notices(), []);
                        generation = gallery.generation();
                        if gallery.person("the last").is_some() {
                            return generation;
                        }
                    }
                })
            })
            .collect();
        let pair = || vec![stored([1.0, 0.0, 0.0]), stored([0.0, 1.0, 0.0])];
        for number in 0..60 {
            writer.enrol(details(&format!("number {number}")), pair(), NOW).expect("enrolled");
            if number % 3 == 0 {
                writer.remove(&format!("number {number}"), NOW).expect("removed");
            }
        }
        writer.enrol(details("the last"), pair(), NOW).expect("enrolled");
        for reader in readers {
            assert_eq!(reader.join().expect("no reader fails"), writer.generation());
        }
    });
    let mut reader = Gallery::open(&path, &key(), PLATFORM).expect("opens");
    assert!(matches!(reader.remove("the last", NOW), Err(GalleryError::ReadOnly)));
    drop(writer);
    assert!(Gallery::open_for_writing(&path, &key(), PLATFORM).is_ok());
}

#[test]
fn paths_that_lead_to_no_gallery_are_named() {
    let folder = Folder::new();
    assert!(refusal(folder.path()).contains("folder"));
    assert!(refusal(Path::new("/dev/zero")).contains("device"));
    assert!(refusal(&folder.path().join("none")).contains("cannot read the gallery"));
    let photo = folder.write("photo.jpg", b"\xff\xd8\xff\xe0");
    assert!(refusal(Path::new(&photo)).contains("not a Faceptor gallery"));
    // A writer leaves nothing beside such a file.
    for path in [folder.path(), Path::new(&photo), &folder.path().join("none")] {
        assert!(Gallery::open_for_writing(path, &key(), PLATFORM).is_err());
    }
    let made = Gallery::create(Path::new(&photo), &key(), &network(), CHEAP, PLATFORM, NOW);
    assert!(made.err().is_some_and(|error| error.to_string().contains("cannot make the gallery")));
    assert_eq!(fs::read(&photo).expect("it is still there"), b"\xff\xd8\xff\xe0");
    let nowhere = Gallery::create(Path::new("/proc/none/g"), &key(), &network(), CHEAP, PLATFORM, NOW);
    assert!(nowhere.err().is_some_and(|error| error.to_string().contains("cannot write beside the gallery")));
}

#[test]
fn a_link_stays_a_link_and_permissions_stay_as_they_are() {
    let folder = Folder::new();
    let (path, link) = (folder.path().join("g"), folder.path().join("link"));
    create(&path).enrol(details("Ada"), vec![stored([1.0, 0.0, 0.0])], NOW).expect("enrolled");
    std::os::unix::fs::symlink(&path, &link).expect("links can be made");
    let before = fs::metadata(&path).expect("there").permissions();
    let mut gallery = Gallery::open_for_writing(&link, &key(), PLATFORM).expect("opens");
    gallery.rename("Ada", "Ada Lovelace", NOW).expect("renamed");
    assert!(link.symlink_metadata().expect("there").is_symlink());
    assert_eq!(fs::metadata(&path).expect("there").permissions(), before);
    assert_eq!(folder.names(""), ["g", "g.lock", "link"]);
    let names: Vec<String> = gallery.people().map(|person| person.name().to_owned()).collect();
    assert_eq!(names, ["Ada Lovelace"]);
}

#[test]
fn people_are_renamed_merged_exported_and_imported() {
    let folder = Folder::new();
    let mut gallery = create(&folder.path().join("g"));
    for (name, embedding) in [("Ada", [1.0, 0.0, 0.0]), ("A. Lovelace", [0.9, 0.1, 0.0]), ("Grace", [0.0, 1.0, 0.0])] {
        gallery.enrol(details(name), vec![stored(embedding)], NOW).expect("enrolled");
    }
    assert!(matches!(gallery.rename("Ada", "Grace", NOW), Err(GalleryError::NameTaken)));
    assert!(matches!(gallery.rename("Absent", "Grace", NOW), Err(GalleryError::NoSuchPerson)));
    assert!(matches!(gallery.rename("Ada", "two\nlines", NOW), Err(GalleryError::Name(_))));
    assert!(gallery.merge("Ada", "Ada", NOW).is_err());
    gallery.merge("Ada", "A. Lovelace", NOW).expect("merged");
    assert_eq!((gallery.people().count(), gallery.person("Ada").map(|ada| ada.templates().len())), (2, Some(2)));
    let (ada, entries) = gallery.export("Ada", NOW + 1).expect("exported");
    let (details, templates) = (ada.details().clone(), ada.templates().to_vec());
    let events: Vec<AuditEvent> = entries.iter().map(|entry| entry.event).collect();
    assert_eq!(events, [AuditEvent::Enrolled, AuditEvent::Merged, AuditEvent::Exported]);
    assert!(matches!(gallery.import(details.clone(), templates.clone(), NOW), Err(GalleryError::NameTaken)));
    let mut other = create(&folder.path().join("other"));
    other.import(details.clone(), templates.clone(), NOW).expect("imported");
    let there = other.person("Ada").expect("imported");
    assert_eq!((there.details(), there.templates()), (&details, &templates[..]));
    let other_name = Details { name: "Grace".into(), ..details };
    assert!(other.import(other_name.clone(), Vec::new(), NOW).is_err());
    // Reasons from outside must not forge lines of a list.
    for reason in ["two\nlines".to_owned(), "x".repeat(101)] {
        let forged = StoredTemplate { forced: vec![reason], ..stored([1.0, 0.0, 0.0]) };
        assert!(matches!(other.import(other_name.clone(), vec![forged], NOW), Err(GalleryError::Refused(_))));
    }
    other.import(other_name, vec![stored([1.0, 0.0, 0.0])], NOW).expect("imported");
}

#[test]
fn a_passphrase_opens_what_it_made() {
    let folder = Folder::new();
    let path = folder.path().join("g");
    let passphrase = KeySource::from_passphrase("correct horse battery").expect("long enough");
    drop(Gallery::create(&path, &passphrase, &network(), CHEAP, PLATFORM, NOW).expect("made"));
    assert!(Gallery::needs_passphrase(&path, PLATFORM).expect("a gallery"));
    let mut gallery = Gallery::open_for_writing(&path, &passphrase, PLATFORM).expect("opens");
    let other = KeySource::from_passphrase("wrong horse battery").expect("long enough");
    assert!(matches!(Gallery::open(&path, &other, PLATFORM), Err(GalleryError::WrongKey)));
    assert!(refusal(&path).contains("opened with a passphrase, not with a key file"));
    gallery.rotate_key(&key(), CHEAP, NOW).expect("rotated");
    assert!(Gallery::open(&path, &key(), PLATFORM).is_ok());
    assert!(!Gallery::needs_passphrase(&path, PLATFORM).expect("a gallery"));
}
