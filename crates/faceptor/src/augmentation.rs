//! Test-time augmentation: runs the network on mirrored and rescaled crops, maps each output back, and averages.
//!
//! The network's errors on a face and on its mirror image differ, so their mean is closer to the truth; Faceptor's authors
//! average embeddings in the same way. Rescaled crops act likewise, since a face detector does not measure the size of a face
//! exactly. Every view takes as long as the first: photos have that time, the live loop does not. `models/EXPERIMENTS.md`
//! has the gain of each number of views.

use crate::align::warp::Warp;
use crate::geometry::Similarity;
use crate::tasks::prediction::{Averaging, Prediction};
use faceptor_nn::manifest::{Task, TaskKind};

/// A view of a face: a crop that is rescaled about its centre, and may be mirrored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentedView {
    /// Side of the crop in sides of the face's frame; below 1 the face is larger in it.
    pub zoom: f64,
    /// Left and right change places.
    pub mirrored: bool,
}

/// In the order in which they are added. The nearest come last: they do not show the rim, whose mean is that of the others.
const VIEWS: [AugmentedView; 10] = {
    const fn both(zoom: f64) -> [AugmentedView; 2] {
        [AugmentedView { zoom, mirrored: false }, AugmentedView { zoom, mirrored: true }]
    }
    let ([a, b], [c, d], [e, f], [g, h], [i, j]) = (both(1.0), both(1.1), both(0.9), both(0.8), both(0.7));
    [a, b, c, d, e, f, g, h, i, j]
};

/// The smallest zoom for tasks other than parsing: below it much of the head is out of view.
const NEAREST_FOR_ALL: f64 = 0.9;

/// How many views of each face the network sees; their mean is the result. Time grows with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Augmentation {
    /// The face as it is, once.
    Off,
    /// Two views: the second is mirrored.
    Mirror,
    /// Six: both from nearer and farther too.
    Six,
    /// Ten: both from nearer still, for parsing; the other tasks have six.
    Ten,
}

impl Augmentation {
    /// Returns the views after the first, which is [`AugmentedView::PLAIN`].
    pub(crate) fn further(self) -> &'static [AugmentedView] {
        match self {
            Augmentation::Off => &[],
            Augmentation::Mirror => &VIEWS[1..2],
            Augmentation::Six => &VIEWS[1..6],
            Augmentation::Ten => &VIEWS[1..],
        }
    }
}

impl AugmentedView {
    /// The face as it is.
    pub const PLAIN: AugmentedView = AugmentedView { zoom: 1.0, mirrored: false };

    /// Reports whether a task of this kind runs on it.
    pub fn serves(self, kind: TaskKind) -> bool {
        self.zoom >= NEAREST_FOR_ALL || Prediction::averaging(kind) == Averaging::Planes
    }

    /// Returns the transform from the view (0..1) to the picture, for a face whose frame lies at `to_picture`. Mirroring is
    /// done after sampling.
    pub fn of(self, to_picture: &Similarity) -> Similarity {
        let shift = (1.0 - self.zoom) / 2.0;
        Similarity { a: self.zoom, b: 0.0, tx: shift, ty: shift }.then(to_picture)
    }

    /// Maps a coordinate of the view (0..1) to the face's frame.
    fn in_frame(self, f: f64) -> f64 {
        0.5 + (f - 0.5) * self.zoom
    }

    /// Maps a coordinate of the frame to this view: the inverse of [`AugmentedView::in_frame`].
    fn in_view(self, f: f64) -> f64 {
        0.5 + (f - 0.5) / self.zoom
    }

    /// Maps a network coordinate of this view, along an axis that is not mirrored, to the first view's.
    fn to_first(self, n: f64, warp: &Warp) -> f64 {
        match self.zoom == 1.0 {
            true => n,
            false => warp.to_network(self.in_frame(warp.to_frame(n))),
        }
    }

    /// Returns the lower one of the two cells, of `cells` along an axis, between which coordinate `n` of the first view lies,
    /// and the weight of the upper one. `None` outside this view.
    fn cell(self, n: f64, cells: usize, warp: &Warp) -> Option<(usize, f32)> {
        let last = (cells - 1) as f64;
        let n = if self.zoom == 1.0 { n } else { warp.to_network(self.in_view(warp.to_frame(n))) };
        let position = n * cells as f64 - 0.5;
        // Half a cell beyond the outer cells' middles is still theirs.
        (-0.5..=last + 0.5).contains(&position).then(|| {
            let within = position.clamp(0.0, last);
            (within as usize, within.fract() as f32)
        })
    }
}

/// Mirrors planes of rows of `width` numbers in place.
pub fn mirror_rows(planes: &mut [f32], width: usize) {
    planes.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}

/// Cells of the mean's grid for each cell of a parsing output, along either axis: nearer views have more detail than the
/// first, which its grid would lose.
const FINER: usize = 2;

/// The mean of a task's outputs over the views of a face, accumulated view by view.
#[derive(Debug, Default)]
pub struct OutputMean {
    /// In the coordinates of the first view.
    output: Vec<f32>,
    /// Classes, height and width of a parsing's mean.
    grid: [usize; 3],
    views: u16,
}

impl OutputMean {
    /// Starts with the output `first` of the first view; the other arguments are those of [`OutputMean::add`].
    pub fn begin(&mut self, task: &Task, grid: [usize; 3], warp: &Warp, first: &[f32]) {
        let [classes, height, width] = grid;
        self.grid = [classes, FINER * height, FINER * width];
        self.output.clear();
        let is_grid = Prediction::averaging(task.kind) == Averaging::Planes;
        let numbers = if is_grid { self.grid.iter().product() } else { first.len() };
        self.output.resize(numbers, 0.0);
        self.views = 0;
        self.add(task, grid, warp, AugmentedView::PLAIN, first);
    }

    /// Returns the mean so far.
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    /// Returns classes, height and width of a parsing's mean, which is finer than an output.
    pub fn grid(&self) -> [usize; 3] {
        self.grid
    }

    /// Adds the output of a further view, whose window has the warp `warp`. The grid is classes, height and width of a
    /// parsing output. The decoder has checked the length of the output, and that of `flip`, which mirrored views need.
    pub fn add(
        &mut self,
        task: &Task,
        [_, height, width]: [usize; 3],
        warp: &Warp,
        view: AugmentedView,
        output: &[f32],
    ) {
        self.views += 1;
        let part = 1.0 / f32::from(self.views);
        let join = |mean: &mut f32, value: f32| *mean += part * (value - *mean);
        let twin = |index: usize| if view.mirrored { task.flip[index] } else { index };
        match Prediction::averaging(task.kind) {
            Averaging::Points => {
                let place = |n: f32| view.to_first(f64::from(n), warp) as f32;
                for (index, point) in self.output.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    let [x, y] = [output[2 * twin(index)], output[2 * twin(index) + 1]];
                    join(&mut point[0], place(if view.mirrored { 1.0 - x } else { x }));
                    join(&mut point[1], place(y));
                }
            }
            Averaging::Planes => {
                let [_, rows, columns] = self.grid;
                let middle = |index: usize, count: usize| (index as f64 + 0.5) / count as f64;
                let across: Vec<_> = (0..columns).map(|x| view.cell(middle(x, columns), width, warp)).collect();
                let turned = |x: usize| if view.mirrored { width - 1 - x } else { x };
                for (index, class) in self.output.chunks_exact_mut(rows * columns).enumerate() {
                    let output = &output[twin(index) * height * width..][..height * width];
                    for (y, row) in class.chunks_exact_mut(columns).enumerate() {
                        let Some((upper, down)) = view.cell(middle(y, rows), height, warp) else { continue };
                        let lower = (upper + 1).min(height - 1);
                        let [upper, lower] = [upper, lower].map(|y| &output[y * width..][..width]);
                        for (mean, column) in row.iter_mut().zip(&across) {
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
            Averaging::Numbers => {
                self.output.iter_mut().zip(output).for_each(|(mean, &value)| join(mean, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRRORED: AugmentedView = AugmentedView { zoom: 1.0, mirrored: true };

    fn task(kind: TaskKind, flip: &[usize]) -> Task {
        Task { flip: flip.to_vec(), ..Task::of_kind(kind) }
    }

    fn mean(task: &Task, grid: [usize; 3], first: &[f32], further: &[(AugmentedView, &[f32])]) -> Vec<f32> {
        let warp = Warp::new(0.5).expect("allowed");
        let mut mean = OutputMean::default();
        mean.begin(task, grid, &warp, first);
        further.iter().for_each(|(view, said)| mean.add(task, grid, &warp, *view, said));
        mean.output().to_vec()
    }

    #[test]
    fn every_row_of_every_plane_is_mirrored() {
        let mut planes = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
        mirror_rows(&mut planes, 3);
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
        // The corners of the finer grid are those of the look's.
        let corners = [0, 2 * FINER - 1].map(|y| [0, 2 * FINER - 1].map(|x| y * 2 * FINER + x)).concat();
        let (classes, _) = found.as_chunks::<{ 4 * FINER * FINER }>();
        let found: Vec<f32> = classes.iter().flat_map(|class| corners.iter().map(|&corner| class[corner])).collect();
        assert_eq!(found, [0.0, 1.0, 2.0, 3.0, 11.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]);
    }

    #[test]
    fn a_finer_grid_lies_between_the_cells_middles() {
        let found = mean(&task(TaskKind::Parsing, &[]), [1, 2, 2], &[0.0, 4.0, 8.0, 12.0], &[]);
        // The outer quarters of the outer cells have no neighbour.
        let places = [0.0, 0.25, 0.75, 1.0];
        let rows = places.map(|y| places.map(|x| 4.0 * x + 8.0 * y));
        assert_eq!(found, rows.concat());
    }

    #[test]
    fn values_are_averaged_one_by_one() {
        for kind in [TaskKind::Age, TaskKind::Expression, TaskKind::Attributes, TaskKind::Recognition] {
            let further: [(AugmentedView, &[f32]); 3] = [
                (MIRRORED, &[0.25, 0.5, 0.25]),
                (AugmentedView { zoom: 1.1, mirrored: false }, &[0.375, 0.375, 0.5]),
                (AugmentedView { zoom: 0.9, mirrored: false }, &[0.0, 0.75, 1.0]),
            ];
            let found = mean(&task(kind, &[]), [0; 3], &[0.5, 0.25, 0.25], &further);
            let off = found.iter().zip([0.28125, 0.46875, 0.5]).map(|(a, b): (&f32, f32)| (a - b).abs());
            assert!(off.fold(0.0, f32::max) < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn the_nearest_views_come_last_and_serve_parsing_alone() {
        let [six, ten] = [Augmentation::Six, Augmentation::Ten].map(Augmentation::further);
        assert_eq!((six.len(), ten.len(), &ten[..5]), (5, 9, six));
        assert!(ten.iter().skip(1).is_sorted_by(|a, b| a.zoom >= b.zoom));
        assert!(ten.iter().all(|view| view.serves(TaskKind::Parsing)));
        let of_age: Vec<_> = ten.iter().copied().filter(|view| view.serves(TaskKind::Age)).collect();
        assert_eq!(of_age, six);
    }

    #[test]
    fn views_are_centred_on_the_aligned_frame() {
        let to_picture = Similarity { a: 100.0, b: 20.0, tx: 7.0, ty: 9.0 };
        for AugmentedView { zoom, mirrored } in VIEWS {
            let shown = AugmentedView { zoom, mirrored }.of(&to_picture);
            for (f, g) in [(0.5, 0.5), (0.0, 0.25), (1.0, 0.75)] {
                let expected = to_picture.apply(0.5 + (f - 0.5) * zoom, 0.5 + (g - 0.5) * zoom);
                let found = shown.apply(f, g);
                assert!((found.0 - expected.0).hypot(found.1 - expected.1) < 1e-9, "{zoom}: {found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_point_of_the_face_is_the_same_in_every_view() {
        // Where the frame's 0.3, 0.7 lies for the network under each view.
        let warp = Warp::new(0.5).expect("allowed");
        let seen = |view: AugmentedView| {
            let [x, y] = [0.3, 0.7].map(|f| warp.to_network(0.5 + (f - 0.5) / view.zoom));
            [if view.mirrored { 1.0 - x } else { x }, y].map(|n| n as f32)
        };
        let first = seen(AugmentedView::PLAIN);
        for view in Augmentation::Ten.further() {
            let found = mean(&task(TaskKind::Landmarks, &[0]), [0; 3], &first, &[(*view, &seen(*view))]);
            assert!((found[0] - first[0]).abs() < 1e-6 && (found[1] - first[1]).abs() < 1e-6, "{view:?}: {found:?}");
        }
    }

    #[test]
    fn a_mask_is_the_same_in_every_view_and_only_views_that_cover_its_rim_decide_it() {
        // Each cell encodes where it lies in the aligned frame, by a slope that no mirroring leaves as it is.
        let (warp, side) = (Warp::new(0.5).expect("allowed"), 96);
        let place = |i: usize, zoom: f64| 0.5 + (warp.to_frame((i as f64 + 0.5) / side as f64) - 0.5) * zoom;
        let plane = |view: AugmentedView| -> Vec<f32> {
            let column = |x: usize| if view.mirrored { side - 1 - x } else { x };
            let value = |y: usize, x: usize| (place(column(x), view.zoom) + 3.0 * place(y, view.zoom)) as f32;
            (0..side * side).map(|i| value(i / side, i % side)).collect()
        };
        let (task, grid, plain) = (task(TaskKind::Parsing, &[0]), [1, side, side], plane(AugmentedView::PLAIN));
        let first = mean(&task, grid, &plain, &[]);
        assert_eq!(first.len(), side * FINER * side * FINER);
        let further = Augmentation::Ten.further().iter().map(|view| (*view, plane(*view)));
        for (view, said) in further {
            let found = mean(&task, grid, &plain, &[(view, &said)]);
            let fine = side * FINER;
            let off = |index: usize| (found[index] - first[index]).abs();
            let middle =
                |index: &usize| [index / fine, index % fine].iter().all(|i| (fine / 4..3 * fine / 4).contains(i));
            let (middle, rim): (Vec<_>, Vec<_>) = (0..fine * fine).partition(middle);
            let [middle, rim] = [middle, rim].map(|cells| cells.into_iter().map(off).fold(0.0, f32::max));
            // The outer halves of the outer cells have the values of the cells' middles.
            assert!(middle < 0.005 && rim < 0.02, "{view:?}: {middle}, {rim}");
            // The second view counts on the rim only where it covers it.
            let other: Vec<f32> = said.iter().map(|value| value + 1.0).collect();
            let moved = mean(&task, grid, &plain, &[(view, &other)]);
            let shift = |index: usize| moved[index] - first[index];
            assert!((shift((side * FINER + 1) * side * FINER / 2) - 0.5).abs() < 0.01);
            let rim = if view.zoom < 1.0 { 0.0 } else { 0.5 };
            assert!((shift(0) - rim).abs() < 0.02, "{view:?}: {}", shift(0));
        }
    }
}
