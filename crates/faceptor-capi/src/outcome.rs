//! The results of an image, in the memory that the pointers of `faceptor_face` point to.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::{Arc, OnceLock};

use faceptor::stages::{Analysis, Picture, Prediction, TaskDecoder, largest};
use faceptor_identity::naming::OwnedIdentity;
use faceptor_results::identity::Identity;
use faceptor_results::json::{JsonLine, Origin, OuterTiming};
use faceptor_results::{ResultFiles, mask};

use crate::failure::{Failure, Outcome};
use crate::records::{self, has};

/// Names of classes as C has them: a list that ends with a null pointer.
pub struct Names {
    pointers: Vec<*const c_char>,
    /// The data that they point to.
    _texts: Vec<CString>,
}

// SAFETY: the pointers point to `_texts`, which never changes and lives as long.
unsafe impl Send for Names {}
// SAFETY: as for `Send`.
unsafe impl Sync for Names {}

impl Names {
    fn of(labels: &[String]) -> Names {
        let texts: Vec<CString> =
            labels.iter().map(|label| CString::new(label.replace('\0', "")).unwrap_or_default()).collect();
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Names { pointers, _texts: texts }
    }
}

/// The tasks of a network, with the names of their classes.
pub struct Legend {
    pub decoders: Vec<TaskDecoder>,
    names: Vec<Names>,
}

impl Legend {
    pub fn of(decoders: &[TaskDecoder]) -> Legend {
        let names = decoders.iter().map(|decoder| Names::of(&decoder.task().labels)).collect();
        Legend { decoders: decoders.to_vec(), names }
    }
}

/// The results of an image.
pub struct Results {
    analysis: Analysis,
    legend: Arc<Legend>,
    origin: Origin,
    outer_timing: OuterTiming,
    /// The answers of a gallery, by face, with their texts as C has them; none without a gallery.
    identities: Vec<(OwnedIdentity, Option<CString>, Option<CString>)>,
    json: OnceLock<CString>,
}

impl Results {
    pub fn new(analysis: Analysis, legend: Arc<Legend>, origin: Origin, outer_timing: OuterTiming) -> Results {
        Results { analysis, legend, origin, outer_timing, identities: Vec::new(), json: OnceLock::new() }
    }

    /// Adds the answers of a gallery, one for each face.
    pub fn with_identities(self, identities: Vec<OwnedIdentity>) -> Results {
        let with_texts = |identity: OwnedIdentity| {
            let text = |text: Option<&str>| text.and_then(|text| CString::new(text).ok());
            let (name, unknown) = (text(identity.view().name), text(identity.view().unknown));
            (identity, name, unknown)
        };
        Results { identities: identities.into_iter().map(with_texts).collect(), ..self }
    }

    /// Fills the struct of who a face is. Its pointers live as long as the results.
    pub fn identity(&self, index: usize) -> Outcome<records::Identity> {
        self.analysis.faces.get(index).ok_or_else(|| self.no_face(index))?;
        let none = || Failure::argument("no gallery was asked: faceptor_gallery_identify does that");
        let (identity, name, unknown) = self.identities.get(index).ok_or_else(none)?;
        let Identity { similarity, second, threshold, .. } = identity.view();
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        Ok(records::Identity {
            struct_size: size_of::<records::Identity>(),
            name: pointer(name),
            unknown: pointer(unknown),
            similarity: similarity.unwrap_or(f32::NAN),
            second_similarity: second.unwrap_or(f32::NAN),
            threshold,
        })
    }

    pub fn count(&self) -> usize {
        self.analysis.faces.len()
    }

    pub fn size(&self) -> [usize; 2] {
        [self.origin.width, self.origin.height]
    }

    /// Returns the JSON of the command line; it lives as long as the results.
    pub fn json(&self) -> Outcome<*const c_char> {
        if let Some(text) = self.json.get() {
            return Ok(text.as_ptr());
        }
        let files = ResultFiles::default();
        let identities: Vec<Identity<'_>> = self.identities.iter().map(|(identity, ..)| identity.view()).collect();
        let line = JsonLine {
            origin: &self.origin,
            decoders: &self.legend.decoders,
            analysis: &self.analysis,
            files: &files,
            identities: &identities,
            outer_timing: self.outer_timing,
        };
        let text = serde_json::to_string(&line).map_err(|reason| Failure::argument(reason.to_string()))?;
        // JSON escapes zero bytes.
        Ok(self.json.get_or_init(|| CString::new(text).unwrap_or_default()).as_ptr())
    }

    /// Fills the struct of a face. Its pointers live as long as the results.
    pub fn face(&self, index: usize) -> Outcome<records::Face> {
        let face = self.analysis.faces.get(index).ok_or_else(|| self.no_face(index))?;
        let quality = face.quality();
        let mut record = records::Face {
            struct_size: size_of::<records::Face>(),
            id: face.id,
            results: 0,
            score: face.detection.score,
            box_: face.detection.xywh(),
            keypoints: face.detection.keypoints,
            trusted: u32::from(quality.is_trusted()),
            eyes_px: quality.eyes_px,
            turn: quality.turn,
            roll: quality.roll,
            age_years: 0.0,
            age_std: 0.0,
            landmarks: ptr::null(),
            landmark_count: 0,
            parsing_share: ptr::null(),
            parsing_classes: ptr::null(),
            parsing_count: 0,
            expression_scores: ptr::null(),
            expression_labels: ptr::null(),
            expression_count: 0,
            expression_best: 0,
            attribute_probabilities: ptr::null(),
            attribute_labels: ptr::null(),
            attribute_count: 0,
            embedding: ptr::null(),
            embedding_count: 0,
        };
        for (task, _, result) in face.known(&self.legend.decoders) {
            let names = self.legend.names.get(task).map_or(ptr::null(), |names| names.pointers.as_ptr());
            let bit = bit_of(&result.prediction);
            // The first of several tasks of one kind; the JSON has them all.
            if record.results & bit != 0 {
                continue;
            }
            record.results |= bit;
            match &result.prediction {
                Prediction::Landmarks(landmarks) => {
                    (record.landmarks, record.landmark_count) = (landmarks.points.as_ptr(), landmarks.points.len());
                }
                Prediction::Parsing(parsing) => {
                    (record.parsing_share, record.parsing_count) = (parsing.share.as_ptr(), parsing.share.len());
                    record.parsing_classes = names;
                }
                Prediction::Age(age) => (record.age_years, record.age_std) = (age.years, age.std),
                Prediction::Expression(scores) => {
                    (record.expression_scores, record.expression_count) = (scores.as_ptr(), scores.len());
                    (record.expression_labels, record.expression_best) = (names, largest(scores));
                }
                Prediction::Attributes(values) => {
                    (record.attribute_probabilities, record.attribute_count) = (values.as_ptr(), values.len());
                    record.attribute_labels = names;
                }
                Prediction::Recognition(numbers) => {
                    (record.embedding, record.embedding_count) = (numbers.as_ptr(), numbers.len());
                }
            }
        }
        Ok(record)
    }

    /// Paints the parsing mask of a face: a byte for each pixel of the image.
    pub fn mask(&self, index: usize, target: &mut [u8]) -> Outcome<()> {
        let face = self.analysis.faces.get(index).ok_or_else(|| self.no_face(index))?;
        let [width, height] = self.size();
        let needed = width * height;
        if target.len() != needed {
            let text = format!("the mask has {} bytes; {width} x {height} pixels need {needed}", target.len());
            return Err(Failure::argument(text));
        }
        let none = || Failure::argument("this face has no parsing: choose the task parsing");
        let (task, parsing) = mask::parsings(face).next().ok_or_else(none)?;
        // Only its size is read.
        let mut picture = Picture::default();
        picture.reshape(width, height);
        target.copy_from_slice(&mask::labels(parsing, &self.legend.decoders[task], face, &picture));
        Ok(())
    }

    fn no_face(&self, index: usize) -> Failure {
        Failure::argument(format!("there is no face {index}: this image has {}", self.count()))
    }
}

fn bit_of(prediction: &Prediction) -> u32 {
    match prediction {
        Prediction::Landmarks(_) => has::LANDMARKS,
        Prediction::Parsing(_) => has::PARSING,
        Prediction::Age(_) => has::AGE,
        Prediction::Expression(_) => has::EXPRESSION,
        Prediction::Attributes(_) => has::ATTRIBUTES,
        Prediction::Recognition(_) => has::RECOGNITION,
    }
}
