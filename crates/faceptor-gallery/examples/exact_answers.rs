//! Makes a gallery without photos, and prints what its exact search finds: `make test-qdrant` compares a vector store with that.
//!
//! `exact_answers FOLDER PEOPLE TEMPLATES QUERIES BEST` writes `FOLDER/gallery` and `FOLDER/key`, and prints a JSON object for each
//! query: its embedding, its template, and the best templates with person, place and similarity.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use faceptor_gallery::{
    Aggregation, Details, Gallery, KeySource, Network, PassphraseCost, Platform, StoredTemplate, Template,
};

const DIMENSION: usize = 128;

const PLATFORM: Platform = Platform {
    random: |bytes| File::open("/dev/urandom")?.read_exact(bytes),
    create: |path| File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path),
};

/// Numbers of no meaning: a linear congruence.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Returns numbers around a centre, as the photos of a person lie around the person's mean.
    fn near(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
        centre.iter().map(|number| number + spread * self.next()).collect()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, numbers @ ..] = &arguments[..] else { return Err("FOLDER PEOPLE TEMPLATES QUERIES BEST".into()) };
    let numbers = numbers.iter().map(|text| text.parse()).collect::<Result<Vec<usize>, _>>()?;
    let [people, templates, queries, best] = numbers[..] else { return Err("four numbers are needed".into()) };
    let folder = Path::new(folder);
    let secret: String = (0..32u8).map(|byte| format!("{byte:02x}")).collect();
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(folder.join("key"))?
        .write_all(secret.as_bytes())?;
    let key = KeySource::from_file_content(secret.as_bytes())?;
    let network = Network { name: "synthetic".into(), recognition: [9; 32], dimension: DIMENSION };
    let mut gallery = Gallery::create(&folder.join("gallery"), &key, &network, PassphraseCost::default(), PLATFORM, 0)?;

    let mut random = Numbers(1);
    let mut centres = Vec::new();
    for person in 0..people {
        let centre = random.near(&[0.0; DIMENSION], 1.0);
        let stored = (0..templates).map(|_| {
            let template = Template::of(&random.near(&centre, 0.7), DIMENSION)?;
            Ok(StoredTemplate { template, added_at: 0, eyes_px: 60.0, forced: Vec::new(), crop: None })
        });
        let stored = stored.collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
        let details = Details {
            name: format!("person {person}"),
            enrolled_at: 0,
            enrolled_by: String::new(),
            purpose: String::new(),
            expires_at: None,
        };
        gallery.enrol(details, stored, 0)?;
        centres.push(centre);
    }

    let ids: Vec<String> = gallery.people().map(|person| person.id().digits()).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    for query in 0..queries {
        // Every second one is a stranger.
        let spread = if query % 2 == 0 { 0.7 } else { 3.0 };
        let embedding = random.near(&centres[query * 7919 % people], spread);
        let query = Template::of(&embedding, DIMENSION)?;
        let mut found: Vec<(f32, usize, usize)> = Vec::new();
        for (person, entry) in gallery.people().enumerate() {
            let similar = entry.templates().iter().map(|stored| stored.template.similarity(&query));
            found.extend(similar.enumerate().map(|(place, similarity)| (similarity, person, place)));
        }
        found.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        // The scores of people are those of the search that `identify` makes.
        let scores: Vec<f32> = gallery.scores(&query, Aggregation::Best, 0).map(|(_, score)| score).collect();
        let found: Vec<String> = found
            .iter()
            .take(best)
            .map(|&(similarity, person, place)| {
                format!(r#"["{}", {place}, {similarity:?}, {:?}]"#, ids[person], scores[person])
            })
            .collect();
        writeln!(
            out,
            r#"{{"embedding": {embedding:?}, "query": {:?}, "found": [{}]}}"#,
            query.numbers(),
            found.join(", ")
        )?;
    }
    out.flush()?;
    Ok(())
}
