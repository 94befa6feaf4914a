//! Prints what the search of a live loop takes, as Markdown: `cargo bench -p faceptor-gallery --bench search`.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::time::{Duration, Instant};

use faceptor_gallery::{
    Decision, Details, Gallery, KeySource, Network, PassphraseCost, Platform, StoredTemplate, Template,
};
use faceptor_test_support::Folder;

const DIMENSION: usize = 128;
const PEOPLE: usize = 100;
const ROUNDS: usize = 2001;

/// Numbers of no meaning: a linear congruence.
fn template(seed: &mut u64) -> Template {
    let number = |_| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Template::of(&(0..DIMENSION).map(number).collect::<Vec<f32>>(), DIMENSION).expect("a direction")
}

fn main() {
    let platform = Platform {
        random: |bytes| File::open("/dev/urandom")?.read_exact(bytes),
        create: |path| File::options().read(true).write(true).create(true).truncate(true).open(path),
    };
    let key = KeySource::from_file_content(&std::array::from_fn::<u8, 32, _>(|index| index as u8)).expect("a key");
    let network = Network { name: "bench".into(), recognition: [7; 32], dimension: DIMENSION };
    println!("| templates | median us a face | p99 us |\n|---|---|---|");
    for templates in [1000, 10_000] {
        let (folder, mut seed) = (Folder::new(), 1);
        let path = folder.path().join("gallery");
        let mut gallery =
            Gallery::create(&path, &key, &network, PassphraseCost::default(), platform, 0).expect("a new file");
        for person in 0..PEOPLE {
            let stored =
                |_| StoredTemplate { template: template(&mut seed), added_at: 0, eyes_px: 60.0, forced: Vec::new() };
            let details = Details {
                name: format!("person {person}"),
                enrolled_at: 0,
                enrolled_by: String::new(),
                purpose: String::new(),
                expires_at: None,
            };
            gallery.enrol(details, (0..templates / PEOPLE).map(stored).collect(), 0).expect("enrolled");
        }
        let roster = gallery.roster(Decision::at(0.5), 0);
        let queries: Vec<Template> = (0..16).map(|_| template(&mut seed)).collect();
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
}
