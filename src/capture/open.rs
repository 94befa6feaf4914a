//! From the name of a source on the command line to its feed.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Result, bail};

use super::clip::{DemoFeed, Photos};
use super::feed::Feed;
use super::paced::Paced;

/// How a source is to be opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedRequest {
    /// Frames a second: what a camera is asked for, and the pace at which anything else is played. Without it a camera
    /// chooses, and files and the demo clip come as fast as they are taken.
    pub fps: Option<f64>,
}

/// Opens `demo`, a photo or a folder of photos.
///
/// # Errors
/// When the source does not exist or is of no kind that is known; the message says what to do.
pub fn open(name: &str, request: &FeedRequest) -> Result<Box<dyn Feed>> {
    let path = Path::new(name);
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if name == "-" || matches!(extension, "y4m" | "mjpg") || is_device(path) {
        bail!("source {name} is not supported in this version: use demo, a photo or a folder");
    }
    let feed: Box<dyn Feed> = match name {
        "demo" => Box::new(DemoFeed::new()?),
        _ if path.exists() => Box::new(Photos::open(path)),
        _ => bail!("source {name} does not exist: use demo, a photo or a folder"),
    };
    Ok(match request.fps {
        Some(fps) => Box::new(Paced::new(feed, fps)),
        None => feed,
    })
}

fn is_device(path: &Path) -> bool {
    path.starts_with("/dev") || path.metadata().is_ok_and(|data| data.file_type().is_char_device())
}
