//! Makes a gallery without photos, and prints what its exact search finds: `make test-qdrant` compares a vector store with that.
//!
//! `exact_answers FOLDER PEOPLE TEMPLATES QUERIES BEST` writes `FOLDER/gallery` and `FOLDER/key`, and prints a JSON object for each
//! query: its embedding, its template, and the best templates with person, place and similarity.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use faceptor_gallery::{Aggregation, KeySource, Template};
use synthetic::{DIMENSION, Numbers};

#[path = "../benches/synthetic/mod.rs"]
mod synthetic;

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
    let mut gallery = synthetic::gallery(&folder.join("gallery"), &key)?;

    let mut random = Numbers(1);
    let mut centres = Vec::new();
    for person in 0..people {
        let centre = random.near(&[0.0; DIMENSION], 1.0);
        let stored = (0..templates).map(|_| Template::of(&random.near(&centre, 0.7), DIMENSION));
        synthetic::enrol(&mut gallery, person, stored.collect::<Result<_, _>>()?)?;
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
