//! Setting a V4L2 camera up.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use v4l::v4l_sys::V4L2_CID_EXPOSURE_AUTO_PRIORITY;

use crate::capture::source::SourceRequest;
use crate::capture::v4l2::backend::Backend;
use crate::capture::v4l2::mode::{self, Candidate, Choice, Mode, ModeError};
use crate::capture::v4l2::node::{Identity, Node};
use crate::capture::v4l2::stream::MappedStream;
use crate::capture::v4l2::{discovery, event};
use crate::platform::clock;

/// A camera of this machine.
pub struct V4l2 {
    path: PathBuf,
    request: SourceRequest,
    /// Who it was when it was opened first.
    identity: Option<Identity>,
}

impl V4l2 {
    /// A node, or a link to one (`/dev/v4l/by-id/...`).
    pub fn new(path: &Path, request: &SourceRequest) -> V4l2 {
        V4l2 { path: path.to_owned(), request: request.clone(), identity: None }
    }

    fn find(&mut self) -> Result<Node> {
        let Some(identity) = &self.identity else {
            let node = Node::open(&self.path).map_err(|error| anyhow!(advice(&error)))?;
            self.identity = Some(node.identity().clone());
            return Ok(node);
        };
        let (path, node) = discovery::find(identity, &self.path).map_err(|error| anyhow!(advice(&error)))?;
        if path != self.path {
            log::info!("{}: now {}", self.path.display(), path.display());
            self.path = path;
        }
        Ok(node)
    }
}

/// What an error of opening means to a user.
pub fn advice(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "no camera there: `faceptor devices` lists them".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "no permission: add your user to the group video (sudo usermod -aG video \"$USER\") and log in again"
                .to_owned()
        }
        Some(libc::EBUSY) => "another program uses it (fuser -v names it)".to_owned(),
        Some(libc::ENOTTY) => "not a camera: `faceptor devices` lists them".to_owned(),
        _ if error.kind() == io::ErrorKind::NotFound => "no camera there: `faceptor devices` lists them".to_owned(),
        _ => error.to_string(),
    }
}

/// Every format and size of the camera that is worth looking at.
fn candidates(node: &Node, request: &SourceRequest) -> Vec<Candidate> {
    let wanted = mode::wanted_size(request);
    // Formats that the driver's library makes in software are no better than what they are made from.
    let formats = node.formats().into_iter().filter(|format| !format.emulated);
    let sizes = formats
        .flat_map(|format| node.sizes(format.fourcc).near(wanted).into_iter().map(move |size| (format.fourcc, size)));
    sizes.map(|(fourcc, size)| Candidate { fourcc, size, rates: node.rates(fourcc, size) }).collect()
}

/// What would be chosen of what the camera offers.
///
/// # Errors
/// When nothing of it can be read, or not what was asked for.
pub fn survey(node: &Node, request: &SourceRequest) -> Result<Choice, ModeError> {
    mode::choose(&candidates(node, request), request)
}

/// Sets the camera to the best of what it offers and starts it.
fn start(node: Node, path: &Path, request: &SourceRequest) -> Result<MappedStream> {
    if !node.streams() {
        bail!("it can only be read byte by byte, not mapped into memory");
    }
    event::adopt_signal(&node);
    let choice = survey(&node, request)?;
    let busy = |error: io::Error| anyhow!(advice(&error));
    let format = node.set_format(choice.fourcc, choice.size).map_err(busy).context("setting its format")?;
    // Without it cameras take half the frames in a dim room. Those that lack it say so, which is fine.
    let _ = node.set_control(V4L2_CID_EXPOSURE_AUTO_PRIORITY, 0);
    let interval = node.set_interval(choice.interval).unwrap_or_else(|error| {
        log::debug!("{}: its rate cannot be set: {error}", path.display());
        None
    });
    let mode = Mode::new(&format, interval)
        .ok_or_else(|| anyhow!("it was asked for {} and gives {}, which is not read", choice.fourcc, format.fourcc))?;
    if mode.fourcc != choice.fourcc {
        log::warn!("{}: it was asked for {} and gives {}", path.display(), choice.fourcc, mode.fourcc);
    }
    if request.size.is_some_and(|[width, height]| (mode.width, mode.height) != (width as usize, height as usize)) {
        log::warn!("{}: the nearest size it gives is {} x {}", path.display(), mode.width, mode.height);
    }
    if mode.interlaced {
        log::warn!("{}: its frames are interlaced: what moves looks torn", path.display());
    }
    MappedStream::start(node, format, mode).map_err(busy).context("starting it")
}

impl Backend for V4l2 {
    type Stream = MappedStream;

    fn open(&mut self) -> Result<MappedStream> {
        let node = self.find()?;
        start(node, &self.path, &self.request)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn now_us(&self) -> u64 {
        clock::now_us()
    }

    fn sleep_until_us(&mut self, until_us: u64) {
        clock::sleep_until_us(until_us);
    }
}
