//! Files that were changed: each change is noticed and named, and a file without its key shows nothing.

use crate::error::GalleryError;
use crate::header::{Header, ID, MARK, Mark, RECORDS_AT, mark_at};
use crate::key::{Derivation, KeySource, PassphraseCost};
use crate::log::Notice;
use crate::record::{self, Content, Link};
use crate::store::Store;
use crate::testing::{
    MemoryDisk, NOW, PLATFORM, content, details, embedding, key, network, open, open_for_writing, stored, three_people,
};
use crate::{Decision, Gallery, Network, Unknown};

/// Returns where each record begins, and the end of the last.
fn record_places(file: &[u8]) -> Vec<usize> {
    let mut places = vec![RECORDS_AT];
    while let Some(length) = file[places[places.len() - 1]..].first_chunk() {
        places.push(places[places.len() - 1] + 12 + u32::from_le_bytes(*length) as usize);
    }
    places
}

fn reason(file: &[u8]) -> String {
    match open(file) {
        Ok(gallery) => panic!("it opened, with {:?}", gallery.notices()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let file = three_people();
    let intact = content(&open(&file).expect("intact"));
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1 << (at % 8);
        match open(&changed) {
            // One of the two marks: the other one and the records say the same.
            Ok(gallery) => {
                assert!((mark_at(0)..RECORDS_AT).contains(&at), "byte {at}");
                assert_eq!(gallery.notices(), [Notice::DamagedMark], "byte {at}");
                assert_eq!(content(&gallery), intact);
            }
            Err(GalleryError::NotAGallery) => assert!(at < 8, "byte {at}"),
            Err(GalleryError::Newer { .. }) => assert!((8..12).contains(&at), "byte {at}"),
            Err(GalleryError::DamagedHeader(_)) => assert!(at < mark_at(0), "byte {at}"),
            // The seal of the key, whose bytes nothing else covers.
            Err(GalleryError::WrongKey) => assert!((216..256).contains(&at), "byte {at}"),
            Err(GalleryError::DamagedRecord { .. } | GalleryError::OutOfOrder { .. }) => {
                assert!(at >= RECORDS_AT, "byte {at}");
            }
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let file = three_people();
    for end in 0..file.len() {
        let found = reason(&file[..end]);
        let expected = if end == 0 { "not a Faceptor gallery" } else { "truncated" };
        assert!(found.contains(expected), "{end}: {found}");
    }
}

#[test]
fn swapped_repeated_and_missing_records_are_named() {
    let file = three_people();
    let places = record_places(&file);
    let records: Vec<&[u8]> = places.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect();
    let joined = |records: &[&[u8]]| [&file[..RECORDS_AT], &records.concat()].concat();
    let mut swaps = 0;
    for a in 0..records.len() {
        for b in a + 1..records.len() {
            let mut swapped = records.clone();
            swapped.swap(a, b);
            let found = reason(&joined(&swapped));
            assert!(found.contains(&format!("record {b} of the gallery lies where record {a} belongs")), "{found}");
            swaps += 1;
        }
        // Repeated at the end it follows the last write: see below.
        if a + 1 < records.len() {
            let mut repeated = records.clone();
            repeated.insert(a, records[a]);
            let found = reason(&joined(&repeated));
            let expected = format!("record {a} of the gallery lies where record {} belongs", a + 1);
            assert!(found.contains(&expected), "{found}");
        }
        let mut missing = records.clone();
        missing.remove(a);
        let found = reason(&joined(&missing));
        assert!(found.contains("truncated"), "{found}");
        // Filled up, the place of the missing one is named.
        let mut filled = joined(&missing);
        filled.resize(file.len(), 0);
        let found = reason(&filled);
        assert!(found.contains(&format!("record {}", (a + 1) % records.len())) || found.contains("damaged"), "{found}");
    }
    assert!(swaps > 50);
}

#[test]
fn what_follows_the_last_write_is_ignored_and_reported() {
    let file = three_people();
    let places = record_places(&file);
    let last = &file[places[places.len() - 2]..];
    let once_more = &file[places[0]..places[1]];
    for more in [&b"x"[..], last, once_more, &[0; 5000]] {
        let gallery = open(&[&file, more].concat()).expect("the state is intact");
        assert_eq!(gallery.notices(), [Notice::Unfinished { bytes: more.len() as u64 }]);
        assert_eq!(content(&gallery), content(&open(&file).expect("intact")));
    }
}

#[test]
fn records_of_an_earlier_file_do_not_fit_into_a_later_one() {
    let earlier = three_people();
    let disk = MemoryDisk::new(earlier.clone());
    open_for_writing(&disk).expect("intact").remove("Grace Hopper", NOW).expect("removed");
    let later = disk.main();
    let (from, to) = (record_places(&earlier), record_places(&later));
    // The record of the same number and length.
    for number in 0..from.len().min(to.len()) - 1 {
        if from[number + 1] - from[number] == to[number + 1] - to[number] {
            let record = &earlier[from[number]..from[number + 1]];
            let mixed = [&later[..to[number]], record, &later[to[number + 1]..]].concat();
            assert!(reason(&mixed).contains("record"), "record {number}");
        }
    }
    // The marks of the earlier file.
    let mixed = [&later[..mark_at(0)], &earlier[mark_at(0)..mark_at(0) + 2 * MARK], &later[RECORDS_AT..]].concat();
    assert!(reason(&mixed).contains("both marks"));
}

/// Returns a gallery whose header claims the largest number of changes.
fn changed_most_often() -> Vec<u8> {
    let own = key(1).key(&Derivation::File).expect("a file's");
    let network = network();
    let header = Header { gallery_id: [1; ID], file_id: [2; ID], derivation: Derivation::File, network, generation: 0 };
    let (mut file, hash) = header.encode(&own, &PLATFORM).expect("encoded");
    file.resize(RECORDS_AT, 0);
    let commit = Content::Commit { generation: u64::MAX };
    let first = Link::first(header.file_id, &hash);
    let link = record::write(&mut file, &own, &PLATFORM, first, &commit).expect("written");
    let mark = Mark { generation: u64::MAX, length: file.len() as u64 };
    // The record of a write whose mark was not reached.
    record::write(&mut file, &own, &PLATFORM, link, &Content::Commit { generation: 0 }).expect("written");
    for place in [0, 1] {
        let bytes = header.encode_mark(&own, &PLATFORM, place, mark).expect("encoded");
        file[mark_at(place)..mark_at(place) + MARK].copy_from_slice(&bytes);
    }
    file
}

#[test]
fn a_file_of_the_last_generation_is_read_and_no_longer_changed() {
    let file = changed_most_often();
    let disk = MemoryDisk::new(file.clone());
    let mut gallery = open_for_writing(&disk).expect("intact");
    assert_eq!(gallery.generation(), u64::MAX);
    let refused = gallery.enrol(details("Mary Jackson"), vec![stored(9, 0)], NOW).expect_err("refused").to_string();
    assert!(refused.contains("as often as it can be"), "{refused}");
    let refused = gallery.rotate_key(&key(3), PassphraseCost::default(), NOW).expect_err("refused").to_string();
    assert!(refused.contains("as often as it can be"), "{refused}");
    assert_eq!(disk.main(), file, "the file stays as it is");
}

#[test]
fn an_older_file_is_noticed_by_its_generation() {
    let older = three_people();
    let disk = MemoryDisk::new(older.clone());
    let mut gallery = open_for_writing(&disk).expect("intact");
    let seen = gallery.generation();
    gallery.enrol(details("Mary Jackson"), vec![stored(9, 0)], NOW).expect("enrolled");
    assert!(gallery.generation() > seen && gallery.check_generation(seen).is_ok());
    let found = open(&older).expect("intact").check_generation(gallery.generation()).expect_err("older").to_string();
    assert!(found.contains("older file was put in its place"), "{found}");
}

#[test]
fn wrong_keys_and_other_networks_are_named() {
    let file = three_people();
    let open_with = |source: &KeySource| {
        let store = Store::open_on(Box::new(MemoryDisk::new(file.clone())), source, PLATFORM);
        store.err().map(|error| error.to_string())
    };
    assert_eq!(open_with(&key(1)), None);
    assert!(open_with(&key(2)).expect("refused").starts_with("wrong key"));
    let passphrase = KeySource::from_passphrase("a long sentence").expect("long enough");
    assert!(open_with(&passphrase).expect("refused").contains("opened with a key file, not with a passphrase"));
    let gallery = open(&file).expect("intact");
    let other = Network { name: "other 2".into(), recognition: [8; 32], ..gallery.network().clone() };
    let found = gallery.check_network(&other).expect_err("another").to_string();
    assert!(["test 1", "070707070707", "other 2", "080808080808"].iter().all(|word| found.contains(word)), "{found}");
    assert!(gallery.check_network(&Network { name: "renamed".into(), ..gallery.network().clone() }).is_ok());
}

#[test]
fn a_file_without_its_key_shows_nothing_of_anyone() {
    let disk = MemoryDisk::new(three_people());
    let mut gallery = open_for_writing(&disk).expect("intact");
    for person in 10..60 {
        let templates = (0..4).map(|photo| stored(person, photo)).collect();
        gallery.enrol(details(&format!("Person {person}")), templates, NOW).expect("enrolled");
    }
    let file = disk.main();
    let holds = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    for person in gallery.people() {
        assert!(!holds(person.name().as_bytes()) && !holds(person.id().bytes()));
        for stored in person.templates() {
            let numbers: Vec<u8> = stored.template.numbers().iter().map(|number| *number as u8).collect();
            assert!(numbers.windows(6).step_by(5).all(|part| !holds(part)));
        }
    }
    assert!(!holds(b"the test") && !holds(b"to see"));
    // All byte values are about equally frequent in the sealed parts.
    let mut counts = [0f64; 256];
    let places = record_places(&file);
    let sealed = places.windows(2).flat_map(|pair| &file[pair[0] + 12..pair[1]]);
    let total = sealed.map(|byte| counts[usize::from(*byte)] += 1.0).count() as f64;
    let entropy: f64 = counts.iter().filter(|n| **n > 0.0).map(|n| -(n / total) * (n / total).log2()).sum();
    assert!(total > 50_000.0 && entropy > 7.99, "{entropy} bits a byte of {total}");
}

#[test]
fn a_removed_person_leaves_nothing_and_a_former_key_opens_nothing() {
    let disk = MemoryDisk::new(three_people());
    let mut gallery = open_for_writing(&disk).expect("intact");
    let decide = |gallery: &Gallery, person| {
        let query = embedding(person, 0);
        let found = gallery.identify(&query, &Decision::at(0.9), NOW).expect("fits");
        (found.person.map(|person| person.name().to_owned()), found.unknown)
    };
    assert_eq!(decide(&gallery, 1), (Some("Grace Hopper".to_owned()), None));
    let length = disk.main().len();
    gallery.remove("Grace Hopper", NOW).expect("removed");
    assert!(disk.main().len() < length);
    assert_eq!(decide(&gallery, 1), (None, Some(Unknown::BelowThreshold)));
    let gallery = open(&disk.main()).expect("intact");
    assert_eq!(gallery.people().map(|person| person.name()).collect::<Vec<_>>(), ["Ada Lovelace", "Katherine Johnson"]);
    let mut gallery = open_for_writing(&disk).expect("intact");
    gallery.rotate_key(&key(3), PassphraseCost::default(), NOW).expect("rotated");
    assert!(matches!(open(&disk.main()), Err(GalleryError::WrongKey)));
    let store = Store::open_on(Box::new(MemoryDisk::new(disk.main())), &key(3), PLATFORM).expect("its key");
    assert_eq!(content(&Gallery::with(store)), content(&gallery));
}
