//! Times the library on raw frames, one for each line of standard input: the other side of `make bench-python`.
//!
//! Arguments: FILE WIDTH HEIGHT LOOKS TASKS; FILE holds one frame in RGB. It prints the microseconds of each analysis.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use faceptor::{Analyzer, Augmentation, ImageView};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, width, height, looks, tasks] = arguments.as_slice() else {
        bail!("arguments: FILE WIDTH HEIGHT LOOKS TASKS");
    };
    let pixels = std::fs::read(file).with_context(|| file.clone())?;
    let augmentation = match looks.as_str() {
        "1" => Augmentation::Off,
        "10" => Augmentation::Ten,
        other => bail!("LOOKS is 1 or 10, not {other}"),
    };
    let (width, height) = (width.parse()?, height.parse()?);
    let mut analyzer = Analyzer::embedded()?.tasks(tasks.split(','))?.augmentation(augmentation);
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let analysis = analyzer.analyze(ImageView::rgb(&pixels, width, height)?)?;
        println!("{} {}", start.elapsed().as_micros(), analysis.faces.len());
    }
    Ok(())
}
