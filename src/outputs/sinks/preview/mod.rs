//! Preview page in the browser: the annotated picture, the results, and check-boxes that choose tasks.
//!
//! The interface is described in `docs/outputs.md`. Drawing and encoding happen on the sink's thread, and only while a
//! browser shows the picture. Each connection takes the newest picture when it is ready for one.

pub mod access;
pub mod broadcast;
pub mod routes;
pub mod server;

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

pub use crate::outputs::sinks::preview::routes::{Routes, SetTasks};
pub use crate::outputs::sinks::preview::server::PreviewServer;

use crate::outputs::draw::overlay::{Annotator, Legend};
use crate::outputs::draw::resize::fitting;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::sink::Sink;
use broadcast::{Broadcast, Kind};
use faceptor::stages::{Picture, Pixels};

/// Largest width and height of a picture, which keeps encoding cheap.
const ROOM: [usize; 2] = [960, 720];
const JPEG_QUALITY: u8 = 82;

/// Parses the address of `--preview`: `127.0.0.1:8080`, `localhost:8080`, `[::1]:8080`, or a port alone for 127.0.0.1.
///
/// # Errors
/// A text for the user when it is not an address.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let mut found =
        text.to_socket_addrs().map_err(|error| format!("{error} (give an address such as 127.0.0.1:8080)"))?;
    found.next().ok_or_else(|| "no such address".to_owned())
}

/// Draws and encodes frames for the viewers.
pub struct PreviewSink {
    broadcast: Arc<Broadcast>,
    annotator: Annotator,
    legend: Arc<Legend>,
}

impl PreviewSink {
    pub fn new(broadcast: Arc<Broadcast>, legend: Arc<Legend>) -> PreviewSink {
        PreviewSink { broadcast, annotator: Annotator::new(legend.clone()), legend }
    }

    fn event(&self, scene: &SharedFrame) -> Result<Vec<u8>> {
        let names = scene.analysis.tasks.iter().filter_map(|&task| self.legend.decoders.get(usize::from(task)));
        let names: Vec<&str> = names.map(|decoder| decoder.task().name.as_str()).collect();
        let delay_us = scene.published_us.saturating_sub(scene.captured_us);
        let mut event = format!("{{\"chosen\":{},\"delay_us\":{delay_us},\"frame\":", serde_json::to_string(&names)?);
        event += std::str::from_utf8(scene.json.trim_ascii_end()).context("a line is text")?;
        event.push('}');
        Ok(event.into_bytes())
    }

    fn picture(&mut self, scene: &SharedFrame) -> Result<Option<Vec<u8>>> {
        let Some(still) = scene.still.as_ref().filter(|_| self.broadcast.viewers() > 0) else { return Ok(None) };
        let size = |picture: &Picture| fitting([picture.width(), picture.height()], ROOM, false);
        let drawn = still.draw(&mut self.annotator, &scene.analysis, &scene.identities.list(), size);
        let mut jpeg = Vec::with_capacity(64 << 10);
        let (width, height) = (drawn.width() as u32, drawn.height() as u32);
        JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode(
            drawn.bytes(),
            width,
            height,
            ExtendedColorType::Rgb8,
        )?;
        Ok(Some(jpeg))
    }
}

impl Sink<SharedFrame> for PreviewSink {
    fn take(&mut self, scene: &mut SharedFrame) -> ControlFlow<()> {
        match self.event(scene) {
            Ok(event) => self.broadcast.publish(Kind::Event, event),
            Err(reason) => log::debug!("preview: {reason:#}"),
        }
        match self.picture(scene) {
            Ok(Some(jpeg)) => self.broadcast.publish(Kind::Picture, jpeg),
            Ok(None) => {}
            Err(reason) => log::debug!("preview: {reason:#}"),
        }
        // Returned at once, so that the loop can use it again.
        scene.still = None;
        ControlFlow::Continue(())
    }

    fn finish(&mut self) {
        self.broadcast.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_default_to_loopback() {
        let address = |text| parse_address(text).map(|address| address.to_string());
        assert_eq!(address("8080").as_deref(), Ok("127.0.0.1:8080"));
        assert_eq!(address("[::1]:80").as_deref(), Ok("[::1]:80"));
        assert!(address("127.0.0.1").is_err() && address("").is_err() && address("99999").is_err());
    }
}
