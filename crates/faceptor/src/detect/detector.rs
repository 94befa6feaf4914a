//! Detects faces: runs the finder network on the picture at a few sizes and decodes its cells into boxes and
//! keypoints.

use crate::detect::detection::{Candidates, Detection, Detections, MAX_FACES};
use crate::detect::letterbox::Letterbox;
use crate::detect::placement::Placement;
use crate::error::{Error, ErrorKind, OrError, Result, ensure};
use crate::image::normalization::Normalization;
use crate::image::picture::{Picture, Pixels, Pyramid};
use faceptor_nn::engine::{Engine, TensorId};
use faceptor_nn::manifest;

/// Values of a cell: score logit, left, top, right, bottom, five keypoints (x, y); distances in strides.
const CHANNELS: usize = 15;
/// A size that magnifies the picture more than this is skipped, unless it is the smallest: it would show no detail
/// that the smaller size lacks. `models/faceptor_models/finder/evaluate.py` does the same.
pub(super) const MAX_MAGNIFICATION: f64 = 1.25;

/// The purpose of a detection: the manifest may reserve some sizes for photos and some for the live loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Runs every size for which the photo has enough detail; small faces count more than time.
    Photo,
    /// Runs the sizes that fit into a frame period.
    Live,
}

/// One output of one size.
pub(super) struct Grid {
    pub(super) tensor: TensorId,
    pub(super) cells: Cells,
}

/// The cells of an output, each of `stride` pixels of the input along a side.
pub(super) struct Cells {
    stride: usize,
    columns: usize,
    rows: usize,
}

/// The detector at one input size.
pub(super) struct Size {
    pub(super) input: TensorId,
    pub(super) letterbox: Letterbox,
    pub(super) grids: Vec<Grid>,
    pub(super) width: usize,
    pub(super) height: usize,
    photo: bool,
    pub(super) live: bool,
    /// The input of [`Detector::sweep`]; empty if the size is not used in the live loop.
    swept: Vec<f32>,
}

impl Size {
    fn serves(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Photo => self.photo,
            Purpose::Live => self.live,
        }
    }

    /// Returns the shorter side of the input.
    pub(super) fn shorter_side(&self) -> usize {
        self.width.min(self.height)
    }

    /// Returns true if this size would magnify the picture needlessly.
    pub(super) fn magnifies(&self, [width, height]: [usize; 2]) -> bool {
        let fit = |side: usize, of: usize| side as f64 / of as f64;
        fit(self.width, width).min(fit(self.height, height)) > MAX_MAGNIFICATION
    }
}

/// A frame whose pixels an input of the finder is filled from. A search takes it as an object, so that it is compiled once and not for
/// every pixel format; the loops over pixels are compiled for each.
pub(super) trait Samples {
    /// Returns width and height in pixels.
    fn size(&self) -> [usize; 2];
    /// Fills an input with the whole picture.
    fn fill_letterbox(&self, letterbox: &mut Letterbox, normalization: &Normalization, input: &mut [f32]);
    /// Fills an input with a part of the picture.
    fn fill_placement(&self, placement: &Placement, normalization: &Normalization, input: &mut [f32]);
}

impl<P: Pixels> Samples for P {
    fn size(&self) -> [usize; 2] {
        [self.width(), self.height()]
    }

    fn fill_letterbox(&self, letterbox: &mut Letterbox, normalization: &Normalization, input: &mut [f32]) {
        letterbox.fill(self, normalization, input);
    }

    fn fill_placement(&self, placement: &Placement, normalization: &Normalization, input: &mut [f32]) {
        placement.fill_sparse(self, normalization, input);
    }
}

/// Runs a bundle's finder network; keeps its buffers from picture to picture.
pub struct Detector {
    /// By their areas.
    pub(super) sizes: Vec<Size>,
    pub(super) normalization: Normalization,
    pub(super) threshold: f32,
    pub(super) overlap: f32,
    pub(super) candidates: Box<Candidates>,
    /// Candidates of a photo whose scores are below the threshold.
    pub(super) weak: Box<Candidates>,
}

impl Detector {
    /// Creates a detector; fails if the engine's shapes contradict the manifest's strides.
    pub fn new(spec: &manifest::Finder, engine: &Engine) -> Result<Detector> {
        let mut sizes = Vec::with_capacity(spec.sizes.len());
        for size in &spec.sizes {
            let expected = [1, 3, size.height, size.width];
            let input =
                engine.shape(&size.input).or_error(ErrorKind::Bundle, || format!("finder: no input {}", size.input))?;
            ensure!(
                input == expected,
                Bundle,
                "finder: input {} has shape {input:?} instead of {expected:?}",
                size.input
            );
            let mut grids = Vec::with_capacity(spec.strides.len());
            for (tensor, &stride) in size.outputs.iter().zip(&spec.strides) {
                let shape =
                    engine.shape(tensor).or_error(ErrorKind::Bundle, || format!("finder: no output {tensor}"))?;
                let (rows, columns) = (size.height.div_ceil(stride), size.width.div_ceil(stride));
                let expected = [1, CHANNELS, rows, columns];
                ensure!(
                    shape == expected,
                    Bundle,
                    "finder: output {tensor} has shape {shape:?} instead of {expected:?}"
                );
                let tensor = engine.output_id(tensor).map_err(Error::network)?;
                grids.push(Grid { tensor, cells: Cells { stride, columns, rows } });
            }
            sizes.push(Size {
                input: engine.input_id(&size.input).map_err(Error::network)?,
                letterbox: Letterbox::new(size.width, size.height),
                grids,
                width: size.width,
                height: size.height,
                photo: size.photo,
                live: size.live,
                swept: vec![0.0; if size.live { 3 * size.width * size.height } else { 0 }],
            });
        }
        sizes.sort_by_key(|size| size.width * size.height);
        let bgr = spec.colour == manifest::Colour::Bgr;
        Ok(Detector {
            sizes,
            normalization: Normalization { mean: spec.mean, std: spec.std, bgr },
            threshold: spec.score_threshold,
            overlap: spec.nms_iou,
            candidates: Box::default(),
            weak: Box::default(),
        })
    }

    /// Returns the faces of a picture, best first, at most `limit`: runs every size for the purpose that does not
    /// magnify the picture needlessly, and applies non-maximum suppression.
    pub fn find(
        &mut self,
        engine: &mut Engine,
        picture: &impl Pixels,
        purpose: Purpose,
        limit: usize,
    ) -> Result<Detections> {
        self.find_in(engine, picture, purpose, limit)
    }

    fn find_in(
        &mut self,
        engine: &mut Engine,
        picture: &dyn Samples,
        purpose: Purpose,
        limit: usize,
    ) -> Result<Detections> {
        self.candidates.clear();
        let mut smallest = true;
        for size in self.sizes.iter_mut().filter(|size| size.serves(purpose)) {
            if !std::mem::take(&mut smallest) && size.magnifies(picture.size()) {
                continue;
            }
            size.letterbox.set_sparse(purpose == Purpose::Live);
            let input = engine.input(size.input).map_err(Error::network)?;
            picture.fill_letterbox(&mut size.letterbox, &self.normalization, input);
            let candidates = &mut self.candidates;
            collect(size, self.threshold, engine, picture.size(), |found| candidates.push(found))?;
        }
        Ok(self.candidates.suppress(self.overlap, limit))
    }

    /// Returns the faces of a frame that are turned by about `roll` degrees, for the live loop. The scale is that of the
    /// upright search, so the input does not cover the corners of the frame.
    pub fn find_rolled(
        &mut self,
        engine: &mut Engine,
        picture: &impl Pixels,
        roll: f32,
        limit: usize,
    ) -> Result<Detections> {
        self.find_rolled_in(engine, picture, roll, limit)
    }

    fn find_rolled_in(
        &mut self,
        engine: &mut Engine,
        picture: &dyn Samples,
        roll: f32,
        limit: usize,
    ) -> Result<Detections> {
        self.candidates.clear();
        let mut smallest = true;
        for size in self.sizes.iter().filter(|size| size.live) {
            if !std::mem::take(&mut smallest) && size.magnifies(picture.size()) {
                continue;
            }
            let place = Placement::middle(picture.size(), roll, [size.width, size.height]);
            let input = engine.input(size.input).map_err(Error::network)?;
            picture.fill_placement(&place, &self.normalization, input);
            for grid in &size.grids {
                let output = engine.output(grid.tensor).map_err(Error::network)?;
                decode(output, &grid.cells, self.threshold, |found| self.candidates.push(place.to_picture(&found)));
            }
        }
        Ok(self.candidates.suppress(self.overlap, limit))
    }

    /// Returns how many faces the last search left out because of its limit: at least as many, in a crowd.
    pub fn left_out(&self) -> usize {
        self.candidates.left_out()
    }

    /// Returns the sizes for photos that do not magnify a photo needlessly, the smallest in any case.
    pub(super) fn photo_sizes(&self, photo: &Picture) -> Vec<usize> {
        let serving = (0..self.sizes.len()).filter(|&size| self.sizes[size].photo);
        serving
            .enumerate()
            .filter(|&(nth, size)| nth == 0 || !self.sizes[size].magnifies([photo.width(), photo.height()]))
            .map(|(_, size)| size)
            .collect()
    }

    /// Returns the size for photos whose input is as long as `pixels` on its shorter side, or else the largest.
    pub(super) fn photo_size_of(&self, pixels: f64) -> Option<usize> {
        let mut serving = (0..self.sizes.len()).filter(|&size| self.sizes[size].photo);
        let fits = |&size: &usize| self.sizes[size].shorter_side() as f64 >= pixels;
        serving.clone().find(fits).or_else(|| serving.next_back())
    }

    /// Finds the upright faces of a whole photo as [`Detector::find`] does, and returns them with those whose scores only
    /// reach `weak`.
    pub(super) fn find_upright(
        &mut self,
        engine: &mut Engine,
        photo: &Picture,
        weak: f32,
    ) -> Result<(Detections, Detections)> {
        self.candidates.clear();
        self.weak.clear();
        for index in self.photo_sizes(photo) {
            let (size, threshold) = (&mut self.sizes[index], self.threshold);
            size.letterbox.set_sparse(false);
            size.letterbox.fill(photo, &self.normalization, engine.input(size.input).map_err(Error::network)?);
            let (candidates, others) = (&mut self.candidates, &mut self.weak);
            collect(size, weak, engine, [photo.width(), photo.height()], |found| match found.score >= threshold {
                true => candidates.push(found),
                false => others.push(found),
            })?;
        }
        Ok((self.candidates.suppress(self.overlap, MAX_FACES), self.weak.suppress(self.overlap, MAX_FACES)))
    }

    /// Runs the network at a size on a part of a photo, and returns the faces whose scores reach `threshold`.
    /// Their coordinates are pixels of the input.
    pub(super) fn look(
        &mut self,
        engine: &mut Engine,
        photo: &Pyramid,
        size: usize,
        place: &Placement,
        threshold: f32,
    ) -> Result<Detections> {
        self.candidates.clear();
        let (size, candidates) = (&self.sizes[size], &mut self.candidates);
        place.fill(photo, &self.normalization, engine.input(size.input).map_err(Error::network)?);
        for grid in &size.grids {
            let output = engine.output(grid.tensor).map_err(Error::network)?;
            decode(output, &grid.cells, threshold, |found| candidates.push(found));
        }
        Ok(self.candidates.suppress(self.overlap, MAX_FACES))
    }

    /// Prepares one of `parts` parts of a later [`Detector::find_swept`], from the top down, so that the work is
    /// spread over several frames. Moving faces are skewed a little, far less than the detector tolerates.
    pub fn sweep(&mut self, picture: &impl Pixels, part: usize, parts: usize) {
        for size in self.sizes.iter_mut().filter(|size| size.live) {
            size.letterbox.set_sparse(true);
            size.letterbox.fill_part(picture, &self.normalization, &mut size.swept, part, parts);
        }
    }

    /// Returns the faces in the prepared input, for the live loop.
    pub fn find_swept(&mut self, engine: &mut Engine, picture: &impl Pixels, limit: usize) -> Result<Detections> {
        self.find_swept_in(engine, [picture.width(), picture.height()], limit)
    }

    fn find_swept_in(&mut self, engine: &mut Engine, picture: [usize; 2], limit: usize) -> Result<Detections> {
        self.candidates.clear();
        let mut smallest = true;
        for size in self.sizes.iter().filter(|size| size.live) {
            if !std::mem::take(&mut smallest) && size.magnifies(picture) {
                continue;
            }
            engine.input(size.input).map_err(Error::network)?.copy_from_slice(&size.swept);
            let candidates = &mut self.candidates;
            collect(size, self.threshold, engine, picture, |found| candidates.push(found))?;
        }
        Ok(self.candidates.suppress(self.overlap, limit))
    }
}

/// Runs one size on its input and hands over every cell whose score reaches `threshold`. `picture` is the picture's size.
pub(super) fn collect(
    size: &Size,
    threshold: f32,
    engine: &mut Engine,
    picture: [usize; 2],
    mut candidate: impl FnMut(Detection),
) -> Result<()> {
    for grid in &size.grids {
        let output = engine.output(grid.tensor).map_err(Error::network)?;
        decode(output, &grid.cells, threshold, |found| candidate(to_picture(&found, &size.letterbox, picture)));
    }
    Ok(())
}

/// Decodes every cell of one output whose score reaches `threshold`, in pixels of the network's input.
pub(super) fn decode(output: &[f32], grid: &Cells, threshold: f32, mut found: impl FnMut(Detection)) {
    let plane = grid.rows * grid.columns;
    let stride = grid.stride as f32;
    for (cell, &logit) in output[..plane].iter().enumerate() {
        let score = 1.0 / (1.0 + (-logit).exp());
        if score.is_nan() || score < threshold {
            continue;
        }
        let middle = |index: usize| (index as f32 + 0.5) * stride - 0.5;
        let (x, y) = (middle(cell % grid.columns), middle(cell / grid.columns));
        let value = |channel: usize| output[channel * plane + cell] * stride;
        let edges = [x - value(1), y - value(2), x + value(3), y + value(4)];
        let keypoints = std::array::from_fn(|k| [x + value(5 + 2 * k), y + value(6 + 2 * k)]);
        found(Detection { score, edges, keypoints });
    }
}

/// Maps a detection to picture pixels and clips its box at the picture's edge.
pub(super) fn to_picture(found: &Detection, letterbox: &Letterbox, picture: [usize; 2]) -> Detection {
    let [left, top, right, bottom] = found.edges;
    let [left, top] = letterbox.to_picture(left, top);
    let [right, bottom] = letterbox.to_picture(right, bottom);
    let keypoints = found.keypoints.map(|[x, y]| letterbox.to_picture(x, y));
    let placed = Detection { score: found.score, edges: [left, top, right, bottom], keypoints };
    placed.clipped(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Cells {
        Cells { stride: 8, columns: 3, rows: 2 }
    }

    #[test]
    fn a_cell_becomes_a_box_and_keypoints_around_its_centre() {
        let mut output = vec![0.0; CHANNELS * 6];
        output[..6].fill(-9.0);
        let cell = 5;
        output[cell] = 2.0;
        for channel in 1..CHANNELS {
            output[channel * 6 + cell] = channel as f32 / 2.0;
        }
        let mut all = Vec::new();
        decode(&output, &grid(), 0.5, |found| all.push(found));
        assert_eq!(all.len(), 1);
        let found = all[0];
        assert!((found.score - 0.880_797).abs() < 1e-5);
        // Column 2, row 1 of stride 8: centre (19.5, 11.5).
        assert_eq!(found.edges, [15.5, 3.5, 31.5, 27.5]);
        assert_eq!(found.keypoints[0], [39.5, 35.5]);
        assert_eq!(found.keypoints[4], [71.5, 67.5]);
    }

    #[test]
    fn the_threshold_is_a_probability_and_numbers_that_are_none_are_dropped() {
        let mut output = vec![0.0; CHANNELS * 6];
        output[..6].copy_from_slice(&[0.0, 0.1, -0.1, f32::NAN, 5.0, -5.0]);
        let mut count = 0;
        decode(&output, &grid(), 0.5, |_| count += 1);
        assert_eq!(count, 3);
    }

    #[test]
    fn boxes_are_cut_at_the_edge_and_keypoints_are_not() {
        let picture = Picture::filled(100, 50, [0; 3]);
        let mut letterbox = Letterbox::new(50, 50);
        let plain = Normalization { mean: [0.0; 3], std: [1.0; 3], bgr: false };
        letterbox.fill(&picture, &plain, &mut vec![0.0; 7500]);
        let found = Detection { score: 0.9, edges: [-10.0, 5.0, 20.0, 80.0], keypoints: [[-1.0, 2.0]; 5] };
        let placed = to_picture(&found, &letterbox, [100, 50]);
        assert_eq!(placed.edges, [0.0, 10.5, 40.5, 50.0]);
        assert_eq!(placed.keypoints[0], [-1.5, 4.5]);
    }
}
