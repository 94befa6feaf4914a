//! Times the library on raw frames, one for each line of standard input: the other side of `make bench-python`.
//!
//! Arguments: FILE WIDTH HEIGHT LOOKS TASKS; FILE holds one frame in RGB. It prints, for each analysis, its
//! microseconds, those on a CPU, and the number of faces.

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
        let (start, busy) = (Instant::now(), cpu_us()?);
        let analysis = analyzer.analyze(ImageView::rgb(&pixels, width, height)?)?;
        println!("{} {} {}", start.elapsed().as_micros(), cpu_us()? - busy, analysis.faces.len());
    }
    Ok(())
}

/// Returns the time that this thread has spent on a CPU, microseconds.
fn cpu_us() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1000)
}
