//! The profile as text.

use std::fmt::{self, Write};

use crate::lab::profile::{Profile, Share};

/// Longest name of a step that a line has room for.
const NAME: usize = 34;

impl Profile {
    /// Formats a line for each step, by parts.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut text);
        text
    }

    /// Describes the network and the machine, in two lines.
    pub(crate) fn heading(&self) -> [String; 2] {
        let model = &self.model;
        let git = self.build.git.map(|git| format!(", commit {git}")).unwrap_or_default();
        let tasks = if self.tasks.is_empty() { "no tasks".to_owned() } else { self.tasks.join(", ") };
        let threads = if self.threads == 1 { "one thread".to_owned() } else { format!("{} threads", self.threads) };
        [
            format!(
                "{} {} on {} frames of {}: {tasks}; faceptor {}{git}",
                model.name, model.version, self.frames, self.source, self.build.version
            ),
            format!(
                "{}; {} kernel, {threads}, int8 peak of one core {:.0} GMAC/s",
                self.machine.describe(),
                self.kernel,
                self.int8_peak_gmacs
            ),
        ]
    }

    fn write(&self, f: &mut String) -> fmt::Result {
        for line in self.heading() {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "\n{:<NAME$}  {:<17}{:<28}{:>9}{:>10}{:>8}{:>9}",
            "step", "op", "shape", "MMAC", "us", "share", "of peak"
        )?;
        for part in &self.parts {
            writeln!(f, "{:<NAME$}  {:<45}{}", format!("[{}]", part.name), "", Figures(&part.share))?;
            for step in &part.steps {
                let shape = format!("{} > {}", shape(&step.input), shape(&step.output));
                writeln!(
                    f,
                    "  {:<32}  {:<17}{shape:<28}{}",
                    short(&step.name, NAME - 2),
                    step.op,
                    Figures(&step.share)
                )?;
            }
        }
        writeln!(f, "{:<NAME$}  {:<45}{}", "all", "", Figures(&self.whole))?;
        if let Some(percent) = self.encoder.percent_of_peak {
            let Share { macs, time_us, .. } = self.encoder;
            writeln!(
                f,
                "\nthe encoder alone: {:.2} ms, {:.0} MMAC, {percent:.1} % of the int8 peak",
                time_us / 1000.0,
                macs as f64 / 1e6
            )?;
        }
        match &self.invalid_because {
            Some(reason) => writeln!(f, "DISTURBED: {reason}"),
            None => Ok(()),
        }
    }
}

/// Multiply-accumulates, time, share, percent of the peak.
struct Figures<'a>(&'a Share);

impl fmt::Display for Figures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Share { macs, time_us, percent, percent_of_peak } = self.0;
        let mmac = if *macs == 0 { "-".to_owned() } else { format!("{:.3}", *macs as f64 / 1e6) };
        let of_peak = percent_of_peak.map_or("-".to_owned(), |p| format!("{p:.1} %"));
        write!(f, "{mmac:>9}{time_us:>10.1}{percent:>6.1} %{of_peak:>9}")
    }
}

/// Formats a shape without the batch: `12x12x128`.
pub(crate) fn shape(shape: &[usize]) -> String {
    let shape = shape.strip_prefix(&[1]).filter(|rest| !rest.is_empty()).unwrap_or(shape);
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Returns the end of a long name, which says more than its beginning.
pub(crate) fn short(name: &str, limit: usize) -> String {
    let count = name.chars().count();
    if count <= limit {
        return name.to_owned();
    }
    let rest: String = name.chars().skip(count + 1 - limit).collect();
    format!("\u{2026}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_names_are_short() {
        assert_eq!((shape(&[1, 12, 12, 128]), shape(&[1]), shape(&[])), ("12x12x128".into(), "1".into(), "".into()));
        assert_eq!(short("/encoder/blocks.3/mlp/fc1", 8), "\u{2026}mlp/fc1");
        assert_eq!(short("fc1", 8), "fc1");
    }
}
