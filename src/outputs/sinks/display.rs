//! Shows annotated frames on a framebuffer.

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::outputs::draw::overlay::Annotator;
use crate::outputs::draw::resize::fitting;
use crate::outputs::shared_frame::SharedFrame;
use crate::outputs::sinks::framebuffer::Framebuffer;
use crate::outputs::sinks::sink::Sink;
use faceptor::stages::{Picture, Pixels};

/// Parses the device of `--display fb:DEVICE`.
///
/// # Errors
/// A text for the user when the kind is not `fb` or the path is not absolute.
pub fn parse_display(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("fb:") {
        Some(device) if device.starts_with('/') => Ok(device.into()),
        _ => Err("the only display is a framebuffer, by its path: fb:/dev/fb0".to_owned()),
    }
}

/// Draws each frame as large as the screen allows.
pub struct DisplaySink {
    screen: Framebuffer,
    annotator: Annotator,
    failing: bool,
}

impl DisplaySink {
    pub fn new(screen: Framebuffer, annotator: Annotator) -> DisplaySink {
        DisplaySink { screen, annotator, failing: false }
    }
}

impl Sink<SharedFrame> for DisplaySink {
    fn take(&mut self, scene: &mut SharedFrame) -> ControlFlow<()> {
        let Some(still) = scene.still.take() else { return ControlFlow::Continue(()) };
        let room = [self.screen.geometry().width, self.screen.geometry().height];
        let size = |picture: &Picture| fitting([picture.width(), picture.height()], room, true);
        let picture = still.draw(&mut self.annotator, &scene.analysis, &scene.identities.list(), size);
        let shown = self.screen.show(picture);
        let path = self.screen.path().display();
        match &shown {
            Ok(()) if self.failing => log::info!("the display {path} shows frames again"),
            Err(error) if !self.failing => log::error!("the display {path} takes no picture: {error}"),
            _ => {}
        }
        self.failing = shown.is_err();
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::frame_pool::FramePool;
    use crate::live::still::Still;
    use crate::outputs::draw::overlay::Legend;
    use crate::outputs::sinks::framebuffer::Geometry;
    use crate::platform::screen_info::Field;
    use faceptor::stages::Face;
    use faceptor_results::cover::{Area, Covers, Style};
    use std::fs::{self, OpenOptions};
    use std::sync::Arc;

    #[test]
    fn displays_are_parsed_by_kind() {
        assert_eq!(parse_display("fb:/dev/fb1"), Ok("/dev/fb1".into()));
        assert!(["/dev/fb0", "fb:", "fb:fb0", "drm:/dev/dri/card0"].iter().all(|text| parse_display(text).is_err()));
    }

    #[test]
    fn annotated_frame_fills_the_screen() -> anyhow::Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("fb");
        fs::write(&path, vec![0; 200 * 4 * 100])?;
        let file = OpenOptions::new().write(true).open(&path)?;
        let [red, green, blue] = [16, 8, 0].map(|offset| Field { offset, length: 8, msb_right: 0 });
        let geometry =
            Geometry { width: 200, height: 100, stride: 800, pixel_bytes: 4, start: 0, red, green, blue, opaque: 0 };
        let annotator = Annotator::new(Arc::new(Legend { decoders: Vec::new() }));
        let mut display = DisplaySink::new(Framebuffer::on(&path, file, geometry)?, annotator);
        let mut scene = SharedFrame::default();
        let mut face = Face::blank(&[]);
        (face.id, face.detection.edges) = (1, [10.0, 10.0, 20.0, 20.0]);
        scene.analysis.faces.push(face);
        // A frame of 40 x 40 becomes 100 x 100 in the middle of the screen.
        let pixels = FramePool::new(1, 0).keep(&Picture::filled(40, 40, [50, 60, 70]).view());
        scene.still = pixels.map(|pixels| Still::new(pixels, None));
        assert_eq!(display.take(&mut scene), ControlFlow::Continue(()));
        assert!(scene.still.is_none(), "the pixels are returned");
        let screen = fs::read(&path)?;
        let at = |x: usize, y: usize| [2, 1, 0].map(|c| screen[y * 800 + x * 4 + c]);
        assert_eq!((at(49, 50), at(150, 50)), ([0; 3], [0; 3]));
        assert_eq!((at(52, 90), at(148, 98)), ([50, 60, 70], [50, 60, 70]));
        let green = (0..100).filter(|&y| at(50 + 26, y) == [70, 220, 110]).count();
        assert!(green > 20, "the left edge of the box: {green} pixels");
        Ok(())
    }

    #[test]
    fn covered_pixels_never_reach_the_screen() -> anyhow::Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("fb");
        fs::write(&path, vec![0; 100 * 4 * 100])?;
        let file = OpenOptions::new().write(true).open(&path)?;
        let [red, green, blue] = [16, 8, 0].map(|offset| Field { offset, length: 8, msb_right: 0 });
        let geometry =
            Geometry { width: 100, height: 100, stride: 400, pixel_bytes: 4, start: 0, red, green, blue, opaque: 0 };
        let annotator = Annotator::new(Arc::new(Legend { decoders: Vec::new() }));
        let mut display = DisplaySink::new(Framebuffer::on(&path, file, geometry)?, annotator);
        for is_covered in [false, true] {
            let mut covers = Covers::new(Style::Solid);
            covers.push(Some(Area { edges: [8.0, 8.0, 31.0, 31.0] }));
            let pixels = FramePool::new(1, 0).keep(&Picture::filled(40, 40, [250, 10, 20]).view());
            let still = pixels.map(|pixels| Still::new(pixels, is_covered.then_some(covers)));
            let mut scene = SharedFrame { still, ..SharedFrame::default() };
            assert_eq!(display.take(&mut scene), ControlFlow::Continue(()));
            let screen = fs::read(&path)?;
            let reds = |range: std::ops::Range<usize>| {
                let places = range.clone().flat_map(|y| range.clone().map(move |x| y * 400 + x * 4));
                places.filter(|&at| screen[at + 2] > 200).count()
            };
            assert_eq!(reds(22..78), if is_covered { 0 } else { 56 * 56 });
            assert!(reds(0..100) > 5000, "the rest is shown");
        }
        Ok(())
    }
}
