//! Resizes pictures for display.

use faceptor::stages::{Picture, Pixels};

/// Resizes pictures by bilinear interpolation. The weights of a size are computed once.
#[derive(Default)]
pub struct Resizer {
    /// Width and height before and after.
    sizes: [[usize; 2]; 2],
    columns: Vec<Step>,
    rows: Vec<Step>,
    /// A halved copy, for results smaller than half the source.
    halved: Picture,
}

/// The two source pixels on one axis around a target pixel, and the weight of the second, 0 to 256.
#[derive(Clone, Copy)]
struct Step {
    first: usize,
    second: usize,
    share: u32,
}

impl Resizer {
    /// Scales `source` into `target`, which gets `size` (width and height, at least 1).
    pub fn resize(&mut self, source: &Picture, size: [usize; 2], target: &mut Picture) {
        target.reshape(size[0], size[1]);
        // Below half the size, bilinear interpolation would skip pixels.
        let too_large = |picture: &Picture| picture.width() >= 2 * size[0] && picture.height() >= 2 * size[1];
        if too_large(source) {
            let mut halved = source.halved();
            while too_large(&halved) {
                halved = halved.halved();
            }
            self.halved = halved;
            let halved = std::mem::take(&mut self.halved);
            self.interpolate(&halved, target);
            self.halved = halved;
        } else if [source.width(), source.height()] == size {
            target.bytes_mut().copy_from_slice(source.bytes());
        } else {
            self.interpolate(source, target);
        }
    }

    fn interpolate(&mut self, source: &Picture, target: &mut Picture) {
        let sizes = [[source.width(), source.height()], [target.width(), target.height()]];
        if self.sizes != sizes {
            self.sizes = sizes;
            self.columns = steps(sizes[0][0], sizes[1][0]);
            self.rows = steps(sizes[0][1], sizes[1][1]);
        }
        let (stride, bytes) = (source.width() * 3, source.bytes());
        let rows = target.bytes_mut().chunks_exact_mut(sizes[1][0] * 3).zip(&self.rows);
        for (row, across) in rows {
            let (upper, lower) =
                (&bytes[across.first * stride..][..stride], &bytes[across.second * stride..][..stride]);
            for (pixel, along) in row.as_chunks_mut::<3>().0.iter_mut().zip(&self.columns) {
                let (left, right) = (along.first * 3, along.second * 3);
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let mix = |row: &[u8]| {
                        let [a, b] = [row[left + channel], row[right + channel]].map(u32::from);
                        a * (256 - along.share) + b * along.share
                    };
                    let both = mix(upper) * (256 - across.share) + mix(lower) * across.share;
                    *value = ((both + (1 << 15)) >> 16) as u8;
                }
            }
        }
    }
}

/// Returns the steps of `to` pixels on an axis of `from` pixels, by pixel centres.
fn steps(from: usize, to: usize) -> Vec<Step> {
    let place = |at: usize| {
        let position = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let first = position as usize;
        let share = ((position - first as f64) * 256.0).round() as u32;
        Step { first, second: (first + 1).min(from - 1), share }
    };
    (0..to).map(place).collect()
}

/// Returns the largest size within `room` that keeps the aspect ratio of a picture. Enlarges it only if `grow`.
pub fn fitting(picture: [usize; 2], room: [usize; 2], grow: bool) -> [usize; 2] {
    let [width, height] = picture.map(|side| side.max(1) as f64);
    let factor = (room[0] as f64 / width).min(room[1] as f64 / height);
    let factor = if grow { factor } else { factor.min(1.0) };
    [width * factor, height * factor].map(|side| (side.round() as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_interpolated() {
        let source = Picture::from_rgb(2, 1, vec![0, 100, 0, 200, 100, 0]).expect("two pixels");
        let (mut resizer, mut target) = (Resizer::default(), Picture::default());
        resizer.resize(&source, [4, 2], &mut target);
        let reds: Vec<u8> = (0..4).map(|x| target.rgb(x, 1)[0]).collect();
        assert_eq!(reds, [0, 50, 150, 200]);
        assert!((0..8).all(|i| target.rgb(i % 4, i / 4)[1] == 100));
        // The same size is a copy; for another size the weights are recomputed.
        resizer.resize(&source, [2, 1], &mut target);
        assert_eq!(target, source);
        resizer.resize(&source, [1, 1], &mut target);
        assert_eq!(target.rgb(0, 0), [100, 100, 0]);
    }

    #[test]
    fn magnified_picture_keeps_its_corners() {
        let picture = Picture::from_rgb(2, 1, vec![0, 0, 0, 200, 100, 50]).expect("six bytes");
        let mut large = Picture::default();
        Resizer::default().resize(&picture, [8, 4], &mut large);
        assert_eq!((large.rgb(0, 0), large.rgb(7, 3)), ([0; 3], [200, 100, 50]));
        assert!((1..200).contains(&large.rgb(4, 1)[0]));
    }

    #[test]
    fn downscaling_skips_no_pixel() {
        let mut source = Picture::filled(64, 64, [0; 3]);
        source.bytes_mut()[3 * (37 * 64 + 21)..][..3].fill(255);
        let mut target = Picture::default();
        Resizer::default().resize(&source, [9, 9], &mut target);
        assert!(target.bytes().iter().any(|&value| value > 0));
    }

    #[test]
    fn pictures_keep_their_aspect_ratio() {
        assert_eq!(fitting([640, 480], [1280, 800], true), [1067, 800]);
        assert_eq!(fitting([640, 480], [1280, 800], false), [640, 480]);
        assert_eq!(fitting([1920, 1080], [960, 720], false), [960, 540]);
        assert_eq!(fitting([10_000, 1], [100, 100], false), [100, 1]);
    }
}
