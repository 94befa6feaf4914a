//! Names in two spellings are one person's, also in a gallery that an earlier version has written.

use crate::audit::{AuditEntry, AuditEvent};
use crate::error::GalleryError;
use crate::gallery::Gallery;
use crate::key::PassphraseCost;
use crate::person::Person;
use crate::store::Store;
use crate::testing::{MemoryDisk, NOW, PLATFORM, details, key, network, open, open_for_writing, stored};

/// The name as Linux types it, and as a folder of macOS has it.
const TYPED: &str = "Jos\u{e9} N\u{fa}\u{f1}ez";
const FOLDER: &str = "Jose\u{301} Nu\u{301}n\u{303}ez";

/// Returns the file of a gallery of an earlier version, which stored names as they were given.
fn earlier(names: &[&str]) -> MemoryDisk {
    let disk = MemoryDisk::new(Vec::new());
    let cost = PassphraseCost { memory_kib: 8, passes: 1 };
    let store = Store::create_on(Box::new(disk.clone()), &key(1), &network(), cost, PLATFORM, NOW);
    let mut store = store.expect("an empty disk");
    for (number, name) in (0..).zip(names) {
        let id = store.new_id().expect("random bytes");
        let person = Person { id, details: details(name), templates: vec![stored(number, 0)] };
        let entry = AuditEntry { at: NOW, event: AuditEvent::Enrolled, person: Some(id), templates: 1, transfer: None };
        store.add(person, entry).expect("written");
    }
    disk
}

fn opened(disk: &MemoryDisk) -> Gallery {
    open_for_writing(disk).expect("it opens")
}

fn names(gallery: &Gallery) -> Vec<&str> {
    gallery.people().map(Person::name).collect()
}

#[test]
fn both_spellings_are_one_person() {
    for (first, second) in [(TYPED, FOLDER), (FOLDER, TYPED), ("Ada  Lovelace", "Ada\u{a0}Lovelace")] {
        let disk = earlier(&[]);
        let mut gallery = opened(&disk);
        assert!(gallery.enrol(details(first), vec![stored(0, 0)], NOW).expect("enrolled"));
        assert!(!gallery.enrol(details(second), vec![stored(0, 1)], NOW).expect("enrolled"), "no new person");
        assert_eq!(gallery.person(first).map(|person| person.templates().len()), Some(2));
        assert!(matches!(gallery.import(details(second), vec![stored(0, 2)], NOW), Err(GalleryError::NameTaken)));
        assert!(gallery.merge(first, second, NOW).is_err(), "one entry");
        gallery.rename(second, "Grace Hopper", NOW).expect("renamed");
        gallery.rename("Grace Hopper", second, NOW).expect("renamed");
        gallery.export(first, NOW).expect("exported");
        gallery.remove(second, NOW).expect("removed");
        assert_eq!(names(&gallery), [""; 0]);
    }
}

#[test]
fn people_of_an_earlier_gallery_are_found_in_either_spelling() {
    for name in [TYPED, FOLDER] {
        let disk = earlier(&["Ada Lovelace", FOLDER]);
        let mut gallery = opened(&disk);
        assert_eq!(gallery.person(name).map(Person::name), Some(FOLDER));
        assert!(!gallery.enrol(details(name), vec![stored(1, 1)], NOW).expect("enrolled"));
        assert!(gallery.rename("Ada Lovelace", name, NOW).is_err(), "the name is taken");
        // A new name in the same spelling is the one that is stored from now on.
        gallery.rename(name, name, NOW).expect("renamed");
        assert_eq!(names(&open(&disk.main()).expect("it opens")), ["Ada Lovelace", TYPED]);
        gallery.remove(name, NOW).expect("removed");
        assert_eq!(names(&gallery), ["Ada Lovelace"]);
    }
}

#[test]
fn two_entries_of_one_name_are_told_apart_and_joined() {
    for [first, second] in [[TYPED, FOLDER], [FOLDER, TYPED]] {
        let disk = earlier(&[TYPED, FOLDER]);
        let mut gallery = opened(&disk);
        assert_eq!([TYPED, FOLDER].map(|name| gallery.person(name).map(Person::name)), [Some(TYPED), Some(FOLDER)]);
        gallery.merge(first, second, NOW).expect("merged");
        assert_eq!(gallery.person(TYPED).map(|person| person.templates().len()), Some(2));
        // Typed alike, the two are joined as well.
        let mut gallery = opened(&earlier(&[TYPED, FOLDER]));
        gallery.merge(first, first, NOW).expect("merged");
        assert_eq!(gallery.people().count(), 1);
        assert!(gallery.merge(first, first, NOW).is_err(), "one entry");
        let mut gallery = opened(&earlier(&[TYPED, FOLDER]));
        gallery.remove(first, NOW).expect("removed");
        assert_eq!(names(&gallery), [second]);
    }
    // Names that are refused today are found as they are.
    let mut gallery = opened(&earlier(&["Ada\u{200b}", "Ada"]));
    gallery.rename("Ada\u{200b}", "Ada Lovelace", NOW).expect("renamed");
    assert_eq!(names(&gallery), ["Ada Lovelace", "Ada"]);
}
