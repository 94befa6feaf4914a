//! Measures the share of a face that lies inside the picture.
//!
//! Beyond its border the picture is continued by its outermost pixels, so the network reports a whole face, also
//! the landmarks, age and expression of parts that the picture does not show.

use crate::geometry::{Point, Similarity};

/// Centre and half axes of the face oval in the aligned frame. It reaches from hairline to chin and from jaw to jaw. They come from
/// the mean landmarks of the 1,200 training photos that were annotated by hand; the forehead is as high as the nose is long.
const CENTRE: [f64; 2] = [0.503, 0.535];
const HALF: [f64; 2] = [0.243, 0.285];
/// Measured points along each axis.
const POINTS: usize = 16;

/// The shares of a face inside its picture, 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Visibility {
    /// Share of the oval from hairline to chin and from jaw to jaw.
    pub area: f32,
    /// Share of the landmarks; `None` where they are not known.
    pub landmarks: Option<f32>,
}

impl Visibility {
    /// A face of which nothing is known to lie outside.
    pub(crate) const WHOLE: Visibility = Visibility { area: 1.0, landmarks: None };

    /// Measures a face whose aligned frame lies at `to_picture`, in a picture of `size` pixels (width, height).
    pub(crate) fn of(to_picture: &Similarity, landmarks: &[Point], size: [usize; 2]) -> Visibility {
        // A pixel reaches half its side beyond its centre. NaN is outside.
        let last = size.map(|pixels| pixels as f64 - 0.5);
        let inside = |(x, y): (f64, f64)| (-0.5..=last[0]).contains(&x) && (-0.5..=last[1]).contains(&y);
        let oval = (0..POINTS * POINTS).filter_map(|index| {
            let place = |step: usize| (step as f64 + 0.5) / POINTS as f64 * 2.0 - 1.0;
            let (x, y) = (place(index % POINTS), place(index / POINTS));
            (x * x + y * y < 1.0).then(|| to_picture.apply(CENTRE[0] + HALF[0] * x, CENTRE[1] + HALF[1] * y))
        });
        let points = landmarks.iter().map(|&[x, y]| (f64::from(x), f64::from(y)));
        Visibility { area: share(oval.map(inside)).unwrap_or(0.0), landmarks: share(points.map(inside)) }
    }
}

/// Returns the share of the true ones; `None` without any.
fn share(all: impl Iterator<Item = bool>) -> Option<f32> {
    let (mut count, mut inside) = (0u16, 0u16);
    for is_inside in all {
        (count, inside) = (count.saturating_add(1), inside.saturating_add(u16::from(is_inside)));
    }
    (count > 0).then(|| f32::from(inside) / f32::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a face of 100 pixels a side of its frame, turned by `degrees` about the middle of a picture of 100 x 100.
    fn face(degrees: f64) -> Similarity {
        let (b, a) = degrees.to_radians().sin_cos();
        let about = Similarity { a: 1.0, b: 0.0, tx: -50.0, ty: -50.0 }.then(&Similarity { a, b, tx: 50.0, ty: 50.0 });
        Similarity::scaling(100.0).then(&about)
    }

    fn area(to_picture: &Similarity, size: [usize; 2]) -> f32 {
        Visibility::of(to_picture, &[], size).area
    }

    #[test]
    fn share_falls_as_the_picture_ends_earlier_on_any_side() {
        assert_eq!(Visibility::of(&face(0.0), &[], [100, 100]), Visibility { area: 1.0, landmarks: None });
        // The same cut, with the face turned towards each side.
        for degrees in [0.0, 90.0, 180.0, 270.0, 33.0] {
            let shares = [0.0, 10.0, 20.0, 35.0, 50.0].map(|gone| {
                let up = Similarity { a: 1.0, b: 0.0, tx: 0.0, ty: -(25.0 + gone) };
                area(&face(degrees).then(&up), [100, 100])
            });
            assert!(shares.is_sorted_by(|a, b| a > b) && shares[4] < 0.25, "{degrees}: {shares:?}");
        }
        let half = Similarity { a: 1.0, b: 0.0, tx: -50.3, ty: 0.0 };
        assert!((area(&face(0.0).then(&half), [100, 100]) - 0.5).abs() < 0.06);
    }

    #[test]
    fn pixels_of_the_border_are_inside_and_what_is_no_number_is_not() {
        let points = [[-0.4, 0.0], [99.4, 59.4], [-0.6, 10.0], [10.0, 59.6], [f32::NAN, 10.0]];
        assert_eq!(Visibility::of(&face(0.0), &points, [100, 60]).landmarks, Some(0.4));
        let nowhere = Similarity { a: f64::NAN, ..face(0.0) };
        assert_eq!(area(&nowhere, [100, 60]), 0.0);
        assert_eq!(area(&face(0.0), [0, 0]), 0.0);
    }
}
