//! A face window: one network input, and how it is placed on a face and sampled.
//!
//! Every face has one aligned frame (`Face::to_picture`). The manifest of a bundle gives one window for its input, one for each
//! preprocessing group, or both. Each group fits its own frame to the face: the group's template to the five keypoints, or an upright
//! square to the box. An aligned crop has neither; there the frame lies where a face in the aligned frame has it.

use std::sync::Arc;

use crate::align::appearance::AppearanceTemplate;
use crate::align::crop::Crop;
use crate::align::light::Light;
use crate::align::sharpness::SharpnessGrid;
use crate::align::warp::{Unwarp, Warp};
use crate::detect::detection::Detection;
use crate::error::{Error, ErrorKind, OrError, Result, ensure};
use crate::geometry::{Point, Similarity};
use crate::image::normalization::Normalization;
use faceptor_nn::engine::{Engine, TensorId};
use faceptor_nn::manifest;
use faceptor_nn::manifest::Manifest;
use faceptor_nn::manifest::{Align, Group, GroupBorder, GroupColour, GroupWarp};

/// The five keypoints in the aligned frame (command-line contract): eyes, nose, mouth corners.
pub const TEMPLATE: [Point; 5] = [
    [0.395_833_93, 0.427_651_33],
    [0.604_164_7, 0.426_499_03],
    [0.500_661_5, 0.546_134_38],
    [0.415_076_5, 0.668_097_4],
    [0.587_599_2, 0.667_143_15],
];
/// Centre and longer side of the face's box in the aligned frame: medians over the 4,512 confident and nearly upright
/// faces of the training scenes, whose boxes are the finder's labels.
const BOX_MIDDLE: [f64; 2] = [0.498, 0.507];
const BOX_SIDE: f64 = 0.602;

/// Maximum number of windows of a bundle.
pub const MAX_WINDOWS: usize = 8;

/// Area over brows, eyes, nose and mouth of the aligned frame in which luma is measured, x and y.
const LIGHT_AREA: [[f64; 2]; 2] = [[0.36, 0.64], [0.38, 0.72]];
/// Number of measured points along each side.
const LIGHT_POINTS: usize = 12;

/// How a window's input maps to its frame, for decoding the answers.
#[derive(Clone, Debug)]
pub struct WindowGeometry {
    pub warp: Warp,
    /// Maps coordinates of the window's frame to network coordinates, for painting masks.
    pub unwarp: Unwarp,
    /// Maps the window's frame (0..1) to the aligned frame.
    in_frame: Similarity,
}

impl WindowGeometry {
    /// Creates the geometry; `in_frame` maps the window's frame to the aligned frame.
    pub fn new(warp: Warp, in_frame: Similarity) -> WindowGeometry {
        WindowGeometry { warp, unwarp: Unwarp::new(&warp), in_frame }
    }

    /// Maps a point of the aligned frame to network coordinates.
    pub(crate) fn to_network(&self, x: f64, y: f64) -> [f64; 2] {
        let (x, y) = self.in_frame.inverse().apply(x, y);
        [x, y].map(|v| self.warp.to_network(v))
    }
}

/// The transforms of one face from each window's frame (0..1) to the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowTransforms([Similarity; MAX_WINDOWS]);

impl WindowTransforms {
    /// Places every window at the aligned frame.
    pub fn same(to_picture: Similarity) -> WindowTransforms {
        WindowTransforms([to_picture; MAX_WINDOWS])
    }

    /// Returns the transform of a window; that of the last one for an index out of range.
    pub fn of(&self, window: usize) -> &Similarity {
        &self.0[window.min(MAX_WINDOWS - 1)]
    }

    /// Places the windows at a detected face, or otherwise at the aligned frame `to_picture`.
    pub(crate) fn at(windows: &[FaceWindow], to_picture: &Similarity, found: Option<&Detection>) -> WindowTransforms {
        let mut transforms = WindowTransforms::same(*to_picture);
        for (transform, window) in transforms.0.iter_mut().zip(windows) {
            let fitted = found.and_then(|found| window.fit.to(found));
            *transform = fitted.unwrap_or_else(|| window.geometry.in_frame.then(to_picture));
        }
        transforms
    }
}

/// The feature of a face that a window's frame is fitted to.
enum FrameFit {
    /// The aligned frame itself.
    Frame,
    Keypoints([Point; 5]),
    /// The share of the frame that the box's longer side fills.
    Box(f64),
}

impl FrameFit {
    /// Returns the transform from the window's frame to the picture for a detected face.
    fn to(&self, found: &Detection) -> Option<Similarity> {
        match self {
            FrameFit::Frame => None,
            FrameFit::Keypoints(template) => {
                Similarity::fit(&found.keypoints, template).map(|to_frame| to_frame.inverse())
            }
            FrameFit::Box(scale) => {
                let [left, top, right, bottom] = found.edges.map(f64::from);
                let side = (right - left).max(bottom - top) / scale;
                let [tx, ty] = [(left + right) / 2.0, (top + bottom) / 2.0].map(|middle| middle - side / 2.0);
                (side > 0.0 && side.is_finite()).then_some(Similarity { a: side, b: 0.0, tx, ty })
            }
        }
    }
}

/// One network input with its sampler.
pub struct FaceWindow {
    pub(crate) tensor: String,
    /// The tensor in the engine.
    pub(crate) input: TensorId,
    pub(crate) crop: Crop,
    pub(crate) geometry: Arc<WindowGeometry>,
    fit: FrameFit,
    size: usize,
    /// Indices of the measured points in a plane of the tensor.
    light_points: Vec<usize>,
    /// Where sharpness is measured; `None` where too little of a face lies in the input.
    sharpness: Option<SharpnessGrid>,
    colour: LumaFrom,
}

/// How the tensor's values become luma again.
enum LumaFrom {
    Three(Normalization),
    Grey { mean: f32, std: f32 },
}

impl FaceWindow {
    /// Creates the window of a network with `[input]` and `[frame]`: the aligned frame itself.
    fn of_input(input: &manifest::Input, frame: &manifest::Frame, engine: &Engine) -> Result<FaceWindow> {
        let tensor = check_input(&input.tensor, 3, input.size, engine)?;
        let linear = match frame.warp {
            manifest::Warp::None => 1.0,
            manifest::Warp::Cubic => f64::from(frame.warp_linear),
        };
        let warp =
            Warp::new(linear).or_error(ErrorKind::Bundle, || format!("frame: warp_linear {linear} is not in 0..=1"))?;
        let bgr = input.colour == manifest::Colour::Bgr;
        let normalization = Normalization { mean: input.mean, std: input.std, bgr };
        let crop = Crop::new(input.size, warp, normalization);
        let geometry = Arc::new(WindowGeometry::new(warp, Similarity::scaling(1.0)));
        let light_points = light_points(&geometry, input.size);
        let sharpness = SharpnessGrid::new(&geometry, input.size);
        let (size, colour) = (input.size, LumaFrom::Three(normalization));
        Ok(FaceWindow {
            tensor: input.tensor.clone(),
            input: tensor,
            crop,
            geometry,
            fit: FrameFit::Frame,
            size,
            light_points,
            sharpness,
            colour,
        })
    }

    /// Creates the window of one preprocessing group.
    fn of_group(group: &Group, engine: &Engine) -> Result<FaceWindow> {
        let (name, frame) = (&group.name, &group.frame);
        let input = check_input(&group.tensor, group.colour.channels(), group.size, engine)?;
        let warp = match frame.warp {
            GroupWarp::None => Some(Warp::NONE),
            GroupWarp::Tanh => Warp::tanh(f64::from(frame.warp_tanh), group.size),
        };
        let warp = warp.or_error(ErrorKind::Bundle, || format!("group {name}: its warp is out of range"))?;
        let (fit, in_frame) = match &frame.align {
            Align::Keypoints { template } => (FrameFit::Keypoints(*template), Similarity::fit(template, &TEMPLATE)),
            Align::Box { box_scale } => {
                let scale = f64::from(*box_scale);
                let side = BOX_SIDE / scale;
                let [tx, ty] = BOX_MIDDLE.map(|middle| middle - side / 2.0);
                (FrameFit::Box(scale), Some(Similarity { a: side, b: 0.0, tx, ty }))
            }
        };
        let in_frame =
            in_frame.or_error(ErrorKind::Bundle, || format!("group {name}: its template has no distinct points"))?;
        let number = |numbers: &[f32], channel: usize| numbers.get(channel).copied().unwrap_or(1.0);
        let three = |numbers: &[f32]| [0, 1, 2].map(|channel| number(numbers, channel));
        let bgr = group.colour == GroupColour::Bgr;
        let normalization = Normalization { mean: three(&group.mean), std: three(&group.std), bgr };
        let mut crop = Crop::new(group.size, warp, normalization);
        let mut colour = LumaFrom::Three(normalization);
        if group.colour == GroupColour::Grey {
            let (mean, std) = (number(&group.mean, 0), number(&group.std, 0));
            crop = crop.grey(mean, std);
            colour = LumaFrom::Grey { mean, std };
        }
        if frame.warp == GroupWarp::Tanh {
            // At the rim a network pixel covers dozens of picture pixels, and the authors sample one of them.
            crop = crop.sampled_once();
        }
        if frame.border == GroupBorder::Black {
            crop = crop.black_beyond();
        }
        let geometry = Arc::new(WindowGeometry::new(warp, in_frame));
        let light_points = light_points(&geometry, group.size);
        let (tensor, size) = (group.tensor.clone(), group.size);
        let sharpness = SharpnessGrid::new(&geometry, size);
        Ok(FaceWindow { tensor, input, crop, geometry, fit, size, light_points, sharpness, colour })
    }

    /// Returns the side of its input, pixels.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Measures the light on a face that was sampled into `input`.
    pub(crate) fn light(&self, input: &[f32]) -> Option<Light> {
        let plane = match self.colour {
            LumaFrom::Three(_) => input.len() / 3,
            LumaFrom::Grey { .. } => input.len(),
        };
        let value = |at: usize| input.get(at).copied().unwrap_or_default();
        Light::of(self.light_points.iter().map(|&at| match &self.colour {
            LumaFrom::Three(normalization) => normalization.luma(|channel| value(channel * plane + at)),
            LumaFrom::Grey { mean, std } => value(at) * std + mean,
        }))
    }

    /// Measures the sharpness of a face that was sampled into `input`, in its green or its luma plane.
    pub(crate) fn sharpness(&self, input: &[f32]) -> Option<f32> {
        let unit = match &self.colour {
            LumaFrom::Three(normalization) => 1.0 / normalization.std[1],
            LumaFrom::Grey { std, .. } => 1.0 / std,
        };
        self.sharpness.as_ref()?.measure(self.middle_plane(input), unit)
    }

    /// Computes the appearance of a sampled face, from its green or its luma plane.
    pub(crate) fn glance(&self, input: &[f32]) -> AppearanceTemplate {
        AppearanceTemplate::of(self.middle_plane(input), self.size)
    }

    /// Returns the green plane, or the only one.
    fn middle_plane<'a>(&self, input: &'a [f32]) -> &'a [f32] {
        input.chunks_exact(self.size * self.size).nth(1).unwrap_or(input)
    }

    /// Creates all windows of a bundle, that of `[input]` first, and the keypoint template of its aligned frame: that of
    /// `[frame]`, otherwise [`TEMPLATE`].
    pub(crate) fn all(manifest: &Manifest, engine: &Engine) -> Result<(Vec<FaceWindow>, [Point; 5])> {
        let count = manifest.groups.len() + usize::from(manifest.input.is_some());
        ensure!(
            count <= MAX_WINDOWS,
            Bundle,
            "this bundle looks at a face in {count} ways, the most are {MAX_WINDOWS}"
        );
        let (mut windows, mut template) = (Vec::with_capacity(count), TEMPLATE);
        if manifest.groups.is_empty() || manifest.input.is_some() {
            let missing =
                |what: &str| format!("this bundle answers no tasks: its manifest has neither {what} nor [[group]]");
            let input = manifest.input.as_ref().or_error(ErrorKind::Bundle, || missing("[input]"))?;
            let frame = manifest.frame.as_ref().or_error(ErrorKind::Bundle, || missing("[frame]"))?;
            windows.push(FaceWindow::of_input(input, frame, engine)?);
            template = frame.template;
        }
        for group in &manifest.groups {
            windows.push(FaceWindow::of_group(group, engine)?);
        }
        Ok((windows, template))
    }
}

/// Returns the indices of the measured points that lie inside an input of `size` pixels.
fn light_points(geometry: &WindowGeometry, size: usize) -> Vec<usize> {
    let from_frame = geometry.in_frame.inverse();
    let place = |index: usize, [from, to]: [f64; 2]| from + (to - from) * (index as f64 + 0.5) / LIGHT_POINTS as f64;
    let seen = |v: f64| (0.0..1.0).contains(&v).then_some((v * size as f64) as usize);
    let points = (0..LIGHT_POINTS * LIGHT_POINTS).filter_map(|index| {
        let (x, y) =
            from_frame.apply(place(index % LIGHT_POINTS, LIGHT_AREA[0]), place(index / LIGHT_POINTS, LIGHT_AREA[1]));
        Some(seen(geometry.warp.to_network(y))? * size + seen(geometry.warp.to_network(x))?)
    });
    points.collect()
}

/// Looks up an input of the network and checks its shape.
fn check_input(tensor: &str, channels: usize, size: usize, engine: &Engine) -> Result<TensorId> {
    let shape = [1, channels, size, size];
    let found = engine.shape(tensor).or_error(ErrorKind::Bundle, || format!("no part reads {tensor}"))?;
    ensure!(found == shape, Bundle, "input {tensor} has shape {found:?} instead of {shape:?}");
    engine.input_id(tensor).map_err(|reason| Error::new(ErrorKind::Bundle, format!("{reason:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_contract_s() {
        let middle = [0, 1].map(|axis| (TEMPLATE[0][axis] + TEMPLATE[1][axis]) / 2.0 * 192.0);
        assert!((middle[0] - 96.0).abs() < 0.05 && (middle[1] - 82.0).abs() < 0.05, "{middle:?}");
        let apart = (TEMPLATE[1][0] - TEMPLATE[0][0]).hypot(TEMPLATE[1][1] - TEMPLATE[0][1]) * 192.0;
        assert!((apart - 40.0).abs() < 0.01, "{apart}");
    }

    #[test]
    fn a_box_is_upright_about_the_face_and_a_template_is_laid_on_its_keypoints() {
        let turned = Similarity { a: 150.0, b: 90.0, tx: 40.0, ty: 20.0 };
        let keypoints = TEMPLATE.map(|point| turned.apply_point(point));
        let found = Detection { score: 1.0, edges: [100.0, 60.0, 160.0, 140.0], keypoints };
        let square = FrameFit::Box(0.8).to(&found).expect("a box");
        // Official alignment: x' = (x - x1) / (x2 - x1) of a square of 80 about (130, 100), then 0.8 about its centre.
        assert_eq!((square.apply(0.5, 0.5), square.scale(), square.b), ((130.0, 100.0), 100.0, 0.0));
        assert!(FrameFit::Box(1.0).to(&Detection { edges: [3.0; 4], ..found }).is_none());
        let laid = FrameFit::Keypoints(TEMPLATE).to(&found).expect("distinct points");
        assert!((laid.a - turned.a).abs() < 1e-3 && (laid.ty - turned.ty).abs() < 1e-3, "{laid:?}");
        assert!(FrameFit::Frame.to(&found).is_none());
    }

    #[test]
    fn light_is_read_where_the_face_is() {
        let geometry = WindowGeometry::new(Warp::new(0.5).expect("allowed"), Similarity::scaling(1.0));
        let places = light_points(&geometry, 96);
        assert_eq!(places.len(), LIGHT_POINTS * LIGHT_POINTS);
        for place in places {
            let [x, y] = [place % 96, place / 96].map(|i| geometry.warp.to_frame((i as f64 + 0.5) / 96.0));
            assert!((0.35..0.65).contains(&x) && (0.37..0.73).contains(&y), "{x} {y}");
        }
        // Points outside the window are not measured.
        let aside = WindowGeometry::new(Warp::NONE, Similarity { a: 0.2, b: 0.0, tx: 0.5, ty: 0.5 });
        assert!((10..LIGHT_POINTS * LIGHT_POINTS / 2).contains(&light_points(&aside, 40).len()));
    }
}
