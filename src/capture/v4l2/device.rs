//! The backend for V4L2: finds a camera of this machine, configures and starts it.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use v4l::v4l_sys::V4L2_CID_EXPOSURE_AUTO_PRIORITY;

use crate::capture::source::SourceRequest;
use crate::capture::v4l2::backend::{Backend, CameraNode};
use crate::capture::v4l2::capability::Identity;
use crate::capture::v4l2::discovery::{self, VideoNodes};
use crate::capture::v4l2::event;
use crate::capture::v4l2::mode::Mode;
use crate::capture::v4l2::node::Node;
use crate::capture::v4l2::probe;
use crate::capture::v4l2::stream::MappedStream;
use crate::platform::clock;

/// A camera of this machine.
pub(crate) struct V4l2Backend {
    path: PathBuf,
    request: SourceRequest,
    /// Set when the camera was first opened.
    identity: Option<Identity>,
}

impl V4l2Backend {
    /// Uses a node, or a link to one (`/dev/v4l/by-id/...`).
    pub(crate) fn new(path: &Path, request: &SourceRequest) -> V4l2Backend {
        V4l2Backend { path: path.to_owned(), request: request.clone(), identity: None }
    }

    fn find(&mut self) -> Result<Node> {
        let Some(identity) = &self.identity else {
            let node = Node::open(&self.path).map_err(explained)?;
            self.identity = Some(node.capability().identity.clone());
            return Ok(node);
        };
        let nodes = VideoNodes::of_this_machine();
        let (path, node) = discovery::find(&nodes, identity, &self.path).map_err(explained)?;
        if path != self.path {
            log::info!("{}: now {}", self.path.display(), path.display());
            self.path = path;
        }
        Ok(node)
    }
}

fn explained(error: io::Error) -> anyhow::Error {
    anyhow!(probe::explain(&error))
}

/// Sets the camera to the best mode that it offers and starts it.
fn start(node: Node, path: &Path, request: &SourceRequest) -> Result<MappedStream> {
    event::adopt_signal(&node);
    let choice = probe::choose_mode(&node, request)?;
    let format = node.set_format(choice.fourcc, choice.size).map_err(explained).context("setting its format")?;
    // Otherwise webcams halve their rate in a dim room. Cameras without this control refuse it, which is harmless.
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
        log::warn!("{}: its frames are interlaced: moving objects look torn", path.display());
    }
    MappedStream::start(node, format, mode).map_err(explained).context("starting it")
}

impl Backend for V4l2Backend {
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
