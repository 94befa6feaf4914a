//! What the element says of a frame: the JSON of the command line, metadata of a region a face, messages on the bus.

use faceptor::stages::{Face, Prediction, TaskDecoder, largest};
use faceptor_results::ResultFiles;
use faceptor_results::json::{FaceJson, JsonLine, Origin, OuterTiming};
use gstreamer as gst;
use gstreamer_video::VideoRegionOfInterestMeta;

use crate::session::Session;

/// Name of the messages and of the structures in metadata.
pub const NAME: &str = "faceptor";
/// Type of the regions of interest.
pub const REGION: &str = "face";

/// The times of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub timestamp: Option<gst::ClockTime>,
    pub running: Option<gst::ClockTime>,
    pub stream: Option<gst::ClockTime>,
    pub duration: Option<gst::ClockTime>,
}

/// Returns the line of a frame, with the fields of `faceptor run --json`.
pub fn line(session: &Session, origin: &Origin, outer_timing: OuterTiming) -> Result<String, serde_json::Error> {
    serde_json::to_string(&JsonLine {
        origin,
        decoders: session.decoders(),
        analysis: session.analysis(),
        files: &ResultFiles::default(),
        identities: &[],
        outer_timing,
    })
}

/// Returns the content of a message.
pub fn message(json: &str, times: &Times) -> gst::Structure {
    gst::Structure::builder(NAME)
        .field("json", json)
        .field("timestamp", times.timestamp)
        .field("running-time", times.running)
        .field("stream-time", times.stream)
        .build()
}

/// Attaches a region of interest for each face to a frame.
pub fn attach(buffer: &mut gst::BufferRef, session: &Session) -> Result<(), serde_json::Error> {
    for face in &session.analysis().faces {
        let structure = structure(face, session.decoders())?;
        let [left, top, right, bottom] = face.detection.edges.map(|edge| edge.max(0.0));
        // `as` keeps to the range of the type.
        let (x, y) = (left.floor() as u32, top.floor() as u32);
        let end = [right, bottom].map(|edge| edge.ceil() as u32);
        let rectangle = (x, y, end[0].saturating_sub(x), end[1].saturating_sub(y));
        let mut region = VideoRegionOfInterestMeta::add(buffer, REGION, rectangle);
        region.set_id(i32::try_from(face.id).unwrap_or(i32::MAX));
        region.add_param(structure);
    }
    Ok(())
}

/// Returns the results of a face: single numbers and labels as fields of their own, everything as JSON.
fn structure(face: &Face, decoders: &[TaskDecoder]) -> Result<gst::Structure, serde_json::Error> {
    let json = serde_json::to_string(&FaceJson { face, decoders })?;
    let mut structure = gst::Structure::builder(NAME)
        .field("id", face.id)
        .field("score", f64::from(face.detection.score))
        .field("trusted", face.quality().is_trusted())
        .field("json", json)
        .build();
    for (_, decoder, result) in face.known(decoders) {
        let task = decoder.task();
        match &result.prediction {
            Prediction::Age(age) => {
                structure.set(format!("{}-years", task.name), f64::from(age.years));
                structure.set(format!("{}-std", task.name), f64::from(age.std));
            }
            Prediction::Expression(scores) => {
                if let Some(label) = task.labels.get(largest(scores)) {
                    structure.set(task.name.as_str(), label.as_str());
                }
            }
            _ => {}
        }
    }
    Ok(structure)
}
