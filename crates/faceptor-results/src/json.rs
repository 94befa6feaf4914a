//! Results as JSON: one object a picture or frame, in the stable form that scripts rely on.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::ResultFiles;
use crate::identity::Identity;
use crate::terminal::Name;
use faceptor::stages::{Analysis, Deadline, Face, Point, Pose, Prediction, Quality, TaskDecoder, TaskResult, largest};
use faceptor_nn::manifest::Task;

/// The origin of a picture.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub path: Option<String>,
    pub width: usize,
    pub height: usize,
    /// Number of the frame in a run, its sequence number and its time of capture, us. `None` for photos.
    pub frame: Option<[u64; 3]>,
    /// Faults of a picture that could be read.
    pub warnings: Vec<String>,
}

/// Times of the stages around the analysis, us.
#[derive(Clone, Copy, Debug, Default)]
pub struct OuterTiming {
    pub capture_us: u64,
    pub convert_us: u64,
    /// Time for annotated pictures and masks, which are written before the line.
    pub present_us: u64,
    pub total_us: u64,
}

/// Serializes one line of output. `files`: what was written for the picture. `identities`: a gallery's answer, by face; empty
/// without a gallery.
pub struct JsonLine<'a> {
    pub origin: &'a Origin,
    pub decoders: &'a [TaskDecoder],
    pub analysis: &'a Analysis,
    pub files: &'a ResultFiles,
    pub identities: &'a [Identity<'a>],
    pub outer_timing: OuterTiming,
}

impl Serialize for JsonLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(path) = &self.origin.path {
            map.serialize_entry("path", &Name(path))?;
        }
        map.serialize_entry("width", &self.origin.width)?;
        map.serialize_entry("height", &self.origin.height)?;
        if !self.origin.warnings.is_empty() {
            map.serialize_entry("warnings", &self.origin.warnings)?;
        }
        if let Some([frame, sequence, captured_us]) = self.origin.frame {
            map.serialize_entry("frame", &frame)?;
            map.serialize_entry("sequence", &sequence)?;
            map.serialize_entry("captured_us", &captured_us)?;
        }
        if let Some(annotated) = &self.files.annotated {
            map.serialize_entry("annotated", &annotated.as_deref().map(Name))?;
        }
        if let Some(px) = self.analysis.searched_from_px {
            map.serialize_entry("searched_from_px", &rounded(px, 1))?;
        }
        map.serialize_entry("faces", &FacesEntry { line: self })?;
        if self.analysis.faces_left_out > 0 {
            map.serialize_entry("faces_left_out", &self.analysis.faces_left_out)?;
        }
        if let Some(deadline) = &self.analysis.deadline {
            map.serialize_entry("deadline", &DeadlineEntry { deadline, decoders: self.decoders })?;
        }
        map.serialize_entry("timing_us", &TimingEntry { line: self })?;
        map.end()
    }
}

// Lists are serialized from iterators, so that a line written to a reused buffer allocates nothing.

struct FacesEntry<'a> {
    line: &'a JsonLine<'a>,
}

impl Serialize for FacesEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let JsonLine { decoders, analysis, files, identities, .. } = self.line;
        let entries = analysis.faces.iter().enumerate().map(|(index, face)| FaceEntry {
            face,
            decoders,
            masks: files.masks_of(index),
            identity: identities.get(index),
        });
        serializer.collect_seq(entries)
    }
}

/// Age in frames of the results of earlier frames.
struct StaleEntry<'a> {
    face: &'a Face,
    decoders: &'a [TaskDecoder],
}

fn is_stale((_, _, result): (usize, &TaskDecoder, &TaskResult)) -> bool {
    result.stale_frames > 0
}

impl Serialize for StaleEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stale = self.face.known(self.decoders).filter(|known| is_stale(*known));
        serializer.collect_map(stale.map(|(_, decoder, result)| (&decoder.task().name, result.stale_frames)))
    }
}

struct DeadlineEntry<'a> {
    deadline: &'a Deadline,
    decoders: &'a [TaskDecoder],
}

impl Serialize for DeadlineEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let deferred = Sequence(self.deadline.deferred.as_slice(), |&task: &u8| {
            self.decoders.get(usize::from(task)).map(|decoder| decoder.task().name.as_str())
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("budget_us", &self.deadline.budget_us)?;
        map.serialize_entry("used_us", &self.deadline.used_us)?;
        map.serialize_entry("missed", &self.deadline.missed)?;
        map.serialize_entry("deferred", &deferred)?;
        map.end()
    }
}

/// Serializes a list with a function applied to each item.
struct Sequence<'a, T, F>(&'a [T], F);

impl<'a, T, V: Serialize, F: Fn(&'a T) -> V> Serialize for Sequence<'a, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(&self.1))
    }
}

/// Serializes a face as in a result line, without files and identities.
pub struct FaceJson<'a> {
    pub face: &'a Face,
    pub decoders: &'a [TaskDecoder],
}

impl Serialize for FaceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let FaceJson { face, decoders } = *self;
        FaceEntry { face, decoders, masks: &[], identity: None }.serialize(serializer)
    }
}

struct FaceEntry<'a> {
    face: &'a Face,
    decoders: &'a [TaskDecoder],
    masks: &'a [Option<String>],
    identity: Option<&'a Identity<'a>>,
}

impl Serialize for FaceEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found = &self.face.detection;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.face.id)?;
        map.serialize_entry("score", &rounded(found.score, 4))?;
        map.serialize_entry("box", &found.xywh().map(|v| rounded(v, 2)))?;
        map.serialize_entry("keypoints", &found.keypoints.map(rounded_point))?;
        map.serialize_entry("quality", &QualityEntry(self.face.quality()))?;
        if let Some(pose) = self.face.pose() {
            map.serialize_entry("pose", &PoseEntry(pose))?;
        }
        for (index, decoder, result) in self.face.known(self.decoders) {
            let (task, mask) = (decoder.task(), self.masks.get(index).and_then(Option::as_deref));
            map.serialize_entry(
                &task.name,
                &PredictionEntry { task, answer: &result.prediction, mask, identity: self.identity },
            )?;
        }
        if self.face.known(self.decoders).any(is_stale) {
            map.serialize_entry("stale_frames", &StaleEntry { face: self.face, decoders: self.decoders })?;
        }
        map.end()
    }
}

struct QualityEntry(Quality);

impl Serialize for QualityEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Quality { eyes_px, turn, roll, light, sharpness, likeness, visibility, .. } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("trusted", &self.0.is_trusted())?;
        map.serialize_entry("why", &Reasons(self.0))?;
        map.serialize_entry("eyes_px", &rounded(eyes_px, 1))?;
        map.serialize_entry("turn", &rounded(turn, 3))?;
        map.serialize_entry("roll", &rounded(roll, 1))?;
        map.serialize_entry("brightness", &light.map(|light| rounded(light.mean, 1)))?;
        map.serialize_entry("contrast", &light.map(|light| rounded(light.spread, 1)))?;
        map.serialize_entry("sharpness", &sharpness.map(|sharpness| rounded(sharpness, 2)))?;
        map.serialize_entry("likeness", &likeness.map(|likeness| rounded(likeness, 3)))?;
        map.serialize_entry("visible", &rounded(visibility.area, 3))?;
        map.serialize_entry("landmarks_visible", &visibility.landmarks.map(|share| rounded(share, 3)))?;
        map.end()
    }
}

struct PoseEntry(Pose);

impl Serialize for PoseEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("yaw_deg", &rounded(self.0.yaw_deg, 1))?;
        map.serialize_entry("pitch_deg", &rounded(self.0.pitch_deg, 1))?;
        map.serialize_entry("roll_deg", &rounded(self.0.roll_deg, 1))?;
        map.end()
    }
}

struct Reasons(Quality);

impl Serialize for Reasons {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.warnings())
    }
}

struct PredictionEntry<'a> {
    task: &'a Task,
    answer: &'a Prediction,
    mask: Option<&'a str>,
    identity: Option<&'a Identity<'a>>,
}

impl Serialize for PredictionEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let labels = &self.task.labels;
        let mut map = serializer.serialize_map(None)?;
        match self.answer {
            Prediction::Landmarks(landmarks) => {
                map.serialize_entry("points", &Sequence(&landmarks.points, |&point| rounded_point(point)))?;
            }
            Prediction::Parsing(parsing) => {
                map.serialize_entry("classes", labels)?;
                map.serialize_entry("share", &Sequence(&parsing.share, |&share| rounded(share, 4)))?;
                map.serialize_entry("mask", &self.mask.map(Name))?;
            }
            Prediction::Age(age) => {
                map.serialize_entry("years", &rounded(age.years, 2))?;
                map.serialize_entry("std", &rounded(age.std, 2))?;
            }
            Prediction::Expression(scores) => {
                map.serialize_entry("label", &labels.get(largest(scores)))?;
                map.serialize_entry("scores", &Named { labels, values: scores })?;
            }
            Prediction::Attributes(values) => {
                for (label, &value) in labels.iter().zip(values) {
                    map.serialize_entry(label, &rounded(value, 4))?;
                }
            }
            Prediction::Recognition(embedding) => {
                map.serialize_entry("embedding", &Sequence(embedding, |&value| rounded(value, 6)))?;
                match self.identity {
                    Some(identity) => identity.serialize_into(&mut map)?,
                    None => {
                        // Names and similarities need a gallery; without one they are null.
                        map.serialize_entry("name", &None::<&str>)?;
                        map.serialize_entry("similarity", &None::<f32>)?;
                    }
                }
            }
        }
        map.end()
    }
}

/// Serializes values by their labels.
struct Named<'a> {
    labels: &'a [String],
    values: &'a [f32],
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.labels.iter().zip(self.values.iter().map(|&v| rounded(v, 4))))
    }
}

struct TimingEntry<'a> {
    line: &'a JsonLine<'a>,
}

impl Serialize for TimingEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (timing, outer_timing) = (&self.line.analysis.timing, &self.line.outer_timing);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("capture", &outer_timing.capture_us)?;
        map.serialize_entry("convert", &outer_timing.convert_us)?;
        map.serialize_entry("find", &timing.find_us)?;
        map.serialize_entry("align", &timing.align_us)?;
        map.serialize_entry("encode", &timing.encode_us)?;
        map.serialize_entry("decode", &DecodeEntry { line: self.line })?;
        map.serialize_entry("present", &outer_timing.present_us)?;
        map.serialize_entry("total", &outer_timing.total_us)?;
        map.end()
    }
}

/// Times of the chosen tasks, us.
struct DecodeEntry<'a> {
    line: &'a JsonLine<'a>,
}

impl Serialize for DecodeEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let JsonLine { decoders, analysis, .. } = self.line;
        let tasks = decoders.iter().zip(&analysis.timing.decode_us).enumerate();
        let chosen = tasks.filter(|(index, _)| analysis.tasks.contains(&(*index as u8)));
        serializer.collect_map(chosen.map(|(_, (decoder, us))| (&decoder.task().name, us)))
    }
}

/// Rounds to a number of decimals, which shortens lines. Values that are not finite become null in JSON.
fn rounded(value: f32, decimals: i32) -> f64 {
    let unit = 10f64.powi(decimals);
    (f64::from(value) * unit).round() / unit
}

fn rounded_point(point: Point) -> [f64; 2] {
    point.map(|v| rounded(v, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor::stages::{Age, Detection, TaskList, Timing};
    use faceptor_nn::manifest::TaskKind;

    fn decoder(name: &str, kind: TaskKind, labels: &[&str]) -> TaskDecoder {
        let task = Task {
            name: name.into(),
            labels: labels.iter().map(|l| l.to_string()).collect(),
            bins: vec![0.0, 50.0],
            ..Task::of_kind(kind)
        };
        TaskDecoder::new(&task, &[1, 2]).expect("two numbers")
    }

    /// Returns the line of an analysis that has no files and no identities.
    fn line_of<'a>(
        origin: &'a Origin,
        decoders: &'a [TaskDecoder],
        analysis: &'a Analysis,
        outer_timing: OuterTiming,
    ) -> JsonLine<'a> {
        static NO_FILES: ResultFiles = ResultFiles { annotated: None, masks: Vec::new() };
        JsonLine { origin, decoders, analysis, files: &NO_FILES, identities: &[], outer_timing }
    }

    #[test]
    fn line_has_the_contract_keys_in_order() {
        let decoders = [
            decoder("age", TaskKind::Age, &[]),
            decoder("expression", TaskKind::Expression, &["neutral", "happiness"]),
        ];
        let detection = Detection { score: 0.97001, edges: [1.0, 2.0, 11.004, 22.0], keypoints: [[3.23459, 4.0]; 5] };
        let answers = [Prediction::Age(Age { years: 31.4159, std: 5.0 }), Prediction::Expression(vec![0.25, 0.75])];
        let results = answers.map(TaskResult::fresh).into();
        let face = Face { id: 1, detection, results, ..Face::blank(&[]) };
        let timing = Timing { find_us: 5, align_us: 6, encode_us: 7, decode_us: vec![8, 9] };
        let tasks = TaskList::from_slice(&[0, 1]).expect("few");
        let mut analysis = Analysis { tasks, timing, ..Analysis::default() };
        analysis.faces.push(face);
        let origin = Origin { path: Some("a.jpg".into()), width: 640, height: 480, ..Origin::default() };
        let outer_timing = OuterTiming { capture_us: 1, convert_us: 2, present_us: 3, total_us: 41 };
        let line = line_of(&origin, &decoders, &analysis, outer_timing);
        let text = serde_json::to_string(&line).expect("numbers and texts");
        assert_eq!(
            text,
            "{\"path\":\"a.jpg\",\"width\":640,\"height\":480,\"faces\":[{\"id\":1,\"score\":0.97,\
             \"box\":[1.0,2.0,10.0,20.0],\"keypoints\":[[3.23,4.0],[3.23,4.0],[3.23,4.0],[3.23,4.0],[3.23,4.0]],\
             \"quality\":{\"trusted\":false,\"why\":[\"too_small\",\"turned\"],\"eyes_px\":0.0,\"turn\":null,\
             \"roll\":0.0,\"brightness\":null,\"contrast\":null,\"sharpness\":null,\"likeness\":null,\"visible\":1.0,\"landmarks_visible\":null},\
             \"age\":{\"years\":31.42,\"std\":5.0},\
             \"expression\":{\"label\":\"happiness\",\"scores\":{\"neutral\":0.25,\"happiness\":0.75}}}],\
             \"timing_us\":{\"capture\":1,\"convert\":2,\"find\":5,\"align\":6,\"encode\":7,\
             \"decode\":{\"age\":8,\"expression\":9},\"present\":3,\"total\":41}}"
        );
    }

    #[test]
    fn stale_and_deferred_results_are_named() {
        let decoders = [decoder("age", TaskKind::Age, &[]), decoder("mood", TaskKind::Expression, &["calm", "glad"])];
        let mut analysis = Analysis::with_room(1, &decoders);
        let mut face = Face::blank(&decoders);
        face.results[0] = TaskResult { stale_frames: 3, ..TaskResult::fresh(Prediction::Age(Age::default())) };
        analysis.tasks = TaskList::from_slice(&[1, 0]).expect("few");
        analysis.faces.push_copy(&face);
        let deferred = TaskList::from_slice(&[1, 0]).expect("few");
        analysis.deadline = Some(Deadline { budget_us: 9, used_us: 10, missed: true, deferred });
        let (origin, outer_timing) = (Origin::default(), OuterTiming::default());
        let line = line_of(&origin, &decoders, &analysis, outer_timing);
        let value = serde_json::to_value(&line).expect("numbers and texts");
        let face = &value["faces"][0];
        assert_eq!((&face["stale_frames"], face.get("mood")), (&serde_json::json!({"age": 3}), None));
        let deadline = serde_json::json!({"budget_us": 9, "used_us": 10, "missed": true, "deferred": ["mood", "age"]});
        assert_eq!(value["deadline"], deadline);
    }

    #[test]
    fn live_frame_has_numbers_and_no_path() {
        let origin = Origin { path: None, width: 4, height: 3, frame: Some([12, 13, 1_234_567]), warnings: Vec::new() };
        let analysis = Analysis::default();
        let line = line_of(&origin, &[], &analysis, OuterTiming::default());
        let value = serde_json::to_value(&line).expect("numbers and texts");
        assert_eq!(
            (&value["frame"], &value["sequence"], &value["captured_us"]),
            (&12.into(), &13.into(), &1_234_567.into())
        );
        assert!(value.get("path").is_none() && value["faces"].as_array().is_some_and(Vec::is_empty));
    }

    #[test]
    fn non_finite_numbers_are_null() {
        assert_eq!(serde_json::to_string(&rounded(f32::NAN, 2)).expect("null"), "null");
    }
}
