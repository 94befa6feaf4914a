//! Covers heads in a picture, so that no one can be recognised on it.
//!
//! A cover is opaque: the pixels below it are replaced before anything else is drawn, by one colour or by the mean colours of a
//! few large blocks. What cannot be placed covers the whole picture.

use faceptor::stages::{Detection, Face, Picture, Pixels, Point, Prediction};

/// Width and height of a head, and the distance of its middle from that of the face, in longer sides of the face's box. They
/// contain all skin and ears and 99.8 % of the hair above the chin in photos with masks (`docs/privacy.md`).
const HEAD: [f32; 2] = [1.5, 1.7];
const HEAD_ABOVE: f32 = 0.15;
/// Side of the cover of a face whose roll is not known.
const ANY_ROLL: f32 = 2.0;
/// Longer side of a face's box in distances between its eyes, and in distances from its eyes to its mouth.
const BOX_OF_EYES: f32 = 3.0;
const BOX_OF_HEIGHT: f32 = 2.6;
/// Distance of the box's middle above that of the keypoints, in longer sides of the box.
const BOX_ABOVE: f32 = 0.06;
/// Room around landmarks, in longer sides of their box.
const AROUND_LANDMARKS: f32 = 0.2;
/// Side of a face, pixels, below which its box errs by pixels that matter, and the room around it for them.
const TINY_PX: f32 = 16.0;
const TINY_ROOM_PX: f32 = 2.0;
/// Most covers of a picture; more faces cover it whole.
const MAX_AREAS: usize = 256;
/// Blocks across a pixelated head, at most, and pixels across a block, at least.
const BLOCKS: f32 = 8.0;
const LEAST_BLOCK: usize = 4;
/// Colour of a solid cover.
pub const SOLID: [u8; 3] = [40, 40, 44];

/// Style of a cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// At most eight blocks across, each of its mean colour.
    #[default]
    Pixelated,
    /// One colour.
    Solid,
}

/// A rectangle in pixels of the picture; it may reach beyond it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// Left, top, right and bottom edge.
    pub edges: [f32; 4],
}

impl Area {
    /// Returns the whole head of a face, hair and ears included; `None` where the face has no place.
    ///
    /// `landmarks` may be empty. Faces are clipped to the picture where they are reported: the keypoints then show how large the
    /// head is.
    pub fn of_head(face: &Detection, landmarks: &[Point]) -> Option<Area> {
        let [_, _, width, height] = face.xywh();
        let has_place = width > 0.0 && height > 0.0 && face.edges.iter().all(|edge| edge.is_finite());
        let side = width.max(height);
        let mut area = head(face.middle(), side, up(face));
        if side < TINY_PX {
            area = area.grown_by(TINY_ROOM_PX);
        }
        if let Some((middle, side, up)) = by_keypoints(face) {
            let raised = [0, 1].map(|axis| middle[axis] + up[axis] * BOX_ABOVE * side);
            area = area.union(&head(raised, side, Some(up)));
        }
        let points = landmarks.iter().filter(|point| point.iter().all(|value| value.is_finite()));
        if let Some(bounds) = points.map(|&[x, y]| Area { edges: [x, y, x, y] }).reduce(|one, other| one.union(&other))
        {
            area = area.union(&bounds.grown_by(AROUND_LANDMARKS * bounds.side()));
        }
        (has_place && area.edges.iter().all(|edge| edge.is_finite())).then_some(area)
    }

    /// Returns the head of a face with its results.
    pub fn of_face(face: &Face) -> Option<Area> {
        Area::of_head(&face.detection, landmarks(face))
    }

    /// Returns the area with so many times its sides, about the same middle.
    pub fn scaled(&self, factor: f32) -> Area {
        let [left, top, right, bottom] = self.edges;
        let grown = |low: f32, high: f32| (high - low) * (factor - 1.0) / 2.0;
        let (x, y) = (grown(left, right), grown(top, bottom));
        Area { edges: [left - x, top - y, right + x, bottom + y] }
    }

    /// Returns the intersection over union with another area, 0..1.
    pub fn overlap(&self, other: &Area) -> f32 {
        let size = |[left, top, right, bottom]: [f32; 4]| (right - left).max(0.0) * (bottom - top).max(0.0);
        let (a, b) = (self.edges, other.edges);
        let shared = size([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
        let union = size(a) + size(b) - shared;
        if union > 0.0 { shared / union } else { 0.0 }
    }

    fn side(&self) -> f32 {
        let [left, top, right, bottom] = self.edges;
        (right - left).max(bottom - top)
    }

    fn union(&self, other: &Area) -> Area {
        let (a, b) = (self.edges, other.edges);
        Area { edges: [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])] }
    }

    fn grown_by(&self, margin: f32) -> Area {
        let [left, top, right, bottom] = self.edges;
        Area { edges: [left - margin, top - margin, right + margin, bottom + margin] }
    }
}

/// Returns the landmarks of a face that belong to its picture; empty without any.
pub fn landmarks(face: &Face) -> &[Point] {
    let fresh = face.results.iter().filter(|result| result.known && result.stale_frames == 0);
    let mut all = fresh.filter_map(|result| match &result.prediction {
        Prediction::Landmarks(landmarks) => Some(landmarks.points.as_slice()),
        _ => None,
    });
    all.next().unwrap_or_default()
}

/// Returns the area of a head about a face; without the direction to its top, one for every roll.
fn head(middle: Point, side: f32, up: Option<Point>) -> Area {
    let (centre, half) = match up {
        Some([x, y]) => {
            let centre = [middle[0] + x * HEAD_ABOVE * side, middle[1] + y * HEAD_ABOVE * side];
            // The rectangle around an ellipse that is turned with the head.
            let [across, along] = HEAD.map(|part| part * side / 2.0);
            (centre, [(across * y).hypot(along * x), (across * x).hypot(along * y)])
        }
        None => (middle, [ANY_ROLL * side / 2.0; 2]),
    };
    Area { edges: [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]] }
}

/// Returns the unit vector to the top of the head; `None` where the keypoints do not show it.
fn up(face: &Detection) -> Option<Point> {
    let roll = face.roll().to_radians();
    let [left_eye, right_eye, _, left_mouth, right_mouth] = face.keypoints;
    let is_spread = distance(left_eye, right_eye) + distance(left_mouth, right_mouth) > 0.0;
    (roll.is_finite() && is_spread).then(|| [roll.sin(), -roll.cos()])
}

/// Returns the middle, the longer side of the box and the direction to the top that the keypoints show.
fn by_keypoints(face: &Detection) -> Option<(Point, f32, Point)> {
    let [left_eye, right_eye, _, left_mouth, right_mouth] = face.keypoints;
    let between = |a: Point, b: Point| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let (eyes, mouth) = (between(left_eye, right_eye), between(left_mouth, right_mouth));
    let side = (BOX_OF_EYES * distance(left_eye, right_eye)).max(BOX_OF_HEIGHT * distance(eyes, mouth));
    let up = up(face)?;
    side.is_finite().then(|| (between(eyes, mouth), side, up))
}

fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// The covers of one picture. Their memory is inline, so that they are copied without allocating.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Covers {
    style: Style,
    areas: heapless::Vec<Area, MAX_AREAS>,
    is_whole: bool,
}

impl Covers {
    /// Makes a list without covers.
    pub fn new(style: Style) -> Covers {
        Covers { style, ..Covers::default() }
    }

    /// Removes all covers.
    pub fn clear(&mut self) {
        self.areas.clear();
        self.is_whole = false;
    }

    /// Covers an area, or the whole picture where there is none or no room for more.
    pub fn push(&mut self, area: Option<Area>) {
        self.is_whole |= area.is_none_or(|area| self.areas.push(area).is_err());
    }

    /// Covers the whole picture.
    pub fn cover_all(&mut self) {
        self.is_whole = true;
    }

    /// Reports whether the whole picture is covered.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Returns the covers.
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// Reports whether the centre of a face lies below a cover.
    pub fn hide(&self, face: &Face) -> bool {
        let [left, top, right, bottom] = face.detection.edges;
        let [x, y] = [(left + right) / 2.0, (top + bottom) / 2.0];
        let holds = |area: &Area| {
            let [left, top, right, bottom] = area.edges;
            (left..=right).contains(&x) && (top..=bottom).contains(&y)
        };
        self.is_whole || self.areas.iter().any(holds)
    }

    /// Replaces the pixels below the covers.
    pub fn apply(&self, picture: &mut Picture) {
        if self.is_whole {
            let [width, height] = [picture.width(), picture.height()].map(|side| side as f32);
            self.replace(picture, &Area { edges: [0.0, 0.0, width, height] });
            return;
        }
        self.areas.iter().for_each(|area| self.replace(picture, area));
    }

    fn replace(&self, picture: &mut Picture, area: &Area) {
        let [left, top, right, bottom] = area.edges;
        let block = match self.style {
            Style::Pixelated => ((area.side() / BLOCKS).ceil() as usize).max(LEAST_BLOCK),
            Style::Solid => usize::MAX,
        };
        for (from_y, to_y) in blocks(top, bottom, picture.height(), block) {
            for (from_x, to_x) in blocks(left, right, picture.width(), block) {
                let colour = match self.style {
                    Style::Pixelated => mean(picture, [from_x, to_x], [from_y, to_y]),
                    Style::Solid => SOLID,
                };
                for row in rows(picture, [from_x, to_x], [from_y, to_y]) {
                    row.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.copy_from_slice(&colour));
                }
            }
        }
    }
}

/// Divides the part of a range that lies in a picture into blocks from the range's begin on. Every pixel that the range touches
/// belongs to one.
fn blocks(from: f32, to: f32, limit: usize, block: usize) -> impl Iterator<Item = (usize, usize)> {
    // Centres of pixels are whole numbers. The limits keep sums within i64.
    let begin = (from - 0.5).floor().clamp(-1e9, 1e9) as i64;
    let end = ((to + 0.5).ceil().clamp(-1e9, 1e9) as i64 + 1).clamp(0, limit as i64);
    let block = i64::try_from(block).unwrap_or(i64::MAX);
    let first = begin.max(0);
    // The first block that reaches into the picture.
    let mut next = begin.saturating_add((first - begin) / block * block);
    std::iter::from_fn(move || {
        let low = next.max(0);
        (low < end).then(|| {
            next = next.saturating_add(block);
            (low as usize, next.min(end) as usize)
        })
    })
}

fn rows(
    picture: &mut Picture,
    [from_x, to_x]: [usize; 2],
    [from_y, to_y]: [usize; 2],
) -> impl Iterator<Item = &mut [u8]> {
    let stride = picture.width() * 3;
    let rows = picture.bytes_mut().chunks_exact_mut(stride).take(to_y).skip(from_y);
    rows.map(move |row| &mut row[3 * from_x..3 * to_x])
}

fn mean(picture: &mut Picture, across: [usize; 2], down: [usize; 2]) -> [u8; 3] {
    let (mut sum, mut count) = ([0u64; 3], 0u64);
    for pixel in rows(picture, across, down).flat_map(|row| row.as_chunks::<3>().0.iter()) {
        sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(*value));
        count += 1;
    }
    sum.map(|sum| (sum / count.max(1)) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(middle: Point, side: f32, degrees: f32) -> Detection {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let upright = [[-0.17, -0.12], [0.17, -0.12], [0.0, 0.08], [-0.14, 0.24], [0.14, 0.24]];
        let keypoints =
            upright.map(|[x, y]| [0, 1].map(|axis| middle[axis] + side * [cos * x - sin * y, sin * x + cos * y][axis]));
        let half = [0.39 * side, side / 2.0];
        let edges = [middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]];
        Detection { score: 0.9, edges, keypoints }
    }

    fn noise(width: usize, height: usize) -> Picture {
        let bytes = (0..width * height * 3).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        Picture::from_rgb(width, height, bytes).expect("three bytes a pixel")
    }

    #[test]
    fn the_cover_reaches_beyond_the_face_towards_its_top() {
        let side = 100.0;
        for (degrees, top) in [(0.0, 1), (90.0, 2), (180.0, 3), (-90.0, 0)] {
            let found = face([500.0, 400.0], side, degrees);
            let area = Area::of_head(&found, &[]).expect("a place");
            let beyond = |edge: usize| (area.edges[edge] - found.edges[edge]) * if edge < 2 { -1.0 } else { 1.0 };
            assert!((0..4).all(|edge| beyond(edge) >= 9.0), "{degrees}: {area:?}");
            assert!(beyond(top) >= 45.0 && (0..4).all(|edge| beyond(edge) <= beyond(top)), "{degrees}: {area:?}");
        }
        // Landmarks that lie elsewhere are covered too.
        let area =
            Area::of_head(&face([500.0, 400.0], side, 0.0), &[[700.0, 400.0], [f32::NAN, 1e9]]).expect("a place");
        assert!(area.edges[2] >= 700.0 && area.edges[3] < 600.0, "{area:?}");
        // A face whose box ends with the picture is as large as its keypoints say.
        let mut cut = face([500.0, 400.0], side, 0.0);
        cut.edges[1] = 430.0;
        assert!(Area::of_head(&cut, &[]).expect("a place").edges[1] < 340.0);
    }

    #[test]
    fn places_that_are_no_numbers_cover_the_whole_picture() {
        let mut odd: Vec<Detection> = Vec::new();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for edge in 0..4 {
                odd.push(face([50.0, 40.0], 20.0, 0.0));
                odd.last_mut().expect("pushed").edges[edge] = value;
            }
        }
        odd.push(Detection { edges: [10.0, 10.0, 10.0, 10.0], ..face([50.0, 40.0], 20.0, 0.0) });
        odd.push(Detection { edges: [30.0, 30.0, 10.0, 10.0], ..face([50.0, 40.0], 20.0, 0.0) });
        for (number, found) in odd.iter().enumerate() {
            let mut covers = Covers::new(Style::Solid);
            covers.push(Area::of_head(found, &[]));
            let mut picture = noise(64, 48);
            covers.apply(&mut picture);
            assert!(covers.is_whole() && picture == Picture::filled(64, 48, SOLID), "{number}: {found:?}");
        }
        // Keypoints that are no numbers leave the box, with room for every roll.
        let blind = Detection { keypoints: [[f32::NAN; 2]; 5], ..face([50.0, 40.0], 20.0, 0.0) };
        assert_eq!(Area::of_head(&blind, &[]), Some(Area { edges: [30.0, 20.0, 70.0, 60.0] }));
        let mut covers = Covers::new(Style::Solid);
        (0..=MAX_AREAS).for_each(|_| covers.push(Some(Area { edges: [0.0, 0.0, 1.0, 1.0] })));
        assert!(covers.is_whole(), "there is no room for more");
        covers.clear();
        assert!(!covers.is_whole() && covers.areas().is_empty());
    }

    #[test]
    fn covered_pixels_are_replaced_and_others_are_not() {
        let before = noise(90, 70);
        for style in [Style::Solid, Style::Pixelated] {
            for edges in [
                [10.0, 12.0, 60.0, 50.0],
                [-30.0, -20.0, 15.4, 15.4],
                [70.6, 60.2, 200.0, 300.0],
                [-1e30, -1e30, 1e30, 1e30],
                [20.0, 20.0, 20.1, 20.1],
                [-50.0, -50.0, -20.0, -20.0],
            ] {
                let mut after = before.clone();
                let mut covers = Covers::new(style);
                covers.push(Some(Area { edges }));
                covers.apply(&mut after);
                let mut colours = std::collections::HashSet::new();
                for (x, y) in (0..70).flat_map(|y| (0..90).map(move |x| (x, y))) {
                    let inside = |at: usize, low: f32, high: f32| at as f32 >= low - 0.5 && at as f32 <= high + 0.5;
                    if inside(x, edges[0], edges[2]) && inside(y, edges[1], edges[3]) {
                        colours.insert(after.rgb(x, y));
                    } else if !(inside(x, edges[0] - 2.0, edges[2] + 2.0) && inside(y, edges[1] - 2.0, edges[3] + 2.0))
                    {
                        assert_eq!(after.rgb(x, y), before.rgb(x, y), "{edges:?} at {x}, {y}");
                    }
                }
                // Noise has a colour of its own in nearly every pixel.
                let most = if style == Style::Solid { 1 } else { 81 };
                assert!(colours.len() <= most, "{edges:?}: {} colours", colours.len());
            }
        }
    }

    #[test]
    fn a_head_of_any_size_has_few_blocks_of_their_mean() {
        for side in [1.0, 9.0, 30.0, 64.0, 500.0] {
            let mut covers = Covers::new(Style::Pixelated);
            covers.push(Some(Area { edges: [50.0, 50.0, 50.0 + side, 50.0 + side] }));
            let mut picture = noise(600, 600);
            covers.apply(&mut picture);
            let row: Vec<[u8; 3]> = (50..=50 + side as usize).map(|x| picture.rgb(x, 51)).collect();
            let changes = row.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes <= 8, "{side}: {changes} changes");
        }
        let mut ramp = Picture::filled(8, 4, [0; 3]);
        ramp.bytes_mut()
            .as_chunks_mut::<3>()
            .0
            .iter_mut()
            .enumerate()
            .for_each(|(index, pixel)| pixel[0] = (index % 8) as u8 * 10);
        let mut covers = Covers::new(Style::Pixelated);
        covers.push(Some(Area { edges: [0.5, 0.5, 7.0, 3.0] }));
        covers.apply(&mut ramp);
        assert_eq!([0, 3, 4, 7].map(|x| ramp.rgb(x, 2)[0]), [15, 15, 55, 55]);
    }
}
