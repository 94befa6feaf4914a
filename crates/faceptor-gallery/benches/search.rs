//! Measures the exact search: `cargo bench -p faceptor-gallery --bench search` prints, as Markdown, what a face in a live loop
//! takes, and what galleries of up to 10,000 people take to be written and opened. With `-- --serve FOLDER` it takes requests for `make bench-search`, which compares a million templates with others.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use faceptor_gallery::{Decision, Gallery, KeySource, Roster, Template};
use faceptor_nn::Kernel;
use faceptor_test_support::Folder;
use synthetic::{DIMENSION, Numbers, PLATFORM};

mod synthetic;

const ROUNDS: usize = 2001;
/// Queries of a comparison, each a template with noise.
const QUERIES: usize = 16;

/// Returns a template around a centre.
fn near(numbers: &mut Numbers, centre: &[f32], spread: f32) -> Template {
    Template::of(&numbers.near(centre, spread), DIMENSION).expect("a direction")
}

fn key() -> KeySource {
    KeySource::from_file_content(&std::array::from_fn::<u8, 32, _>(|index| index as u8)).expect("a key")
}

/// Enrols people in a new file, and returns them as a live loop has them, with their templates in one piece.
fn roster(people: usize, photos: usize) -> (Roster, Vec<i8>) {
    let folder = Folder::new();
    let (gallery, templates) = enrolled(&folder.path().join("gallery"), people, photos);
    (gallery.roster(Decision::at(0.5), 0), templates)
}

/// Enrols people one after the other in a new file. Returns it with their templates in one piece.
fn enrolled(path: &Path, people: usize, photos: usize) -> (Gallery, Vec<i8>) {
    let mut gallery = synthetic::gallery(path, &key()).expect("a new file");
    let (mut numbers, mut all) = (Numbers(1), Vec::new());
    for person in 0..people {
        let templates: Vec<Template> = (0..photos).map(|_| near(&mut numbers, &[0.0; DIMENSION], 1.0)).collect();
        templates.iter().for_each(|template| all.extend_from_slice(template.numbers()));
        synthetic::enrol(&mut gallery, person, templates).expect("enrolled");
    }
    (gallery, all)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--serve") {
        Some(place) => serve(Path::new(arguments.get(place + 1).expect("--serve FOLDER"))),
        None => print_table(),
    }
}

fn print_table() {
    println!("| templates | median us a face | p99 us |\n|---|---|---|");
    for templates in [1000, 10_000] {
        let (roster, _) = roster(100, templates / 100);
        let mut numbers = Numbers(2);
        let queries: Vec<Template> = (0..QUERIES).map(|_| near(&mut numbers, &[0.0; DIMENSION], 1.0)).collect();
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|round| {
                let begun = Instant::now();
                black_box(roster.rank(black_box(queries[round % queries.len()].numbers()), 0));
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        let us = |place: usize| times[place].as_secs_f64() * 1e6;
        println!("| {} | {:.0} | {:.0} |", roster.templates(), us(ROUNDS / 2), us(ROUNDS * 99 / 100));
    }
    println!("\n| people, a photo each | file MB | ms a person written | ms to open | ms to remove one |");
    println!("|---|---|---|---|---|");
    for people in [1000, 10_000] {
        let folder = Folder::new();
        let path = folder.path().join("gallery");
        let begun = Instant::now();
        drop(enrolled(&path, people, 1));
        let written = begun.elapsed().as_secs_f64() * 1e3 / people as f64;
        let bytes = std::fs::metadata(&path).expect("it was written").len();
        let (mut opened, mut removed) = (Vec::new(), Vec::new());
        for person in 0..5 {
            let begun = Instant::now();
            let mut gallery = Gallery::open_for_writing(&path, &key(), PLATFORM).expect("intact");
            opened.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            gallery.remove(&format!("person {person}"), 0).expect("enrolled");
            removed.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_unstable_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let (opened, removed) = (median(&mut opened), median(&mut removed));
        println!("| {people} | {:.1} | {written:.2} | {opened:.0} | {removed:.0} |", bytes as f64 / 1e6);
    }
}

/// Writes a million templates and the queries into a folder, and says so. Then a line with the place of a query is answered by
/// nanoseconds, the person and the similarity; `read` by the nanoseconds in which one core reads the templates.
fn serve(folder: &Path) {
    const PHOTOS: usize = 100;
    let (roster, templates) = roster(1_000_000 / PHOTOS, PHOTOS);
    let mut numbers = Numbers(3);
    let centre = |query: usize| {
        templates[query * 61_001 * DIMENSION..][..DIMENSION].iter().map(|&number| f32::from(number) / 127.0)
    };
    let queries: Vec<Template> =
        (0..QUERIES).map(|query| near(&mut numbers, &centre(query).collect::<Vec<f32>>(), 0.2)).collect();
    let bytes = |numbers: &[i8]| numbers.iter().map(|&number| number as u8).collect::<Vec<u8>>();
    std::fs::write(folder.join("templates.i8"), bytes(&templates)).expect("a folder to write to");
    let all: Vec<u8> = queries.iter().flat_map(|query| bytes(query.numbers())).collect();
    std::fs::write(folder.join("queries.i8"), all).expect("a folder to write to");
    let kernel = Kernel::choose().expect("a kernel of this CPU");
    println!("ready {} {} {PHOTOS}", kernel.name(), roster.templates());
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        if line == "read" {
            let begun = Instant::now();
            black_box(kernel.read_words(black_box(&templates)));
            println!("{}", begun.elapsed().as_nanos());
        } else {
            let query = queries[line.parse::<usize>().expect("the place of a query")].numbers();
            let begun = Instant::now();
            let ranking = black_box(roster.rank(black_box(query), 0));
            let ns = begun.elapsed().as_nanos();
            let (person, similarity) = ranking.best.expect("people");
            println!("{ns} {person} {similarity}");
        }
        std::io::stdout().flush().expect("standard output");
    }
}
