//! The profile as a picture: an SVG with the time of parts and steps side by side, and bars for the slowest steps.

use std::fmt::{self, Write};

use crate::lab::profile::table::{shape, short};
use crate::lab::profile::{Profile, StepProfile};

const WIDTH: f64 = 1240.0;
const MARGIN: f64 = 24.0;
/// Height of a row of the flame.
const ROW: f64 = 34.0;
/// Bars below it, and the distance from one to the next.
const BARS: usize = 32;
const PITCH: f64 = 21.0;
/// Where a bar begins and what the longest takes.
const BAR_AT: f64 = 560.0;
const BAR: f64 = 400.0;
/// The column of what was made of the peak.
const PEAK_AT: f64 = 1090.0;
const PEAK: f64 = 100.0;
/// Width of a character of the flame's labels, about.
const LETTER: f64 = 6.3;

/// Kinds of steps with their colour.
const KINDS: [(&str, &str); 6] = [
    ("int8 products", "#3572b0"),
    ("f32 products", "#d9822b"),
    ("attention", "#2a9d8f"),
    ("norms, softmax", "#9b5fc0"),
    ("element by element", "#c2a83e"),
    ("moving", "#9aa3ad"),
];

fn kind(op: &str) -> usize {
    match op {
        _ if op.ends_with("int8") => 0,
        _ if op.starts_with("attention") => 2,
        _ if op.ends_with("f32") => 1,
        _ if op.contains("norm") || matches!(op, "softmax" | "reduce") => 3,
        "transpose" | "reshape" | "broadcast" | "concat" | "slice" | "pad" | "sample" => 5,
        _ => 4,
    }
}

impl Profile {
    /// Draws the profile as an SVG.
    pub fn picture(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.draw(&mut text);
        text
    }

    fn draw(&self, f: &mut String) -> fmt::Result {
        let mut steps: Vec<(&str, &StepProfile)> =
            self.parts.iter().flat_map(|part| part.steps.iter().map(|step| (part.name.as_str(), step))).collect();
        steps.sort_by(|a, b| b.1.share.time_us.total_cmp(&a.1.share.time_us));
        steps.truncate(BARS);
        let bars_at = 90.0 + 3.0 * ROW + 96.0;
        let height = bars_at + steps.len() as f64 * PITCH + MARGIN;
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             font-family=\"system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#1d2733\">"
        )?;
        writeln!(f, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>")?;
        let encoder = self.encoder.percent_of_peak.map(|p| format!("; the encoder reaches {p:.0} % of the int8 peak"));
        let title =
            format!("One face, found and read: {:.2} ms{}", self.whole.time_us / 1000.0, encoder.unwrap_or_default());
        label(f, MARGIN, 34.0, "font-size=\"19\" font-weight=\"600\"", &title)?;
        for (line, text) in self.heading().iter().enumerate() {
            label(f, MARGIN, 55.0 + 17.0 * line as f64, "fill=\"#5a6572\"", &short_end(text, 190))?;
        }
        if let Some(reason) = &self.invalid_because {
            label(f, WIDTH - MARGIN, 34.0, "fill=\"#b03a2e\" text-anchor=\"end\"", &format!("disturbed: {reason}"))?;
        }
        self.flame(f, 90.0)?;
        legend(f, 90.0 + 3.0 * ROW + 30.0)?;
        let head = "font-weight=\"600\"";
        label(f, MARGIN, bars_at - 14.0, head, &format!("The {} slowest steps", steps.len()))?;
        label(f, BAR_AT, bars_at - 14.0, head, "time, share of all")?;
        label(f, PEAK_AT, bars_at - 14.0, head, "of the int8 peak")?;
        let longest = steps.first().map_or(1.0, |(_, step)| step.share.time_us);
        for (row, (part, step)) in steps.iter().enumerate() {
            bar(f, bars_at + row as f64 * PITCH, part, step, longest)?;
        }
        writeln!(f, "</svg>")
    }

    /// Draws the whole, its parts and their steps, each as wide as its time.
    fn flame(&self, f: &mut String, top: f64) -> fmt::Result {
        let scale = (WIDTH - 2.0 * MARGIN) / self.whole.time_us.max(1e-9);
        let all = format!("all, {:.2} ms", self.whole.time_us / 1000.0);
        cell(f, [MARGIN, top, WIDTH - 2.0 * MARGIN], "#dfe5ec", "#1d2733", &all, &all)?;
        let mut left = MARGIN;
        for (index, part) in self.parts.iter().enumerate() {
            let share = &part.share;
            let wide = share.time_us * scale;
            let about = format!("{}: {:.0} us, {:.1} %", part.name, share.time_us, share.percent);
            let fill = ["#c3cedb", "#d3dce6"][index % 2];
            let name = part.name.strip_prefix("task_").unwrap_or(&part.name);
            let long = format!("{name} {:.0} %", share.percent);
            let text = if fits(&long, wide) { &long } else { name };
            cell(f, [left, top + ROW, wide], fill, "#1d2733", text, &about)?;
            for step in &part.steps {
                let wide = step.share.time_us * scale;
                let colour = KINDS[kind(step.op)].1;
                cell(f, [left, top + 2.0 * ROW, wide], colour, "#ffffff", step.op, &describe(&part.name, step))?;
                left += wide;
            }
        }
        Ok(())
    }
}

fn describe(part: &str, step: &StepProfile) -> String {
    let share = &step.share;
    let peak = share.percent_of_peak.map(|p| format!(", {p:.1} % of the peak")).unwrap_or_default();
    let (from, to) = (shape(&step.input), shape(&step.output));
    let mmac = share.macs as f64 / 1e6;
    format!(
        "{part} {}: {}, {from} to {to}, {mmac:.3} MMAC, {:.1} us, {:.1} %{peak}",
        step.name, step.op, share.time_us, share.percent
    )
}

fn legend(f: &mut String, top: f64) -> fmt::Result {
    let mut left = MARGIN;
    for (name, colour) in KINDS {
        writeln!(
            f,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>",
            top - 10.5
        )?;
        label(f, left + 18.0, top, "", name)?;
        left += 40.0 + LETTER * name.len() as f64;
    }
    Ok(())
}

/// Draws one of the slowest steps.
fn bar(f: &mut String, top: f64, part: &str, step: &StepProfile, longest: f64) -> fmt::Result {
    let base = top + 12.0;
    let share = &step.share;
    writeln!(f, "<g><title>{}</title>", escaped(&describe(part, step)))?;
    label(f, MARGIN, base, "", &short(part.strip_prefix("task_").unwrap_or(part), 16))?;
    label(f, MARGIN + 100.0, base, "fill=\"#5a6572\"", &short(&step.name, 31))?;
    let what = format!("{} {}", step.op, shape(&step.output));
    label(f, MARGIN + 330.0, base, "", &short(&what, 32))?;
    let wide = (BAR * share.time_us / longest.max(1e-9)).max(1.0);
    let colour = KINDS[kind(step.op)].1;
    writeln!(f, "<rect x=\"{BAR_AT}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"15\" rx=\"2\" fill=\"{colour}\"/>")?;
    label(f, BAR_AT + wide + 6.0, base, "", &format!("{:.1} \u{b5}s, {:.1} %", share.time_us, share.percent))?;
    if let Some(percent) = share.percent_of_peak {
        writeln!(
            f,
            "<rect x=\"{PEAK_AT}\" y=\"{:.1}\" width=\"{PEAK}\" height=\"9\" rx=\"2\" fill=\"#e9edf2\"/>",
            top + 3.0
        )?;
        let wide = PEAK * (percent / 100.0).clamp(0.0, 1.0);
        writeln!(
            f,
            "<rect x=\"{PEAK_AT}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"9\" rx=\"2\" fill=\"#5a6572\"/>",
            top + 3.0
        )?;
        label(f, PEAK_AT + PEAK + 6.0, base, "", &format!("{percent:.0} %"))?;
    }
    writeln!(f, "</g>")
}

/// Draws a rectangle of the flame with its label, if there is room, and a longer text where the mouse rests.
fn cell(f: &mut String, [left, top, wide]: [f64; 3], fill: &str, ink: &str, text: &str, about: &str) -> fmt::Result {
    writeln!(
        f,
        "<g><title>{}</title><rect x=\"{left:.2}\" y=\"{top:.1}\" width=\"{wide:.2}\" height=\"{:.1}\" fill=\"{fill}\" \
         stroke=\"#ffffff\" stroke-width=\"{}\"/>",
        escaped(about),
        ROW - 2.0,
        if wide > 3.0 { 0.8 } else { 0.2 }
    )?;
    if fits(text, wide) {
        let style = format!("text-anchor=\"middle\" fill=\"{ink}\" font-size=\"11\"");
        label(f, left + wide / 2.0, top + ROW / 2.0 + 3.0, &style, text)?;
    }
    writeln!(f, "</g>")
}

fn fits(text: &str, wide: f64) -> bool {
    text.chars().count() as f64 * LETTER + 6.0 < wide
}

fn label(f: &mut String, x: f64, y: f64, style: &str, text: &str) -> fmt::Result {
    writeln!(f, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(text))
}

fn short_end(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 1).chain(['\u{2026}']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_has_its_kind() {
        let kinds = ["convolution int8", "linear f32", "attention f32", "layer norm", "binary", "reshape"].map(kind);
        assert_eq!(kinds, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn names_cannot_break_the_picture() {
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
