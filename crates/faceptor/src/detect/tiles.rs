//! Divides a large photo into tiles in which small faces are large enough for the detector.

/// Pixels of the detector's input that neighbouring tiles have in common: a face that one tile cuts lies whole in the next.
pub const OVERLAP: usize = 128;
/// Faces from one level's smallest to this many times its size are found there; those beyond, on the next coarser one.
const SPAN: f64 = 5.0;

/// A square part of a photo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tile {
    /// Photo pixels, of which the top-left one has its centre at (0, 0).
    pub middle: [f64; 2],
    /// Photo pixels for each pixel of the detector's input.
    pub step: f64,
    /// Edges that cut the photo, photo pixels: left, top, right, bottom. Infinite where the photo ends before the tile.
    cuts: [f64; 4],
}

impl Tile {
    /// Returns true if a box touches an edge of the tile beyond which the photo goes on.
    pub fn cuts(&self, edges: &[f32; 4]) -> bool {
        // The network rarely places an edge more exactly.
        let margin = 2.0 * self.step;
        let [left, top, right, bottom] = edges.map(f64::from);
        let [cut_left, cut_top, cut_right, cut_bottom] = self.cuts;
        left < cut_left + margin || top < cut_top + margin || right > cut_right - margin || bottom > cut_bottom - margin
    }
}

/// Returns the steps of the levels that lie between the whole photo, seen at `coarse`, and `fine`, which is the last; none if
/// the whole photo shows as much.
pub fn steps(coarse: f64, fine: f64) -> impl Iterator<Item = f64> {
    let ratio = coarse / fine;
    let count = if ratio > 1.0 && ratio.is_finite() { (ratio.ln() / SPAN.ln()).ceil() } else { 0.0 };
    (0..count as i32).rev().map(move |level| fine * ratio.powf(f64::from(level) / count))
}

/// Returns the tiles, each of `side` pixels of the detector's input, that cover a photo at a step.
pub fn cover(photo: [usize; 2], side: usize, step: f64) -> impl Iterator<Item = Tile> {
    let [across, down] = photo.map(|length| Axis::new(length, side, step));
    (0..across.count * down.count).map(move |index| {
        let (column, row) = (index % across.count, index / across.count);
        let ([left, x, right], [top, y, bottom]) = (across.tile(column), down.tile(row));
        Tile { middle: [x, y], step, cuts: [left, top, right, bottom] }
    })
}

/// Returns the number of tiles that [`cover`] a photo.
pub fn count(photo: [usize; 2], side: usize, step: f64) -> usize {
    let [across, down] = photo.map(|length| Axis::new(length, side, step).count);
    across.saturating_mul(down)
}

/// The tiles along one axis.
#[derive(Clone, Copy)]
struct Axis {
    count: usize,
    /// The photo's length and that of a tile, photo pixels.
    length: f64,
    side: f64,
}

impl Axis {
    fn new(length: usize, side: usize, step: f64) -> Axis {
        let (length, advance) =
            (length as f64, side.saturating_sub(OVERLAP).max(side.div_ceil(2)).max(1) as f64 * step);
        let side = side as f64 * step;
        let count = 1 + ((length - side) / advance).ceil().max(0.0) as usize;
        Axis { count, length, side }
    }

    /// Returns where a tile begins if it cuts the photo there, its middle, and where it ends if it cuts the photo there.
    fn tile(&self, index: usize) -> [f64; 3] {
        let room = self.length - self.side;
        let first = if self.count == 1 { room / 2.0 } else { room * index as f64 / (self.count - 1) as f64 };
        let begin = if index == 0 { f64::NEG_INFINITY } else { first - 0.5 };
        let end = if index + 1 == self.count { f64::INFINITY } else { first + self.side - 0.5 };
        [begin, first + self.side / 2.0 - 0.5, end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_face_lies_whole_in_a_tile() {
        for photo in [[12_000, 2000], [4000, 3000], [641, 640], [100, 9000], [1, 1], [1000, 1000]] {
            let step = 1.2;
            let tiles: Vec<Tile> = cover(photo, 640, step).collect();
            assert_eq!(tiles.len(), count(photo, 640, step));
            // As wide as the overlap, less the margins.
            let face = (OVERLAP as f64 - 4.0) * step;
            let last = photo.map(|length| (length as f64 - face).max(0.0));
            for x in 0..40 {
                for y in 0..40 {
                    let at = [last[0] * f64::from(x) / 39.0, last[1] * f64::from(y) / 39.0];
                    let edges = [at[0], at[1], at[0] + face, at[1] + face].map(|edge| edge as f32);
                    let reach = 320.0 * step + 1.0;
                    let holds = |tile: &Tile| {
                        let inside =
                            |axis: usize| (at[axis] + face / 2.0 - tile.middle[axis]).abs() + face / 2.0 <= reach;
                        !tile.cuts(&edges) && (photo[0] < 640 || inside(0)) && (photo[1] < 640 || inside(1))
                    };
                    assert!(tiles.iter().any(holds), "{photo:?}: a face at {at:?}");
                }
            }
        }
    }

    #[test]
    fn levels_reach_from_small_faces_to_the_whole_photo() {
        assert_eq!(steps(0.8, 1.2).count(), 0, "the whole photo shows more");
        assert_eq!(steps(1.2, 1.2).count(), 0);
        assert_eq!(steps(1.6, 1.2).collect::<Vec<_>>(), [1.2]);
        let levels: Vec<f64> = steps(18.75, 1.2).collect();
        assert_eq!(levels.len(), 2);
        assert!(levels[1] == 1.2 && levels[0] / levels[1] <= SPAN && 18.75 / levels[0] <= SPAN, "{levels:?}");
    }

    #[test]
    fn the_number_of_tiles_grows_with_the_area() {
        let tiles = |photo| count(photo, 640, 1.2);
        assert_eq!([tiles([768, 500]), tiles([4000, 3000]), tiles([8192, 8192])], [1, 35, 196]);
    }
}
