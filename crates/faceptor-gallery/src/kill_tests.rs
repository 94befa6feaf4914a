//! Changes that are killed at any byte, or end in a power failure: the state is the one before or the one after.

use crate::error::Result;
use crate::gallery::Gallery;
use crate::header::Network;
use crate::header::RECORDS_AT;
use crate::key::PassphraseCost;
use crate::person::{Crop, StoredTemplate};
use crate::testing::{MemoryDisk, NOW, content, details, key, network, open, open_for_writing, stored, three_people};

type Change = (&'static str, fn(&mut Gallery) -> Result<()>);

/// Moves two of the people to another network; the third is removed.
fn migrate(gallery: &mut Gallery) -> Result<()> {
    let other = Network { recognition: [8; 32], ..network() };
    let ids: Vec<_> = gallery.people().take(2).map(crate::Person::id).collect();
    let people = ids.into_iter().zip(10..).map(|(id, person)| (id, vec![with_crop(person)])).collect();
    gallery.migrate(&other, people, NOW)
}

fn with_crop(person: u32) -> StoredTemplate {
    StoredTemplate { crop: Some(Crop::new(vec![person as u8; 500])), ..stored(person, 0) }
}

const CHANGES: [Change; 9] = [
    ("enrol", |gallery| gallery.enrol(details("Mary Jackson"), vec![stored(9, 0), stored(9, 1)], NOW).map(|_| ())),
    ("extend", |gallery| gallery.enrol(details("Grace Hopper"), vec![stored(1, 7)], NOW).map(|_| ())),
    ("keep a crop", |gallery| {
        gallery.enrol(details("Mary Jackson"), vec![stored(9, 0), with_crop(9)], NOW).map(|_| ())
    }),
    ("migrate", migrate),
    ("export", |gallery| gallery.export("Ada Lovelace", NOW).map(|_| ())),
    ("remove", |gallery| gallery.remove("Grace Hopper", NOW)),
    ("rename", |gallery| gallery.rename("Grace Hopper", "Rear Admiral Hopper", NOW)),
    ("merge", |gallery| gallery.merge("Ada Lovelace", "Grace Hopper", NOW)),
    ("rotate", |gallery| gallery.rotate_key(&key(1), PassphraseCost::default(), NOW)),
];
/// Kill points of each change; more than 500 together.
const POINTS: u64 = 120;

/// Runs `then` with the file after a kill at each point, whether the change was complete, and what it was.
fn each_kill(mut then: impl FnMut(&str, &MemoryDisk, &Gallery, &Gallery)) -> u64 {
    let file = three_people();
    let before = open(&file).expect("intact");
    let mut points = 0;
    for (name, change) in CHANGES {
        let whole = MemoryDisk::new(file.clone());
        change(&mut open_for_writing(&whole).expect("intact")).expect("done");
        let after = open(&whole.main()).expect("intact");
        let steps = whole.steps_made();
        // Every step from the last record's end on, where the order of the writes matters, and points spread over the rest.
        let spread = (0..POINTS).map(|point| point * steps / POINTS);
        for kill in spread.chain(steps.saturating_sub(70)..steps) {
            let disk = MemoryDisk::killed_after(file.clone(), kill);
            let failed = change(&mut open_for_writing(&disk).expect("intact"));
            assert!(failed.is_err(), "{name} at {kill} of {steps}");
            then(name, &disk, &before, &after);
            points += 1;
        }
    }
    points
}

fn is_before_or_after(what: &str, found: &Gallery, before: &Gallery, after: &Gallery) {
    let [found, before, after] = [found, before, after].map(content);
    // New people have random numbers; the rest must be equal.
    let comparable = |(generation, people, audit): (u64, Vec<crate::Person>, usize)| {
        let people: Vec<_> = people.into_iter().map(|person| (person.details, person.templates)).collect();
        (generation, people, audit)
    };
    let [found, before, after] = [found, before, after].map(comparable);
    assert!(found == before || found == after, "{what}: generation {}", found.0);
}

#[test]
fn killed_at_any_byte_the_state_is_before_or_after() {
    let points = each_kill(|name, disk, before, after| {
        let found = open(&disk.main()).unwrap_or_else(|error| panic!("{name}: {error}"));
        is_before_or_after(name, &found, before, after);
        // The next writer goes on, and leaves no blemish.
        let next = MemoryDisk::new(disk.main());
        let mut gallery = open_for_writing(&next).expect("opens");
        gallery.enrol(details("Dorothy Vaughan"), vec![stored(5, 0)], NOW).expect("goes on");
        let reopened = open(&next.main()).expect("opens");
        assert_eq!(reopened.notices(), [], "{name}");
        assert_eq!(content(&reopened), content(&gallery), "{name}");
    });
    assert!(points > 500, "{points}");
}

#[test]
fn a_power_failure_leaves_the_state_before_or_after() {
    each_kill(|name, disk, before, after| {
        let found = open(&disk.after_power_failure()).unwrap_or_else(|error| panic!("{name}: {error}"));
        is_before_or_after(name, &found, before, after);
    });
}

#[test]
fn a_writer_whose_write_failed_goes_on_when_there_is_room_again() {
    let file = three_people();
    // Within the records, and within the mark after them.
    for kill in [0, 100, 1500, 1700] {
        let disk = MemoryDisk::killed_after(file.clone(), kill);
        let mut gallery = open_for_writing(&disk).expect("intact");
        let enrol = |gallery: &mut Gallery, name| gallery.enrol(details(name), vec![stored(9, 0)], NOW);
        let failed = enrol(&mut gallery, "Mary Jackson").is_err();
        disk.allow_more();
        let new = enrol(&mut gallery, "Mary Jackson").expect("there is room");
        let reopened = open(&disk.main()).expect("opens");
        assert_eq!(content(&reopened), content(&gallery));
        assert_eq!(
            reopened.people().filter(|person| person.name() == "Mary Jackson").count(),
            1,
            "{kill} {failed} {new}"
        );
        assert!(disk.main().len() > RECORDS_AT);
    }
}
