//! Results as plain text.

use std::fmt::Write as _;

use crate::outputs::format::identity::Identity;
use crate::outputs::format::{ResultFiles, caption, terminal};
use faceptor::stages::{Analysis, Face, Parsing, PhotoSearch, Prediction, TaskDecoder};

/// Least share of a parsing class that is named.
const VISIBLE_SHARE: f32 = 0.01;

/// Formats the results of a picture: a heading with name and size, then a block for each face, and the files written.
/// `identities`: a gallery's answers by face; empty without a gallery.
pub fn describe(
    name: &str,
    [width, height]: [usize; 2],
    analysis: &Analysis,
    decoders: &[TaskDecoder],
    files: &ResultFiles,
    identities: &[Identity<'_>],
) -> String {
    let count = match analysis.faces.len() {
        0 => "no face".to_owned(),
        1 => "1 face".to_owned(),
        many => format!("{many} faces"),
    };
    let left_out = match analysis.faces_left_out {
        0 => String::new(),
        more => format!(", at least {more} more left out"),
    };
    let searched = match analysis.searched_from_px {
        Some(px) if analysis.faces.is_empty() || px > PhotoSearch::default().min_face_px => {
            format!(", searched for faces of {px:.0} pixels and more")
        }
        _ => String::new(),
    };
    let mut text = format!("{}: {width} x {height}, {count}{left_out}{searched}\n", terminal::one_line(name));
    for (index, face) in analysis.faces.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = describe_face(&mut text, face, decoders, identities.get(index));
        for mask in files.masks_of(index).iter().flatten() {
            let _ = writeln!(text, "    mask: {}", terminal::one_line(mask));
        }
    }
    if let Some(Some(annotated)) = &files.annotated {
        let _ = writeln!(text, "  annotated: {}", terminal::one_line(annotated));
    }
    text
}

/// Formats the results of a frame of a run as one line. `identities`: a gallery's answers by face; empty without a gallery.
pub fn describe_frame(
    number: u64,
    path: Option<&str>,
    analysis: &Analysis,
    decoders: &[TaskDecoder],
    identities: &[Identity<'_>],
) -> String {
    let faces = analysis.faces.iter().enumerate().map(|(index, face)| {
        let phrases = caption::phrases(face, decoders, identities.get(index));
        let [x, y, width, height] = face.detection.xywh();
        format!("face {} at {x:.0},{y:.0} {width:.0} x {height:.0}: {}", face.id, phrases.join(", "))
    });
    let faces: Vec<String> = faces.collect();
    let name = path.map(|path| format!(" {path}")).unwrap_or_default();
    let faces = if faces.is_empty() { "no face".to_owned() } else { faces.join("; ") };
    let line = format!("frame {number}{name}: {faces}");
    // Names of files, and labels of a bundle.
    terminal::one_line(&line).into_owned() + "\n"
}

fn describe_face(
    text: &mut String,
    face: &Face,
    decoders: &[TaskDecoder],
    identity: Option<&Identity<'_>>,
) -> std::fmt::Result {
    let [x, y, width, height] = face.detection.xywh();
    let score = face.detection.score;
    writeln!(text, "  face {}: score {score:.2}, box {x:.0},{y:.0} {width:.0} x {height:.0}", face.id)?;
    let warnings: Vec<String> = face.quality().warnings().map(|warning| warning.replace('_', " ")).collect();
    if !warnings.is_empty() {
        writeln!(text, "    not to be trusted: {}", warnings.join(", "))?;
    }
    let phrases = caption::phrases(face, decoders, identity);
    if !phrases.is_empty() {
        writeln!(text, "    {}", phrases.join(", "))?;
    }
    for (_, decoder, result) in face.known(decoders) {
        let task = decoder.task();
        match &result.prediction {
            Prediction::Landmarks(landmarks) => {
                writeln!(text, "    {}: {} points", task.name, landmarks.points.len())?;
            }
            Prediction::Parsing(parsing) => writeln!(text, "    {}: {}", task.name, shares(parsing, &task.labels))?,
            Prediction::Recognition(embedding) => {
                writeln!(text, "    {}: embedding of {} numbers", task.name, embedding.len())?;
            }
            Prediction::Age(_) | Prediction::Expression(_) | Prediction::Attributes(_) => {}
        }
    }
    Ok(())
}

/// Lists the classes with a visible share, the largest first: `hair 31 %, skin 28 %`.
fn shares(parsing: &Parsing, labels: &[String]) -> String {
    let mut order: Vec<usize> = (0..parsing.share.len()).filter(|&i| parsing.share[i] >= VISIBLE_SHARE).collect();
    order.sort_by(|&a, &b| parsing.share[b].total_cmp(&parsing.share[a]));
    let words = order.into_iter().filter_map(|i| Some(format!("{} {:.0} %", labels.get(i)?, parsing.share[i] * 100.0)));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_without_a_face_is_one_line() {
        let text = |name, analysis, files| describe(name, [4, 3], &analysis, &[], &files, &[]);
        assert_eq!(text("a.jpg", Analysis::default(), ResultFiles::default()), "a.jpg: 4 x 3, no face\n");
        let files = ResultFiles { annotated: Some(Some("out/a\u{1b}.png".to_owned())), ..ResultFiles::default() };
        let analysis = Analysis { faces_left_out: 7, ..Analysis::default() };
        assert_eq!(
            text("a\n\u{1b}[2J.jpg", analysis, files),
            "a\\n\\u{1b}[2J.jpg: 4 x 3, no face, at least 7 more left out\n  annotated: out/a\\u{1b}.png\n"
        );
    }

    #[test]
    fn what_was_not_looked_for_is_said() {
        let text = |analysis: &Analysis| describe("a.jpg", [4, 3], analysis, &[], &ResultFiles::default(), &[]);
        let mut analysis = Analysis { searched_from_px: Some(24.0), ..Analysis::default() };
        assert_eq!(text(&analysis), "a.jpg: 4 x 3, no face, searched for faces of 24 pixels and more\n");
        analysis.faces.push(Face::blank(&[]));
        assert!(text(&analysis).starts_with("a.jpg: 4 x 3, 1 face\n"));
        analysis.searched_from_px = Some(60.0);
        assert!(text(&analysis).starts_with("a.jpg: 4 x 3, 1 face, searched for faces of 60 pixels and more\n"));
    }

    #[test]
    fn shares_are_sorted_without_small_ones() {
        let mut parsing = Parsing::default();
        parsing.share = vec![0.2, 0.005, 0.795];
        let labels: Vec<String> = ["background", "nose", "skin"].map(String::from).into();
        assert_eq!(shares(&parsing, &labels), "skin 80 %, background 20 %");
    }
}
