//! Compares what a face window shows with what it showed before, independent of the light.

/// Correlation below which two templates show different things.
const MIN_CORRELATION: f32 = 0.5;
/// Cells of a template along each side.
const CELLS: usize = 8;

/// The centre of a face's crop in 8 x 8 cells, with zero mean and unit length: two crops of one face correlate in any
/// light.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppearanceTemplate([f32; CELLS * CELLS]);

impl Default for AppearanceTemplate {
    fn default() -> AppearanceTemplate {
        AppearanceTemplate([0.0; CELLS * CELLS])
    }
}

impl AppearanceTemplate {
    /// Computes the template of the middle two thirds of one plane (`size` x `size` values) of the network's input:
    /// with a foveal warp that is the face without its background.
    pub fn of(plane: &[f32], size: usize) -> AppearanceTemplate {
        let mut cells = [0.0; CELLS * CELLS];
        let (first, block) = (size / 6, (size * 2 / 3 / CELLS).max(1));
        if plane.len() < size * size || first + CELLS * block > size {
            return AppearanceTemplate::default();
        }
        for (row, line) in plane.chunks_exact(size).skip(first).take(CELLS * block).enumerate() {
            let cells = &mut cells[row / block * CELLS..][..CELLS];
            for (cell, pixels) in cells.iter_mut().zip(line[first..].chunks_exact(block)) {
                *cell += pixels.iter().sum::<f32>();
            }
        }
        let mean = cells.iter().sum::<f32>() / cells.len() as f32;
        cells.iter_mut().for_each(|cell| *cell -= mean);
        let length = cells.iter().map(|cell| cell * cell).sum::<f32>().sqrt();
        // A flat crop resembles nothing.
        let scale = if length > 1e-3 { 1.0 / length } else { 0.0 };
        AppearanceTemplate(cells.map(|cell| cell * scale))
    }

    /// Returns the correlation of the two, -1 to 1.
    pub fn correlation(&self, other: &AppearanceTemplate) -> f32 {
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// Returns true if both show the same thing.
    pub fn resembles(&self, other: &AppearanceTemplate) -> bool {
        self.correlation(other) >= MIN_CORRELATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_face_correlates_in_any_light_and_other_things_do_not() {
        let plane =
            |value: &dyn Fn(usize, usize) -> f32| -> Vec<f32> { (0..96 * 96).map(|i| value(i % 96, i / 96)).collect() };
        let face = |x: usize, y: usize| ((x / 20 + y / 16) % 3) as f32 + x as f32 / 100.0;
        let seen = AppearanceTemplate::of(&plane(&face), 96);
        let brighter = AppearanceTemplate::of(&plane(&|x, y| 7.0 + 1.7 * face(x, y)), 96);
        let beside = AppearanceTemplate::of(&plane(&|x, y| face(x + 3, y + 2)), 96);
        assert!(seen.correlation(&brighter) > 0.999 && seen.resembles(&beside), "{}", seen.correlation(&beside));
        let noise = AppearanceTemplate::of(&plane(&|x, y| ((x * 7919 + y * 104_729) % 251) as f32), 96);
        let wall = AppearanceTemplate::of(&plane(&|_, _| 0.4), 96);
        assert!(!seen.resembles(&noise) && !seen.resembles(&wall) && !wall.resembles(&wall));
        assert_eq!(AppearanceTemplate::of(&[1.0; 4], 2), AppearanceTemplate::default(), "too small to see anything");
    }
}
