//! JPEGs of every layout have the pixels of libjpeg, and a picture whose data ends early is noticed.

use std::fs;
use std::path::PathBuf;

use faceptor::stages::{JpegContents, JpegDecoder, Picture};
use faceptor::{Error, Photo};

const PORTRAIT: &[u8] = include_bytes!("../../../../models/demo/astronaut.jpg");

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/jpeg"))
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.jpg"))).expect("make_pictures.py wrote it")
}

/// Name, width, height and hash of each fixture; no hash where it must be refused.
fn list() -> Vec<(String, usize, usize, Option<u64>)> {
    let text = fs::read_to_string(folder().join("pixels.txt")).expect("make_pictures.py wrote it");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size = |word: &str| word.parse().expect("a number");
        (words[0].to_owned(), size(words[1]), size(words[2]), u64::from_str_radix(words[3], 16).ok())
    };
    text.lines().map(line).collect()
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn contents(bytes: &[u8]) -> Result<JpegContents, Error> {
    JpegDecoder::new(1 << 20).decode(bytes, &mut Picture::default())
}

fn refusal(bytes: &[u8]) -> String {
    match Photo::decode(bytes) {
        Ok(photo) => panic!("a part is missing, but it was read: {:?}", photo.warnings()),
        Err(reason) => reason.to_string(),
    }
}

/// Index of the first byte after the marker, from `from` on.
fn after_marker(bytes: &[u8], marker: u8, from: usize) -> Option<usize> {
    let place = bytes.get(from..)?.windows(2).position(|pair| pair == [0xff, marker])?;
    Some(from + place + 2)
}

/// Index of the entropy-coded data of the first scan.
fn data_of(bytes: &[u8]) -> usize {
    let at = after_marker(bytes, 0xda, 0).expect("a scan");
    at + usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Returns the file with another height.
fn with_height(bytes: &[u8], height: u16) -> Vec<u8> {
    let at = (0xc0..=0xc2).find_map(|marker| after_marker(bytes, marker, 0)).expect("a frame header");
    let mut changed = bytes.to_vec();
    changed[at + 3..at + 5].copy_from_slice(&height.to_be_bytes());
    changed
}

#[test]
fn fixtures_of_every_layout_have_the_pixels_of_libjpeg() {
    let list = list();
    assert!(list.len() >= 30);
    for (name, width, height, pixels) in list {
        let photo = Photo::decode(&fixture(&name));
        match (photo, pixels) {
            (Ok(photo), Some(pixels)) => {
                assert_eq!((photo.width(), photo.height()), (width, height), "{name}");
                assert_eq!(hash(photo.rgb()), pixels, "{name}: other pixels than libjpeg's");
                assert!(photo.warnings().is_empty(), "{name}: {:?}", photo.warnings());
            }
            (Err(reason), None) => assert!(reason.to_string().contains("JPEG"), "{name}: {reason}"),
            (photo, _) => panic!("{name}: {photo:?}"),
        }
    }
}

#[test]
fn data_that_ends_early_is_noticed_whatever_follows() {
    for (name, _, height, pixels) in list() {
        if pixels.is_none() {
            continue;
        }
        let file = fixture(&name);
        let keep = data_of(&file) + (file.len() - data_of(&file)) / 3;
        let zeros = vec![0; file.len() - keep];
        for (what, bytes) in [
            ("nothing", file[..keep].to_vec()),
            ("the end marker", [&file[..keep], &[0xff, 0xd9]].concat()),
            ("zeros and the end marker", [&file[..keep], &zeros, &[0xff, 0xd9]].concat()),
            ("another picture", [&file[..keep], file.as_slice()].concat()),
            ("its whole data, but the height is three times as large", with_height(&file, 3 * height as u16)),
        ] {
            let text = refusal(&bytes);
            // Zeros may hide the headers of later scans.
            let is_sequential = !name.contains("progressive");
            let says_how_much = text.starts_with("truncated JPEG") && text.contains(" % of ");
            assert!(says_how_much || !is_sequential, "{name}, {what} after a third of its data: {text}");
            assert!(text.contains(" JPEG: "), "{name}, {what} after a third of its data: {text}");
        }
    }
    let share = contents(&[&PORTRAIT[..16000], &[0xff, 0xd9]].concat()).expect("a part can be decoded").read;
    assert!((0.1..0.4).contains(&share), "{share}");
}

#[test]
fn last_row_that_is_missing_is_a_warning() {
    let cut = [&PORTRAIT[..PORTRAIT.len() - 800], &[0xff, 0xd9]].concat();
    let photo = Photo::decode(&cut).expect("more than nine tenths are there");
    let [warning] = photo.warnings() else { panic!("one warning: {:?}", photo.warnings()) };
    assert!(
        warning.starts_with("truncated JPEG: its data ends early, 9") && warning.ends_with("is there"),
        "{warning}"
    );
}

#[test]
fn missing_scans_are_noticed() {
    for (name, scans) in [("planes_420", 3), ("luma_chroma_420", 2), ("progressive_420", 10), ("progressive_fine", 14)]
    {
        let file = fixture(name);
        let mut starts = Vec::new();
        while let Some(at) = after_marker(&file, 0xda, starts.last().copied().unwrap_or(0)) {
            starts.push(at);
        }
        assert_eq!(starts.len(), scans, "{name}");
        // The tables before a scan are left, its header and data are not.
        for pair in starts.windows(2) {
            let next = (pair[0]..pair[1]).rev().find(|&at| file[at] == 0xff && matches!(file[at + 1], 0xc4 | 0xda));
            let from = pair[0] - 2;
            let without = [&file[..from], &file[next.expect("a marker")..]].concat();
            match Photo::decode(&without) {
                Ok(photo) => assert!(photo.warnings().iter().any(|text| text.contains("% of the detail")), "{name}"),
                Err(reason) => assert!(reason.to_string().contains("JPEG"), "{name}: {reason}"),
            }
        }
        let last = [&file[..starts[scans - 1] - 2], &[0xff, 0xd9]].concat();
        let is_noticed = Photo::decode(&last).map_or(true, |photo| !photo.warnings().is_empty());
        assert!(is_noticed, "{name} without its last scan");
    }
}

#[test]
fn wrong_restart_markers_are_noticed() {
    let file = fixture("usual_420_restarts");
    let whole = Photo::decode(&file).expect("a good file");
    let markers: Vec<usize> = (data_of(&file)..file.len() - 1)
        .filter(|&at| file[at] == 0xff && (0xd0..=0xd7).contains(&file[at + 1]))
        .collect();
    assert!(markers.len() >= 3);
    // One interval is cut out: the others stay in their places.
    let lost = [&file[..markers[0]], &file[markers[1]..]].concat();
    let read = contents(&lost).expect("the rest is there");
    assert!((0.5..1.0).contains(&read.read) && read.disorders == 1, "{read:?}");
    // A number is wrong, all data is there.
    let mut wrong = file.clone();
    wrong[markers[1] + 1] = 0xd7;
    let photo = Photo::decode(&wrong).expect("its data is whole");
    assert_eq!(photo.rgb(), whole.rgb());
    assert!(photo.warnings()[0].contains("restart markers"), "{:?}", photo.warnings());
    // All markers are missing, as when two fields of a header disagree.
    let without: Vec<u8> = (0..file.len())
        .filter(|at| !markers.iter().any(|marker| (*marker..*marker + 2).contains(at)))
        .map(|at| file[at])
        .collect();
    assert!(refusal(&without).starts_with("truncated JPEG"), "{}", refusal(&without));
}

#[test]
fn what_follows_a_whole_picture_does_not_matter() {
    for name in ["usual_420", "planes_420", "progressive_420"] {
        let file = fixture(name);
        let pixels = Photo::decode(&file).expect("a good file").rgb().to_vec();
        for (what, tail) in [
            ("zeros", vec![0; 500]),
            ("text", b"MotionPhoto_Data ftypmp42 and a film".to_vec()),
            ("another picture", PORTRAIT.to_vec()),
            ("half a picture", PORTRAIT[..9000].to_vec()),
        ] {
            let photo = Photo::decode(&[file.as_slice(), &tail].concat()).expect("a good file");
            assert!(photo.rgb() == pixels && photo.warnings().is_empty(), "{name} and {what}: {:?}", photo.warnings());
        }
        // A thumbnail inside is not the picture, and its end not the picture's.
        let length = (PORTRAIT.len().min(60_000) + 2) as u16;
        let thumbnail = [&[0xff, 0xe1], length.to_be_bytes().as_slice(), &PORTRAIT[..usize::from(length) - 2]].concat();
        let with = [&file[..2], &thumbnail, &file[2..]].concat();
        assert_eq!(Photo::decode(&with).expect("a good file").rgb(), pixels, "{name}");
        assert!(refusal(&with[..with.len() - file.len() / 2]).starts_with("truncated JPEG"));
        // Only the end marker is missing.
        let photo = Photo::decode(&file[..file.len() - 2]).expect("all pixels are there");
        assert!(photo.rgb() == pixels && photo.warnings()[0].contains("end marker"), "{:?}", photo.warnings());
    }
}

#[test]
fn missing_huffman_tables_are_those_of_the_standard() {
    let file = fixture("usual_422");
    let mut bare = file.clone();
    while let Some(at) = after_marker(&bare, 0xc4, 0) {
        let length = usize::from(u16::from_be_bytes([bare[at], bare[at + 1]]));
        bare.drain(at - 2..at + length);
    }
    assert!(bare.len() + 400 < file.len());
    let rgb = |bytes: &[u8]| Photo::decode(bytes).expect("a good file").rgb().to_vec();
    assert_eq!(rgb(&bare), rgb(&file));
}

#[test]
fn no_bytes_and_cut_segments_are_refused() {
    for bytes in [&[0xff, 0xd8, 0xff][..], &[0xff, 0xd8, 0xff, 0xe0, 0x00], &PORTRAIT[..20], &PORTRAIT[..300]] {
        assert!(refusal(bytes).starts_with("truncated JPEG"), "{}", refusal(bytes));
    }
}
