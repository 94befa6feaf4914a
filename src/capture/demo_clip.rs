//! The demo clip: a public-domain portrait that moves, turns and scales in a 640 x 480 frame.
//!
//! Each frame is computed from its number with additions, multiplications and divisions only, so that every machine draws
//! the same frames. It exercises detection, alignment and all tasks on a real face without a camera.

use anyhow::{Context, Result};

use faceptor::stages::{Picture, Pixels, decode_photo};

/// Number of frames after which the clip repeats.
pub const PERIOD: u64 = 240;
/// Width of a frame, pixels.
pub const WIDTH: usize = 640;
/// Height of a frame, pixels.
pub const HEIGHT: usize = 480;

const PORTRAIT: &[u8] = include_bytes!("../../models/demo/astronaut.jpg");
/// Middle of the face in the portrait, pixels.
const FACE: (f64, f64) = (225.0, 112.0);
/// Colour of the wall behind the portrait.
const WALL: [u8; 3] = [128, 134, 140];
/// tan(20 degrees / 2), of the largest rotation to either side.
const TURN: f64 = 0.176_326_980_708_465;

/// The decoded portrait.
pub struct DemoClip {
    portrait: Picture,
}

/// Position of the portrait in a frame.
struct Pose {
    /// Middle of the face, pixels of the frame.
    middle: (f64, f64),
    /// Frame pixels per pixel of the portrait.
    scale: f64,
    cos: f64,
    sin: f64,
}

/// Returns a smooth wave between -1 and 1 with `cycles` periods per clip, zero and rising at `phase` = 0. It consists of
/// parabolas, because sines differ in the last bit between C libraries.
fn wave(frame: u64, cycles: u64, phase: f64) -> f64 {
    let turns = ((frame % PERIOD) * cycles) as f64 / PERIOD as f64 + phase;
    let t = turns - turns.floor();
    if t < 0.5 { 16.0 * t * (0.5 - t) } else { -16.0 * (t - 0.5) * (1.0 - t) }
}

fn pose(frame: u64) -> Pose {
    let middle = (320.0 + 120.0 * wave(frame, 1, 0.0), 235.0 + 50.0 * wave(frame, 2, 0.25));
    let scale = 1.25 + 0.55 * wave(frame, 1, 0.25);
    // cos and sin of an angle from the tangent of its half.
    let t = TURN * wave(frame, 2, 0.0);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    Pose { middle, scale, cos, sin }
}

impl DemoClip {
    /// Decodes the portrait.
    ///
    /// # Errors
    /// When the embedded portrait cannot be decoded.
    pub fn new() -> Result<DemoClip> {
        let photo = decode_photo(PORTRAIT).context("the embedded portrait")?;
        Ok(DemoClip { portrait: photo.into_picture() })
    }

    /// Draws frame `frame` into `picture`, and reuses its memory.
    pub fn render(&self, frame: u64, picture: &mut Picture) {
        if (picture.width(), picture.height()) != (WIDTH, HEIGHT) {
            *picture = Picture::filled(WIDTH, HEIGHT, WALL);
        }
        let Pose { middle, scale, cos, sin } = pose(frame);
        // Portrait coordinates in 65536ths of a pixel, so that they grow by whole steps along a row.
        let fixed = |value: f64| (value * 65536.0).round() as i64;
        let (step_u, step_v) = (cos / scale, -sin / scale);
        for (y, row) in picture.bytes_mut().as_chunks_mut::<{ WIDTH * 3 }>().0.iter_mut().enumerate() {
            let (dx, dy) = (-middle.0, y as f64 - middle.1);
            let from = [FACE.0 + step_u * dx - step_v * dy, FACE.1 + step_v * dx + step_u * dy].map(fixed);
            self.portrait.sample_line(from, [step_u, step_v].map(fixed), WALL, row);
        }
    }

    /// Returns the middle of the face in frame `frame`, and the size of a pixel of the portrait, both in frame pixels.
    pub fn face(frame: u64) -> ([f64; 2], f64) {
        let pose = pose(frame);
        ([pose.middle.0, pose.middle.1], pose.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_moves_and_repeats() -> Result<()> {
        let demo = DemoClip::new()?;
        let (mut first, mut later, mut again) = (Picture::default(), Picture::default(), Picture::default());
        demo.render(3, &mut first);
        demo.render(60, &mut later);
        demo.render(3 + PERIOD, &mut again);
        assert_eq!(first, again);
        assert_ne!(first, later);
        Ok(())
    }

    #[test]
    fn face_is_drawn_where_it_is_reported() -> Result<()> {
        let demo = DemoClip::new()?;
        let mut picture = Picture::default();
        for frame in [0, 31, 77, 200] {
            demo.render(frame, &mut picture);
            let ([x, y], scale) = DemoClip::face(frame);
            assert!((0.6..1.9).contains(&scale), "scale {scale}");
            let drawn = picture.rgb(x.round() as usize, y.round() as usize);
            let photo = demo.portrait.rgb(FACE.0 as usize, FACE.1 as usize);
            let apart = (0..3).map(|c| drawn[c].abs_diff(photo[c])).max();
            assert!(apart < Some(24), "frame {frame}: {drawn:?} against {photo:?}");
        }
        Ok(())
    }

    #[test]
    fn wave_is_smooth_and_bounded() {
        let values: Vec<f64> = (0..PERIOD).map(|frame| wave(frame, 1, 0.0)).collect();
        assert!(values.iter().all(|v| v.abs() <= 1.0));
        assert!(values.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 0.05));
        assert!(values.iter().any(|&v| v > 0.99) && values.iter().any(|&v| v < -0.99));
    }
}
