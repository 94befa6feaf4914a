//! Measures how sharp a face is, from the values that were sampled for the network.
//!
//! Blur removes fine detail and leaves coarse detail. Second differences over a twelfth of the distance between the eyes measure
//! the fine detail, those over a third the coarse. Motion removes the fine detail of one direction alone, so that the direction
//! with the least counts. Noise has second differences over a single pixel too, blurred detail has hardly any: the least of
//! these is taken off. `docs/behaviour.md` has the doubted shares and the false matches by blur.

use crate::align::face_window::WindowGeometry;

/// Area over brows, eyes, nose and mouth of the aligned frame that is measured, x and y.
const AREA: [[f64; 2]; 2] = [[0.33, 0.67], [0.366, 0.712]];
/// Centres of the eyes in the aligned frame.
const EYES: [[f64; 2]; 2] = [[0.396, 0.427], [0.604, 0.427]];
/// Steps of a second difference, in distances between the eyes.
const FINE: f64 = 1.0 / 12.0;
const COARSE: f64 = 1.0 / 3.0;
/// Directions of the differences: along rows, along columns, and both diagonals.
const DIRECTIONS: [[isize; 2]; 4] = [[1, 0], [0, 1], [1, 1], [-1, 1]];
/// Ratio of fine to coarse detail in sharp faces, for each direction: medians over development faces.
const SHARP: [f32; 4] = [0.13, 0.27, 0.20, 0.20];
/// Coarse detail, squared grey levels, that a face without any is given.
const FLOOR: f32 = 0.1;
/// Every second pixel of every second row is measured, which changes the measure little.
const STRIDE: usize = 2;
/// Least pixels of an area along each side.
const LEAST_SIDE: usize = 8;

/// Where and at which steps a network input is measured.
#[derive(Clone, Debug)]
pub struct SharpnessGrid {
    size: usize,
    columns: [usize; 2],
    rows: [usize; 2],
    fine: isize,
    coarse: isize,
}

impl SharpnessGrid {
    /// Places the grid in an input of `size` pixels; `None` where too little of a face lies in it.
    pub(crate) fn new(geometry: &WindowGeometry, size: usize) -> Option<SharpnessGrid> {
        let place = |[x, y]: [f64; 2]| geometry.to_network(x, y).map(|v| v * size as f64);
        let [left, right] = EYES.map(place);
        let eyes = (right[0] - left[0]).hypot(right[1] - left[1]);
        let [fine, coarse] = [FINE, COARSE].map(|share| (share * eyes).round().max(1.0));
        let [[x0, x1], [y0, y1]] = AREA;
        let (first, last) = (place([x0, y0]), place([x1, y1]));
        // Differences reach beyond the area, and must not reach beyond the input.
        let within = |v: f64| v.clamp(coarse, (size as f64 - coarse).max(coarse)) as usize;
        let [columns, rows] =
            [0, 1].map(|axis| [within(first[axis].min(last[axis])), within(first[axis].max(last[axis]))]);
        let is_measured = [columns, rows].iter().all(|[from, to]| *to >= from + LEAST_SIDE) && coarse > fine;
        is_measured.then_some(SharpnessGrid { size, columns, rows, fine: fine as isize, coarse: coarse as isize })
    }

    /// Measures a plane of the input, in which a grey level is `unit`: about 1 for a sharp face, and 0 without fine detail.
    pub(crate) fn measure(&self, plane: &[f32], unit: f32) -> Option<f32> {
        if plane.len() < self.size * self.size {
            return None;
        }
        let energies = |step: isize| DIRECTIONS.map(|direction| self.energy(plane, step, direction));
        let noise = energies(1).into_iter().fold(f32::INFINITY, f32::min);
        let coarse = energies(self.coarse).iter().sum::<f32>() / DIRECTIONS.len() as f32;
        let detail = energies(self.fine).into_iter().zip(SHARP).map(|(fine, sharp)| (fine - noise).max(0.0) / sharp);
        let sharpness = detail.fold(f32::INFINITY, f32::min) / (coarse + FLOOR * unit * unit);
        sharpness.is_finite().then_some(sharpness)
    }

    /// Returns the mean square of second differences over `step` pixels; over a diagonal, as many pixels as are that far.
    fn energy(&self, plane: &[f32], step: isize, [right, down]: [isize; 2]) -> f32 {
        let step = if right != 0 && down != 0 {
            (step as f32 / std::f32::consts::SQRT_2).round().max(1.0) as isize
        } else {
            step
        };
        let offset = step * (down * self.size as isize + right);
        let (mut sum, mut count) = (0.0f32, 0.0f32);
        for y in (self.rows[0]..self.rows[1]).step_by(STRIDE) {
            for x in (self.columns[0]..self.columns[1]).step_by(STRIDE) {
                let at = y * self.size + x;
                let [before, after] =
                    [-offset, offset].map(|offset| at.checked_add_signed(offset).and_then(|at| plane.get(at)));
                if let (Some(before), Some(middle), Some(after)) = (before, plane.get(at), after) {
                    let second = before - 2.0 * middle + after;
                    (sum, count) = (sum + second * second, count + 1.0);
                }
            }
        }
        sum / count.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::warp::Warp;
    use crate::geometry::Similarity;

    const SIZE: usize = 96;

    fn grid() -> SharpnessGrid {
        let geometry = WindowGeometry::new(Warp::new(0.5).expect("allowed"), Similarity::scaling(1.0));
        SharpnessGrid::new(&geometry, SIZE).expect("the face lies in it")
    }

    /// Returns three layers of random cells, the coarser the stronger, wider than high: as detail is in a face.
    fn cells() -> Vec<f32> {
        let level = |n: usize| ((n * n * 40_503 + n * 65_599 + 12_345) % 1_000_003 % 200) as f32;
        let layer = |i: usize, seed: usize, [w, h]: [usize; 2]| level(seed + i % SIZE / w + 60 * (i / SIZE / h));
        let value = |i| layer(i, 1, [7, 4]) + 2.0 * layer(i, 5000, [17, 11]) + 3.0 * layer(i, 9000, [31, 23]);
        (0..SIZE * SIZE).map(|i| value(i) / 3.0).collect()
    }

    fn noisy(plane: &[f32], amount: f32) -> Vec<f32> {
        let noise = |i: usize| (i * 1_103_515_245 % 1_000_003 % 1000) as f32 / 500.0 - 1.0;
        plane.iter().enumerate().map(|(i, v)| v + amount * noise(i + 17)).collect()
    }

    /// Averages `length` pixels along a direction.
    fn smeared(plane: &[f32], length: usize, [right, down]: [isize; 2]) -> Vec<f32> {
        let at = |i: usize, step: isize| {
            let place = |v: usize, along: isize| (v as isize + step * along).clamp(0, SIZE as isize - 1) as usize;
            plane[place(i / SIZE, down) * SIZE + place(i % SIZE, right)]
        };
        let half = length as isize / 2;
        (0..plane.len()).map(|i| (-half..=half).map(|step| at(i, step)).sum::<f32>() / (2 * half + 1) as f32).collect()
    }

    /// Averages a square three times, which is nearly Gaussian.
    fn blurred(plane: &[f32], length: usize) -> Vec<f32> {
        let once = |plane: &[f32]| smeared(&smeared(plane, length, [1, 0]), length, [0, 1]);
        once(&once(&once(plane)))
    }

    fn measure(plane: &[f32]) -> f32 {
        grid().measure(plane, 1.0).expect("a whole plane")
    }

    #[test]
    fn blur_in_all_directions_or_in_one_lowers_the_sharpness() {
        let sharp = measure(&cells());
        assert!(sharp > 0.5, "{sharp}");
        let wider = [3, 5, 7].map(|length| measure(&blurred(&cells(), length)));
        assert!(wider[0] < sharp && wider.is_sorted_by(|a, b| a > b) && wider[2] < 0.1, "{wider:?}");
        for direction in DIRECTIONS {
            let moved = measure(&smeared(&cells(), 21, direction));
            assert!(moved < 0.2 * sharp, "{direction:?}: {moved}");
        }
    }

    #[test]
    fn noise_contrast_and_brightness_change_little() {
        let (sharp, soft) = (cells(), blurred(&cells(), 7));
        assert!((measure(&noisy(&sharp, 12.0)) / measure(&sharp) - 1.0).abs() < 0.2);
        assert!(measure(&noisy(&soft, 12.0)) < 0.25, "{}", measure(&noisy(&soft, 12.0)));
        let pale: Vec<f32> = sharp.iter().map(|v| 100.0 + 0.2 * v).collect();
        assert!((measure(&pale) / measure(&sharp) - 1.0).abs() < 0.1);
        let normalized: Vec<f32> = sharp.iter().map(|v| v / 127.5 - 1.0).collect();
        assert!((grid().measure(&normalized, 1.0 / 127.5).expect("whole") - measure(&sharp)).abs() < 1e-3);
    }

    #[test]
    fn nothing_to_measure_is_no_sharpness_and_no_panic() {
        assert_eq!(measure(&[7.0; SIZE * SIZE]), 0.0);
        assert_eq!(grid().measure(&[7.0; 9], 1.0), None);
        assert_eq!(grid().measure(&[f32::NAN; SIZE * SIZE], 1.0), None);
        let aside = WindowGeometry::new(Warp::NONE, Similarity { a: 0.1, b: 0.0, tx: 0.9, ty: 0.9 });
        for size in [1, 8, 40] {
            assert!(SharpnessGrid::new(&aside, size).is_none(), "{size}");
        }
    }
}
