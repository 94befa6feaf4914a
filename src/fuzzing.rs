//! The entry points of the fuzz targets in `fuzz/`, for parsers that are private. Only builds by cargo-fuzz have this module.

use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::capture::jpeg::FrameDecoder;
use crate::capture::open::sniff;
use crate::capture::source::Poll;
use crate::capture::timed_reader::TimedReader;
use crate::control::protocol::{self, Reply};
use crate::control::{Enrolment, LoopControl, PendingResult, Refusal};
use crate::lab::reference::{INDEX, Reference};
use crate::outputs::http::request;

/// Frames that are read of a stream.
const MOST_FRAMES: usize = 50;

/// Decodes one JPEG frame.
pub fn jpeg_frame(bytes: &[u8]) {
    let mut decoder = FrameDecoder::default();
    if decoder.decode(bytes).is_ok() {
        let view = decoder.view();
        assert!(view.width() > 0 && view.height() > 0);
    }
}

/// Reads the frames of a stream. The first byte is the size of the pieces that arrive.
pub fn stream(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let reader = TimedReader::new(std::io::Cursor::new(bytes.to_vec()), usize::from(*piece) * 16 + 1);
    let Ok(mut source) = sniff("stream", reader) else { return };
    for _ in 0..MOST_FRAMES {
        match source.poll(0) {
            Ok(Poll::Frame(_)) => assert!(source.view().width() > 0),
            Ok(Poll::Nothing) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Carries out a request line of the control socket.
pub fn control(bytes: &[u8]) {
    if let Reply::Now(response) = protocol::answer(bytes, &IdleLoop) {
        // A number of a request's id may be beyond every type of number; it is returned as it was written.
        let text = serde_json::from_slice::<IgnoredAny>(&response);
        assert!(text.is_ok() && response.ends_with(b"\n"), "a response is one line of JSON");
    }
}

/// Parses the head of an HTTP request.
pub fn http(bytes: &[u8]) {
    let _ = request::parse(bytes);
}

/// Opens a reference folder with this index.
pub fn reference(bytes: &[u8]) {
    let folder = std::env::temp_dir().join(format!("faceptor-fuzz-{}", std::process::id()));
    if fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(INDEX), bytes)).is_ok() {
        let _ = Reference::open(&folder, "abc");
    }
}

/// A loop that takes every command and does nothing.
struct IdleLoop;

impl LoopControl for IdleLoop {
    fn tasks(&self) -> Value {
        json!({})
    }
    fn set_tasks(&self, _: &str) -> Result<Value, Refusal> {
        Ok(json!({}))
    }
    fn budget(&self) -> Value {
        json!({})
    }
    fn set_budget_ms(&self, ms: f64) -> Result<Value, Refusal> {
        assert!(ms > 0.0 && ms <= protocol::MAX_BUDGET_MS);
        Ok(json!({}))
    }
    fn status(&self, _: Option<&str>) -> Result<Value, Refusal> {
        Ok(json!({}))
    }
    fn stats(&self, _: Option<&str>) -> Result<Value, Refusal> {
        Ok(json!({}))
    }
    fn reload_gallery(&self) -> Result<PendingResult, Refusal> {
        Ok(Box::new(|| Some(Ok(Value::Null))))
    }

    fn enrol(&self, _: Option<&str>, enrolment: Enrolment) -> Result<PendingResult, Refusal> {
        let name = enrolment.name;
        Ok(Box::new(move || Some(Ok(Value::from(name.as_str())))))
    }

    fn snapshot(&self, _: Option<&str>, file: &Path, _: bool) -> Result<PendingResult, Refusal> {
        assert!(file.is_absolute());
        Ok(Box::new(|| Some(Ok(json!({})))))
    }
    fn quit(&self) -> Result<Value, Refusal> {
        Ok(json!({}))
    }
}
