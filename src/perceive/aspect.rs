//! Looks at a face under several aspects (mirrored, from nearer and farther), what is said of each turned back, and the mean
//! given out.
//!
//! A face and its mirror image are the same face to a network that was trained on either, but its mistakes on them differ,
//! so that their mean is nearer to the truth; for embeddings it is how Faceptor's authors verify (SPEC A9). So it is with a
//! face that fills a little more or less of the view, which detectors cannot tell exactly either. Every look takes as long
//! as the first: photos have that time, the loop does not. What each number of looks brings is in `models/EXPERIMENTS.md`.

use super::warp::Warp;
use crate::locate::Similarity;
use crate::model::manifest::{Task, TaskKind};

/// How a face is shown to the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aspect {
    /// Side of what is shown, in sides of the frame, about its middle: below 1 from nearer.
    pub zoom: f64,
    /// The left and right of the photo change places.
    pub mirrored: bool,
}

/// The face as it is, as the first look has it.
pub const PLAIN: Aspect = Aspect { zoom: 1.0, mirrored: false };

/// In the order of the looks. The nearest ones come last: they do not see the rim, whose mean is then that of all others.
const ASPECTS: [Aspect; 10] = {
    const fn both(zoom: f64) -> [Aspect; 2] {
        [Aspect { zoom, mirrored: false }, Aspect { zoom, mirrored: true }]
    }
    let ([a, b], [c, d], [e, f], [g, h], [i, j]) = (both(1.0), both(1.1), both(0.9), both(0.8), both(0.7));
    [a, b, c, d, e, f, g, h, i, j]
};

/// The nearest zoom that tasks other than the parsing are asked under: beyond it much of the head is out of view.
const NEAREST_FOR_ALL: f64 = 0.9;

/// How many looks a face may get: one, two with its mirror image, six with both from nearer and farther, ten with both from
/// nearer still, for the parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    One,
    Two,
    Six,
    Ten,
}

impl Looks {
    /// The aspects after the first, which is [`PLAIN`].
    pub fn further(self) -> &'static [Aspect] {
        match self {
            Looks::One => &[],
            Looks::Two => &ASPECTS[1..2],
            Looks::Six => &ASPECTS[1..6],
            Looks::Ten => &ASPECTS[1..],
        }
    }
}

impl Aspect {
    /// Whether a task of this kind is asked under it.
    pub fn serves(self, kind: TaskKind) -> bool {
        self.zoom >= NEAREST_FOR_ALL || kind == TaskKind::Parsing
    }

    /// What is shown (0..1) to the picture, of a face whose frame lies at `to_picture`; mirroring is done after sampling.
    pub fn of(self, to_picture: &Similarity) -> Similarity {
        let shift = (1.0 - self.zoom) / 2.0;
        Similarity { a: self.zoom, b: 0.0, tx: shift, ty: shift }.then(to_picture)
    }

    /// Coordinate of what is shown (0..1) as one of the face's frame.
    fn in_frame(self, f: f64) -> f64 {
        0.5 + (f - 0.5) * self.zoom
    }

    /// The inverse of [`Aspect::in_frame`].
    fn in_view(self, f: f64) -> f64 {
        0.5 + (f - 0.5) / self.zoom
    }

    /// Network coordinate of what is shown, along an axis that is not mirrored, as one of the first look.
    fn to_first(self, n: f64, warp: &Warp) -> f64 {
        match self.zoom == 1.0 {
            true => n,
            false => warp.to_network(self.in_frame(warp.to_frame(n))),
        }
    }

    /// The cells of an axis of `cells` that hold what cell `cell` of the first look's axis shows: the lower one, and the part
    /// of the next. `None` beyond what is shown.
    fn cell(self, cell: usize, cells: usize, warp: &Warp) -> Option<(usize, f32)> {
        if self.zoom == 1.0 {
            return Some((cell, 0.0));
        }
        let last = (cells - 1) as f64;
        let n = warp.to_network(self.in_view(warp.to_frame((cell as f64 + 0.5) / cells as f64)));
        let position = n * cells as f64 - 0.5;
        // Half a cell beyond the outer cells' middles is still theirs.
        (-0.5..=last + 0.5).contains(&position).then(|| {
            let within = position.clamp(0.0, last);
            (within as usize, within.fract() as f32)
        })
    }
}

/// Mirrors planes of rows of `width` numbers in place.
pub fn turn(planes: &mut [f32], width: usize) {
    planes.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}

/// The mean of what the looks at a face say, one look after the other.
#[derive(Debug, Default)]
pub struct Mean {
    /// A task's output, in the first look's terms.
    output: Vec<f32>,
    looks: u16,
}

impl Mean {
    /// Begins anew with the first look's output.
    pub fn begin(&mut self, first: &[f32]) {
        self.output.clear();
        self.output.extend_from_slice(first);
        self.looks = 1;
    }

    /// The mean so far.
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    /// Adds `said`, the same output under a further aspect, seen through `warp`. `grid` is a parsing output's classes, height
    /// and width. Both outputs have the length that the reader has checked; for points and classes so has `flip`, which is
    /// read of mirrored aspects alone.
    pub fn add(&mut self, task: &Task, [_, height, width]: [usize; 3], warp: &Warp, aspect: Aspect, said: &[f32]) {
        self.looks += 1;
        let part = 1.0 / f32::from(self.looks);
        let join = |mean: &mut f32, said: f32| *mean += part * (said - *mean);
        let twin = |index: usize| if aspect.mirrored { task.flip[index] } else { index };
        match task.kind {
            TaskKind::Landmarks => {
                let place = |n: f32| aspect.to_first(f64::from(n), warp) as f32;
                for (index, point) in self.output.chunks_exact_mut(2).enumerate() {
                    let [x, y] = [said[2 * twin(index)], said[2 * twin(index) + 1]];
                    join(&mut point[0], place(if aspect.mirrored { 1.0 - x } else { x }));
                    join(&mut point[1], place(y));
                }
            }
            TaskKind::Parsing => {
                let columns: Vec<_> = (0..width).map(|x| aspect.cell(x, width, warp)).collect();
                let turned = |x: usize| if aspect.mirrored { width - 1 - x } else { x };
                for (index, class) in self.output.chunks_exact_mut(height * width).enumerate() {
                    let said = &said[twin(index) * height * width..][..height * width];
                    for (y, row) in class.chunks_exact_mut(width).enumerate() {
                        let Some((upper, down)) = aspect.cell(y, height, warp) else { continue };
                        let lower = (upper + 1).min(height - 1);
                        let [upper, lower] = [upper, lower].map(|y| &said[y * width..][..width]);
                        for (mean, column) in row.iter_mut().zip(&columns) {
                            let &Some((left, across)) = column else { continue };
                            let right = turned((left + 1).min(width - 1));
                            let left = turned(left);
                            let [above, below] =
                                [upper, lower].map(|row| row[left] + across * (row[right] - row[left]));
                            join(mean, above + down * (below - above));
                        }
                    }
                }
            }
            TaskKind::Age | TaskKind::Expression | TaskKind::Attributes | TaskKind::Recognition => {
                self.output.iter_mut().zip(said).for_each(|(mean, &said)| join(mean, said));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRRORED: Aspect = Aspect { zoom: 1.0, mirrored: true };

    fn task(kind: TaskKind, flip: &[usize]) -> Task {
        Task { flip: flip.to_vec(), ..Task::of_kind(kind) }
    }

    fn mean(task: &Task, grid: [usize; 3], first: &[f32], further: &[(Aspect, &[f32])]) -> Vec<f32> {
        let warp = Warp::new(0.5).expect("allowed");
        let mut mean = Mean::default();
        mean.begin(first);
        further.iter().for_each(|(aspect, said)| mean.add(task, grid, &warp, *aspect, said));
        mean.output().to_vec()
    }

    #[test]
    fn every_row_of_every_plane_is_mirrored() {
        let mut planes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        turn(&mut planes, 3);
        assert_eq!(planes, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0, 12.0, 11.0, 10.0]);
    }

    #[test]
    fn points_trade_places_across_the_middle() {
        // Two eyes and a nose; the mirrored face's first eye is the second one.
        let (first, second) = ([0.25, 0.5, 0.75, 0.375, 0.5, 0.625], [0.25, 0.375, 0.5, 0.5, 0.25, 0.875]);
        let found = mean(&task(TaskKind::Landmarks, &[1, 0, 2]), [0; 3], &first, &[(MIRRORED, &second)]);
        assert_eq!(found, [0.375, 0.5, 0.75, 0.375, 0.625, 0.75]);
    }

    #[test]
    fn classes_trade_places_and_their_columns_are_turned_back() {
        // Three classes of two rows and two columns, the last two being left and right.
        let first = [0.0, 1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0];
        let second = [1.0, 0.0, 3.0, 2.0, 60.0, 50.0, 80.0, 70.0, 20.0, 12.0, 40.0, 30.0];
        let found = mean(&task(TaskKind::Parsing, &[0, 2, 1]), [3, 2, 2], &first, &[(MIRRORED, &second)]);
        assert_eq!(found, [0.0, 1.0, 2.0, 3.0, 11.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]);
    }

    #[test]
    fn values_are_averaged_one_by_one() {
        for kind in [TaskKind::Age, TaskKind::Expression, TaskKind::Attributes, TaskKind::Recognition] {
            let further: [(Aspect, &[f32]); 3] = [
                (MIRRORED, &[0.25, 0.5, 0.25]),
                (Aspect { zoom: 1.1, mirrored: false }, &[0.375, 0.375, 0.5]),
                (Aspect { zoom: 0.9, mirrored: false }, &[0.0, 0.75, 1.0]),
            ];
            let found = mean(&task(kind, &[]), [0; 3], &[0.5, 0.25, 0.25], &further);
            let off = found.iter().zip([0.28125, 0.46875, 0.5]).map(|(a, b): (&f32, f32)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn the_nearest_looks_come_last_and_are_the_parsings_alone() {
        let [six, ten] = [Looks::Six, Looks::Ten].map(Looks::further);
        assert_eq!((six.len(), ten.len(), &ten[..5]), (5, 9, six));
        assert!(ten.iter().skip(1).is_sorted_by(|a, b| a.zoom >= b.zoom));
        assert!(ten.iter().all(|aspect| aspect.serves(TaskKind::Parsing)));
        let of_age: Vec<_> = ten.iter().copied().filter(|aspect| aspect.serves(TaskKind::Age)).collect();
        assert_eq!(of_age, six);
    }

    #[test]
    fn what_is_shown_lies_about_the_frames_middle() {
        let to_picture = Similarity { a: 100.0, b: 20.0, tx: 7.0, ty: 9.0 };
        for Aspect { zoom, mirrored } in ASPECTS {
            let shown = Aspect { zoom, mirrored }.of(&to_picture);
            for (f, g) in [(0.5, 0.5), (0.0, 0.25), (1.0, 0.75)] {
                let expected = to_picture.apply(0.5 + (f - 0.5) * zoom, 0.5 + (g - 0.5) * zoom);
                let found = shown.apply(f, g);
                assert!((found.0 - expected.0).hypot(found.1 - expected.1) < 1e-9, "{zoom}: {found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_point_of_the_face_is_the_same_under_every_aspect() {
        // Where the frame's 0.3, 0.7 lies for the network under each aspect.
        let warp = Warp::new(0.5).expect("allowed");
        let seen = |aspect: Aspect| {
            let [x, y] = [0.3, 0.7].map(|f| warp.to_network(0.5 + (f - 0.5) / aspect.zoom));
            [if aspect.mirrored { 1.0 - x } else { x }, y].map(|n| n as f32)
        };
        let first = seen(PLAIN);
        for aspect in Looks::Ten.further() {
            let found = mean(&task(TaskKind::Landmarks, &[0]), [0; 3], &first, &[(*aspect, &seen(*aspect))]);
            assert!((found[0] - first[0]).abs() < 1e-6 && (found[1] - first[1]).abs() < 1e-6, "{aspect:?}: {found:?}");
        }
    }

    #[test]
    fn a_mask_is_the_same_under_every_aspect_and_its_rim_is_left_to_those_that_see_it() {
        // Each cell tells where it lies in the face's frame, by a slope that no mirroring leaves as it is.
        let (warp, side) = (Warp::new(0.5).expect("allowed"), 48);
        let place = |i: usize, zoom: f64| 0.5 + (warp.to_frame((i as f64 + 0.5) / side as f64) - 0.5) * zoom;
        let plane = |aspect: Aspect| -> Vec<f32> {
            let column = |x: usize| if aspect.mirrored { side - 1 - x } else { x };
            let value = |y: usize, x: usize| (place(column(x), aspect.zoom) + 3.0 * place(y, aspect.zoom)) as f32;
            (0..side * side).map(|i| value(i / side, i % side)).collect()
        };
        let (task, grid, first) = (task(TaskKind::Parsing, &[0]), [1, side, side], plane(PLAIN));
        let further = Looks::Ten.further().iter().map(|aspect| (*aspect, plane(*aspect)));
        for (aspect, said) in further {
            let found = mean(&task, grid, &first, &[(aspect, &said)]);
            let off = found.iter().zip(&first).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Cells that the outer ones see half are worth less.
            assert!(off < 0.02, "{aspect:?}: {off}");
            // What the second look says of the rim counts only where it sees it.
            let other: Vec<f32> = said.iter().map(|value| value + 1.0).collect();
            let moved = mean(&task, grid, &first, &[(aspect, &other)]);
            let shift = |index: usize| moved[index] - first[index];
            assert!((shift(side * side / 2 + side / 2) - 0.5).abs() < 0.01);
            let rim = if aspect.zoom < 1.0 { 0.0 } else { 0.5 };
            assert!((shift(0) - rim).abs() < 0.02, "{aspect:?}: {}", shift(0));
        }
    }
}
