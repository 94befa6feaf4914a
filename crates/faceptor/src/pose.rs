//! Head pose from the 68 landmarks, without a network.
//!
//! The landmarks are taken as a scaled parallel projection of the mean face: its linear part is fitted by least squares, and the
//! rotation nearest to that follows in closed form.

use crate::geometry::{Point, TRACKING_LANDMARKS};
use crate::mean_face::MEAN_FACE;

/// The directions of a head, in degrees. All are 0 for a face that looks at the camera and is upright.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Turn about the neck: above 0 the face looks to the right in the image.
    pub yaw_deg: f32,
    /// Nod: above 0 the face looks up.
    pub pitch_deg: f32,
    /// Turn in the plane of the image, clockwise.
    pub roll_deg: f32,
}

impl Pose {
    /// Fits the pose of a face with these 68 landmarks, in pixels. Returns `None` for another number of them, and when they lie on
    /// a line or are not finite.
    pub fn of_landmarks(landmarks: &[Point]) -> Option<Pose> {
        if landmarks.len() != TRACKING_LANDMARKS {
            return None;
        }
        let mean =
            |axis: usize| landmarks.iter().map(|point| f64::from(point[axis])).sum::<f64>() / landmarks.len() as f64;
        let [x0, y0] = [0, 1].map(mean);
        // Sums of products of the landmarks with the points of the mean face, and of these with each other.
        let (mut cross, mut own) = ([[0.0; 3]; 2], [[0.0; 3]; 3]);
        for (&[x, y], point) in landmarks.iter().zip(&MEAN_FACE) {
            let seen = [f64::from(x) - x0, f64::from(y) - y0];
            for column in 0..3 {
                (0..2).for_each(|row| cross[row][column] += seen[row] * point[column]);
                (0..3).for_each(|row| own[row][column] += point[row] * point[column]);
            }
        }
        let inverse = inverse(&own)?;
        let linear = cross.map(|row| [0, 1, 2].map(|column| (0..3).map(|k| row[k] * inverse[k][column]).sum::<f64>()));
        let [right, down] = nearest_rows(linear)?;
        let into = cross_product(right, down);
        // A rotation about the neck, then a nod, then one in the plane of the image.
        let roll = f64::atan2(-right[1], down[1]);
        let pitch = -into[1].clamp(-1.0, 1.0).asin();
        let yaw = f64::atan2(into[0], into[2]);
        let pose = [yaw, pitch, roll].map(|angle| angle.to_degrees() as f32);
        let [yaw_deg, pitch_deg, roll_deg] = pose;
        pose.iter().all(|angle| angle.is_finite()).then_some(Pose { yaw_deg, pitch_deg, roll_deg })
    }
}

/// Returns the two rows of a rotation that are nearest to a multiple of `rows`: (A A')^(-1/2) A.
fn nearest_rows(rows: [[f64; 3]; 2]) -> Option<[[f64; 3]; 2]> {
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let (a, b, d) = (dot(rows[0], rows[0]), dot(rows[0], rows[1]), dot(rows[1], rows[1]));
    let root = (a * d - b * b).max(0.0).sqrt();
    // The square root of [[a, b], [b, d]] is [[a + root, b], [b, d + root]] / scale.
    let scale = (a + d + 2.0 * root).sqrt();
    let determinant = (a + root) * (d + root) - b * b;
    // All points on a line, or in one place: no rotation fits.
    if !(determinant.is_finite() && root > 1e-4 * (a + d) && a + d > 0.0) {
        return None;
    }
    let [first, second] = rows;
    let combine = |p: f64, q: f64| [0, 1, 2].map(|i| (p * first[i] + q * second[i]) * scale / determinant);
    Some([combine(d + root, -b), combine(-b, a + root)])
}

fn cross_product(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Returns the inverse of a symmetric matrix.
fn inverse(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let columns = [cross_product(m[1], m[2]), cross_product(m[2], m[0]), cross_product(m[0], m[1])];
    let determinant: f64 = (0..3).map(|k| m[0][k] * columns[0][k]).sum();
    (determinant.abs() > 1e-9).then(|| columns.map(|column| column.map(|value| value / determinant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Projects the mean face at these angles, `depth` eye distances away (infinitely far for a parallel projection).
    fn rendered([yaw, pitch, roll]: [f64; 3], size: f64, depth: f64) -> Vec<Point> {
        // Looking to the right and up are rotations against the axes x (right) and y (down).
        let ((sy, cy), (sp, cp), (sr, cr)) =
            ((-yaw).to_radians().sin_cos(), (-pitch).to_radians().sin_cos(), roll.to_radians().sin_cos());
        let project = |&[x, y, z]: &[f64; 3]| {
            let [x, y, z] = [cy * x + sy * z, y, -sy * x + cy * z];
            let [x, y, z] = [x, cp * y - sp * z, sp * y + cp * z];
            let near = size / (1.0 + z / depth);
            [(near * (cr * x - sr * y) + 300.0) as f32, (near * (sr * x + cr * y) + 200.0) as f32]
        };
        MEAN_FACE.iter().map(project).collect()
    }

    fn pose(points: &[Point]) -> [f64; 3] {
        let Pose { yaw_deg, pitch_deg, roll_deg } = Pose::of_landmarks(points).expect("a pose");
        [yaw_deg, pitch_deg, roll_deg].map(f64::from)
    }

    #[test]
    fn angles_of_the_rendered_face_are_found() {
        for yaw in [-80.0, -45.0, -10.0, 0.0, 30.0, 60.0] {
            for pitch in [-50.0, -20.0, 0.0, 15.0, 40.0] {
                for roll in [-170.0, -90.0, -30.0, 0.0, 20.0, 120.0] {
                    let angles = [yaw, pitch, roll];
                    for size in [10.0, 60.0, 400.0] {
                        let found = pose(&rendered(angles, size, f64::INFINITY));
                        let off = found.iter().zip(angles).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                        assert!(off < 0.01, "{angles:?} at {size}: {found:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_near_camera_and_points_that_err_cost_a_few_degrees() {
        for yaw in [-40.0, -20.0, 0.0, 20.0, 40.0] {
            for pitch in [-20.0, 0.0, 20.0] {
                let angles = [yaw, pitch, 10.0];
                // Half a metre away: eight eye distances.
                let mut points = rendered(angles, 60.0, 8.0);
                let near = pose(&points);
                let off = |found: [f64; 3]| found.iter().zip(angles).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off(near) < 6.0, "{angles:?}: {near:?}");
                // Points that err by four hundredths of an eye distance to and fro.
                for (index, point) in points.iter_mut().enumerate() {
                    point[index % 2] += if index % 4 < 2 { 2.4 } else { -2.4 };
                }
                assert!(off(pose(&points)) < 8.0, "{angles:?}: {:?}", pose(&points));
            }
        }
    }

    #[test]
    fn angles_rise_with_the_turn() {
        let yaws: Vec<f64> =
            (-8..=8).map(|step| pose(&rendered([f64::from(step) * 10.0, 5.0, 0.0], 60.0, 8.0))[0]).collect();
        assert!(yaws.is_sorted() && yaws[0] < -60.0 && yaws[16] > 60.0, "{yaws:?}");
        let pitches: Vec<f64> =
            (-5..=5).map(|step| pose(&rendered([5.0, f64::from(step) * 10.0, 0.0], 60.0, 8.0))[1]).collect();
        assert!(pitches.is_sorted() && pitches[0] < -40.0 && pitches[10] > 40.0, "{pitches:?}");
    }

    #[test]
    fn what_is_no_face_has_no_pose() {
        let line: Vec<Point> = (0..68).map(|index| [index as f32, 2.0 * index as f32]).collect();
        let mut broken = rendered([0.0; 3], 60.0, 8.0);
        broken[7][0] = f32::NAN;
        for points in [vec![], vec![[5.0, 5.0]; 5], vec![[5.0, 5.0]; 68], vec![[f32::INFINITY; 2]; 68], line, broken] {
            assert_eq!(Pose::of_landmarks(&points), None, "{:?}", points.first());
        }
    }
}
