//! The results of one image, for Python.

use std::sync::Arc;

use faceptor::stages::{Analysis, Picture, Point, Prediction, Quality, TaskDecoder, largest};
use faceptor_identity::naming::OwnedIdentity;
use faceptor_results::identity::Identity;
use faceptor_results::json::{JsonLine, Origin, OuterTiming};
use faceptor_results::{ResultFiles, mask, overlay};
use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::failure::{Failure, contained};
use crate::image::Image;
use crate::interpreter_exit::unlocked;

/// The decoders of a network, by which results are named.
pub type Decoders = Arc<[TaskDecoder]>;

/// The results of one image. Nothing in it changes.
#[pyclass(frozen, module = "faceptor._native")]
pub struct Record {
    pub(crate) analysis: Analysis,
    pub(crate) decoders: Decoders,
    pub(crate) origin: Origin,
    pub(crate) outer_timing: OuterTiming,
    /// The answers of a gallery, by face; empty without a gallery.
    pub(crate) identities: Vec<OwnedIdentity>,
}

#[pymethods]
impl Record {
    /// Returns the JSON of the command line.
    fn json(&self, python: Python<'_>) -> PyResult<String> {
        let line = || {
            let files = ResultFiles::default();
            let identities: Vec<Identity<'_>> = self.identities.iter().map(OwnedIdentity::view).collect();
            let line = JsonLine {
                origin: &self.origin,
                decoders: &self.decoders,
                analysis: &self.analysis,
                files: &files,
                identities: &identities,
                outer_timing: self.outer_timing,
            };
            serde_json::to_string(&line).map_err(|reason| Failure::image(reason.to_string()))
        };
        Ok(unlocked(python, || contained(line))?)
    }

    #[getter]
    fn width(&self) -> usize {
        self.origin.width
    }

    #[getter]
    fn height(&self) -> usize {
        self.origin.height
    }

    #[getter]
    fn path(&self) -> Option<&str> {
        self.origin.path.as_deref()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.origin.warnings.clone()
    }

    #[getter]
    fn faces_left_out(&self) -> usize {
        self.analysis.faces_left_out
    }

    #[getter]
    fn searched_from_px(&self) -> Option<f32> {
        self.analysis.searched_from_px
    }

    /// Returns a dictionary for each face: the arguments of `faceptor.Face`, and `results`, a list of (task, kind, content).
    fn faces<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let faces = PyList::empty(python);
        for (place, face) in self.analysis.faces.iter().enumerate() {
            let entry = PyDict::new(python);
            entry.set_item("identity", self.identities.get(place).map(|found| identity(python, found)).transpose()?)?;
            entry.set_item("id", face.id)?;
            entry.set_item("score", face.detection.score)?;
            entry.set_item("box", PyArray1::from_slice(python, &face.detection.xywh()))?;
            entry.set_item("keypoints", points(python, &face.detection.keypoints)?)?;
            entry.set_item("quality", quality(python, &face.quality())?)?;
            let results = PyList::empty(python);
            let stale = PyDict::new(python);
            for (index, decoder, result) in face.known(&self.decoders) {
                let (task, labels) = (&decoder.task().name, &decoder.task().labels);
                let content = PyDict::new(python);
                let kind = match &result.prediction {
                    Prediction::Landmarks(landmarks) => {
                        content.set_item("points", points(python, &landmarks.points)?)?;
                        "landmarks"
                    }
                    Prediction::Parsing(parsing) => {
                        content.set_item("classes", labels)?;
                        content.set_item("share", PyArray1::from_slice(python, &parsing.share))?;
                        content.set_item("index", index)?;
                        "parsing"
                    }
                    Prediction::Age(age) => {
                        content.set_item("years", age.years)?;
                        content.set_item("std", age.std)?;
                        "age"
                    }
                    Prediction::Expression(scores) => {
                        content.set_item("label", labels.get(largest(scores)).map_or("", String::as_str))?;
                        content.set_item("labels", labels)?;
                        content.set_item("scores", PyArray1::from_slice(python, scores))?;
                        "expression"
                    }
                    Prediction::Attributes(values) => {
                        content.set_item("labels", labels)?;
                        content.set_item("probabilities", PyArray1::from_slice(python, values))?;
                        "attributes"
                    }
                    Prediction::Recognition(embedding) => {
                        content.set_item("embedding", PyArray1::from_slice(python, embedding))?;
                        "recognition"
                    }
                };
                results.append((task, kind, content))?;
                if result.stale_frames > 0 {
                    stale.set_item(task, result.stale_frames)?;
                }
            }
            entry.set_item("results", results)?;
            entry.set_item("stale_frames", stale)?;
            faces.append(entry)?;
        }
        Ok(faces)
    }

    /// Paints the parsing mask of a face, by the index of the face and the `index` of its result.
    fn mask<'py>(&self, python: Python<'py>, face: usize, index: usize) -> PyResult<Bound<'py, PyArray2<u8>>> {
        let Origin { width, height, .. } = self.origin;
        let paint = || {
            let missing = || Failure::argument("this face has no such parsing result");
            let face = self.analysis.faces.get(face).ok_or_else(missing)?;
            let decoder = self.decoders.get(index).ok_or_else(missing)?;
            let (_, parsing) = mask::parsings(face).find(|(found, _)| *found == index).ok_or_else(missing)?;
            // Only its size is read.
            let mut picture = Picture::default();
            picture.reshape(width, height);
            Ok(mask::labels(parsing, decoder, face, &picture))
        };
        let labels = unlocked(python, || contained(paint))?;
        PyArray1::from_vec(python, labels).reshape([height, width])
    }

    /// Draws the results on a copy of the image and returns RGB, or BGR if `reversed`.
    fn draw<'py>(&self, python: Python<'py>, image: &Image, reversed: bool) -> PyResult<Bound<'py, PyArray3<u8>>> {
        let [width, height] = image.size();
        let expected = [self.origin.width, self.origin.height];
        if [width, height] != expected {
            let [w, h] = expected;
            let text = format!("an image of {width} x {height} pixels, but the results are of one of {w} x {h}");
            return Err(Failure::image(text).into());
        }
        let draw = || {
            let mut memory = Picture::default();
            let annotate = |picture: &Picture| overlay::annotate(picture, &self.analysis, &self.decoders);
            let mut bytes = image.with_picture(&mut memory, annotate).into_bytes();
            if reversed {
                bytes.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
            }
            Ok(bytes)
        };
        let bytes = unlocked(python, || contained(draw))?;
        PyArray1::from_vec(python, bytes).reshape([height, width, 3])
    }
}

/// Makes an array of shape (points, 2).
fn points<'py>(python: Python<'py>, points: &[Point]) -> PyResult<Bound<'py, PyArray2<f32>>> {
    PyArray1::from_slice(python, points.as_flattened()).reshape([points.len(), 2])
}

/// Makes the arguments of `faceptor.Identity`.
fn identity<'py>(python: Python<'py>, found: &OwnedIdentity) -> PyResult<Bound<'py, PyDict>> {
    let Identity { name, similarity, unknown, second, threshold } = found.view();
    let entry = PyDict::new(python);
    entry.set_item("name", name)?;
    entry.set_item("similarity", similarity)?;
    entry.set_item("second_similarity", second)?;
    entry.set_item("threshold", threshold)?;
    entry.set_item("unknown", unknown)?;
    Ok(entry)
}

/// Makes the arguments of `faceptor.Quality`.
fn quality<'py>(python: Python<'py>, quality: &Quality) -> PyResult<Bound<'py, PyDict>> {
    let entry = PyDict::new(python);
    entry.set_item("trusted", quality.is_trusted())?;
    entry.set_item("why", quality.warnings().collect::<Vec<_>>())?;
    entry.set_item("eyes_px", quality.eyes_px)?;
    entry.set_item("turn", Some(quality.turn).filter(|turn| turn.is_finite()))?;
    entry.set_item("roll", quality.roll)?;
    entry.set_item("brightness", quality.light.map(|light| light.mean))?;
    entry.set_item("contrast", quality.light.map(|light| light.spread))?;
    entry.set_item("sharpness", quality.sharpness)?;
    entry.set_item("likeness", quality.likeness)?;
    entry.set_item("visible", quality.visibility.area)?;
    entry.set_item("landmarks_visible", quality.visibility.landmarks)?;
    Ok(entry)
}
