//! Compares what a track shows with what it showed in the last frame, to notice a cut to another person in its first frame.
//!
//! Between two frames one face changes little, whatever it does: its parts move by some pixels, the light changes, a hand
//! covers some of it. Another face differs in all of its parts, even where eyes and mouth lie in the same places. The
//! middle of the face is therefore compared in nine blocks at the best common shift. Light and contrast of a block do not count.
//! The better half of the blocks decides. `docs/behaviour.md` has the rates of errors.

use crate::geometry::Similarity;
use crate::image::picture::Pixels;

/// Cells along each side of a likeness.
const CELLS: usize = 24;
/// Cells by which two likenesses are shifted against each other at most: an error of the alignment by a quarter of the eye
/// distance.
const SHIFT: usize = 3;
/// Cells along each side of a block.
const BLOCK: usize = 6;
/// Blocks along each side, in the middle that remains at every shift.
const BLOCKS: usize = (CELLS - 2 * SHIFT) / BLOCK;
/// The part of the aligned frame that is compared: from brow to chin, without hair and background.
const LEFT: f64 = 0.24;
const TOP: f64 = 0.24;
const WIDTH: f64 = 0.52;
const HEIGHT: f64 = 0.59;
/// Standard deviation in grey levels below which a block shows nothing that could be compared: it is dark, saturated or
/// covered by something plain.
const LEAST_SPREAD: f32 = 4.0;
/// Grey level from which on a cell may be saturated, and cells of a block that may be: a flash changes the pattern of the others.
const SATURATED: f32 = 246.0;
const MOST_SATURATED: usize = 4;
/// Blocks that must show something for a comparison.
const LEAST_BLOCKS: usize = 4;
/// Mean correlation of the better half of the blocks, from which on the predicted place shows the same face: 0.83 and more for one
/// face in motion, 0.79 and less for others.
pub(crate) const SAME: f32 = 0.82;
/// The limit for a face that the detector found where the predicted place showed another. Several positions and turns are tried,
/// and the best of them raises the correlation of other people, too: up to 0.85.
pub(crate) const SAME_FOUND: f32 = 0.88;
/// Both limits after a gap in the film: the face has had time to change.
pub(crate) const SAME_AFTER_GAP: f32 = 0.77;
/// Correlation of a block below which something covers it.
const COVERED: f32 = 0.5;
/// Samples of a cell along each side, at most.
const MOST_SAMPLES: f64 = 4.0;

/// The middle of a face as grey levels of 24 x 24 cells of the aligned frame; cells outside the picture are not a number.
#[derive(Clone, Debug)]
pub struct Likeness {
    cells: [[f32; CELLS]; CELLS],
}

/// The blocks that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    BetterHalf,
    Whole,
}

/// A block with zero mean.
struct Block {
    cells: [[f32; BLOCK]; BLOCK],
    /// Its Euclidean length.
    length: f32,
    /// It has enough contrast to be compared.
    shows: bool,
}

impl Likeness {
    /// Samples the face whose aligned frame (0..1) lies at `to_picture`. Blocks that lie partly outside the picture are not compared.
    pub(crate) fn sample<P: Pixels>(pixels: &P, to_picture: &Similarity) -> Likeness {
        let last = [pixels.width() - 1, pixels.height() - 1].map(|side| side as f64);
        let step = [WIDTH / CELLS as f64, HEIGHT / CELLS as f64];
        // A sample for about three pixels, so that noise and fine texture average out.
        let samples = (to_picture.scale() * step[0] / 3.0).round().clamp(1.0, MOST_SAMPLES) as usize;
        let share = 1.0 / (samples * samples) as f32;
        let mut cells = [[0.0; CELLS]; CELLS];
        for (row, line) in cells.iter_mut().enumerate() {
            for (column, cell) in line.iter_mut().enumerate() {
                let mut sum = [0.0f32; 3];
                let mut is_inside = true;
                for sample in 0..samples * samples {
                    let within = |index: usize| (index as f64 + 0.5) / samples as f64;
                    let u = LEFT + step[0] * (column as f64 + within(sample % samples));
                    let v = TOP + step[1] * (row as f64 + within(sample / samples));
                    let (x, y) = to_picture.apply(u, v);
                    // A coordinate that is not a number becomes 0.
                    let place = [x, y].map(f64::round);
                    let nearest = [place[0].clamp(0.0, last[0]), place[1].clamp(0.0, last[1])];
                    is_inside &= place == nearest;
                    let stored = pixels.stored(nearest[0] as usize, nearest[1] as usize);
                    sum.iter_mut().zip(stored).for_each(|(sum, value)| *sum += f32::from(value));
                }
                let [red, green, blue] = pixels.mean_rgb(sum.map(|sum| sum * share));
                *cell = if is_inside { (red + 2.0 * green + blue) / 4.0 } else { f32::NAN };
            }
        }
        Likeness { cells }
    }

    /// Returns the block in this column and row, with the corner of the blocks at `corner` (column, row of a cell).
    fn block(&self, [column, row]: [usize; 2], corner: [usize; 2]) -> Block {
        let (left, top) = (corner[0] + column * BLOCK, corner[1] + row * BLOCK);
        let mut cells = [[0.0; BLOCK]; BLOCK];
        for (line, from) in cells.iter_mut().zip(&self.cells[top..]) {
            line.copy_from_slice(&from[left..left + BLOCK]);
        }
        let saturated = cells.iter().flatten().filter(|cell| **cell >= SATURATED).count();
        let mean = cells.iter().flatten().sum::<f32>() / (BLOCK * BLOCK) as f32;
        cells.iter_mut().flatten().for_each(|cell| *cell -= mean);
        let length = cells.iter().flatten().map(|cell| cell * cell).sum::<f32>().sqrt();
        // False also for a length that is not a number.
        let shows = length > LEAST_SPREAD * BLOCK as f32 && saturated <= MOST_SATURATED;
        Block { cells, length, shows }
    }

    /// Returns the nine blocks with their corner at `corner`.
    fn blocks(&self, corner: [usize; 2]) -> [Block; BLOCKS * BLOCKS] {
        std::array::from_fn(|index| self.block([index % BLOCKS, index / BLOCKS], corner))
    }

    /// Returns true unless the two show different faces: half of the face suffices, with a correlation of `least`. Likenesses that show too little show
    /// nothing different.
    pub(crate) fn agrees(&self, now: &Likeness, least: f32) -> bool {
        self.agrees_in(Part::BetterHalf, now, least)
    }

    /// Returns true if the two show one face and no part of it is covered.
    pub(crate) fn agrees_wholly(&self, now: &Likeness) -> bool {
        self.agrees_in(Part::Whole, now, SAME)
    }

    fn agrees_in(&self, part: Part, now: &Likeness, least: f32) -> bool {
        let before = self.blocks([SHIFT; 2]);
        let in_place = agreement(part, &before, &now.blocks([SHIFT; 2]));
        if in_place.is_none_or(|agreement| agreement >= least) {
            return true;
        }
        (0..=2 * SHIFT).any(|down| {
            (0..=2 * SHIFT).any(|across| {
                agreement(part, &before, &now.blocks([across, down])).is_some_and(|agreement| agreement >= least)
            })
        })
    }
}

/// Returns the mean correlation of a part of the blocks that show something; `None` for too few of them.
fn agreement(part: Part, before: &[Block], now: &[Block]) -> Option<f32> {
    let both = before.iter().zip(now).filter(|(a, b)| a.shows && b.shows);
    let mut correlations: heapless::Vec<f32, { BLOCKS * BLOCKS }> = both
        .map(|(a, b)| {
            let product = a.cells.iter().flatten().zip(b.cells.iter().flatten()).map(|(a, b)| a * b).sum::<f32>();
            product / (a.length * b.length)
        })
        .collect();
    if correlations.len() < LEAST_BLOCKS {
        return None;
    }
    correlations.sort_unstable_by(|a, b| b.total_cmp(a));
    let count = match part {
        Part::BetterHalf => LEAST_BLOCKS.max(correlations.len().div_ceil(2)),
        Part::Whole => correlations.len(),
    };
    let worst = correlations.last().copied().filter(|worst| part == Part::Whole && *worst < COVERED);
    if worst.is_some() {
        return worst;
    }
    let best = &correlations[..count];
    Some(best.iter().sum::<f32>() / best.len() as f32)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::picture::Picture;

    const SIDE: usize = 160;

    /// A name, and the grey level at x, y after the change.
    type Change<'a> = (&'a str, &'a dyn Fn(f64, f64) -> f64);

    /// Returns a made-up face: smooth spots whose places and sizes depend on the person.
    pub(crate) fn person(number: usize) -> Picture {
        drawn(&|x, y| grey(number, x, y))
    }

    /// Returns a person of whom a hand covers a share, from the left or, below 0, from the right.
    pub(crate) fn behind_a_hand(number: usize, share: f32) -> Picture {
        let edge = SIDE as f64 * (LEFT + WIDTH * f64::from(share.abs()));
        let covers = |x: f64| if share < 0.0 { SIDE as f64 - x < edge } else { x < edge };
        let hand = |x: f64, y: f64| 150.0 + 25.0 * (x / 9.0).sin() * (y / 13.0).cos();
        drawn(&|x, y| if share != 0.0 && covers(x) { hand(x, y) } else { grey(number, x, y) })
    }

    /// Returns a likeness of a picture whose aligned frame is the whole picture, moved by some pixels.
    pub(crate) fn likeness(picture: &Picture, across: f64) -> Likeness {
        Likeness::sample(picture, &Similarity { a: SIDE as f64, b: 0.0, tx: across, ty: 0.0 })
    }

    fn drawn(value: &dyn Fn(f64, f64) -> f64) -> Picture {
        let grey = |index: usize| value((index % SIDE) as f64, (index / SIDE) as f64).clamp(0.0, 255.0) as u8;
        let bytes = (0..SIDE * SIDE).flat_map(|index| [grey(index); 3]).collect();
        Picture::from_rgb(SIDE, SIDE, bytes).expect("three bytes a pixel")
    }

    /// Returns smooth noise of each person's own, with spots of nine pixels.
    fn grey(number: usize, x: f64, y: f64) -> f64 {
        let corner = |column: f64, row: f64| {
            let mixed =
                (column as i64 as u32).wrapping_mul(0x9e37_79b9) ^ (row as i64 as u32).wrapping_mul(0x85eb_ca6b);
            let mixed = (mixed ^ (number as u32).wrapping_mul(0xc2b2_ae35)).wrapping_mul(0x27d4_eb2f);
            f64::from((mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d) >> 16) / 65_536.0
        };
        let [column, row] = [x / 9.0, y / 9.0].map(f64::floor);
        let [across, down] = [x / 9.0 - column, y / 9.0 - row];
        let line = |row: f64| corner(column, row) * (1.0 - across) + corner(column + 1.0, row) * across;
        60.0 + 140.0 * (line(row) * (1.0 - down) + line(row + 1.0) * down)
    }

    #[test]
    fn one_person_agrees_in_any_light_and_with_half_the_face_covered() {
        let before = likeness(&person(1), 0.0);
        let changes: [Change; 6] = [
            ("nothing", &|x, y| grey(1, x, y)),
            ("half the light", &|x, y| 0.5 * grey(1, x, y)),
            ("a flash", &|x, y| 2.2 * grey(1, x, y) + 30.0),
            ("light from the side", &|x, y| (0.6 + x / 200.0) * grey(1, x, y)),
            ("moved by a tenth of the eye distance", &|x, y| grey(1, x + 3.0, y - 2.0)),
            ("a hand over its lower half", &|x, y| {
                if y > 88.0 { 150.0 + 20.0 * (x / 9.0).sin() } else { grey(1, x, y) }
            }),
        ];
        for (name, change) in changes {
            let now = likeness(&drawn(change), 0.0);
            assert!(before.agrees(&now, SAME), "{name}");
            assert_eq!(before.agrees_wholly(&now), !name.contains("hand"), "{name}");
        }
    }

    #[test]
    fn other_people_do_not_agree_wherever_they_lie() {
        for (one, other) in (0..12).flat_map(|one| (one + 1..12).map(move |other| (one, other))) {
            for across in [-4.0, 0.0, 3.0] {
                let agrees = likeness(&person(one), 0.0).agrees(&likeness(&person(other), across), SAME);
                assert!(!agrees, "{one} and {other} at {across}");
            }
        }
    }

    #[test]
    fn what_shows_nothing_is_not_taken_for_another_person() {
        let known = likeness(&person(3), 0.0);
        for level in [0.0, 3.0, 255.0] {
            assert!(known.agrees(&likeness(&drawn(&|x, y| level + 0.02 * grey(5, x, y)), 0.0), SAME), "{level}");
        }
        // Outside the picture, and with coordinates that are not numbers, the nearest pixels are sampled.
        for across in [1e9, f64::NAN] {
            likeness(&person(3), across);
        }
    }
}
