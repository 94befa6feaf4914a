//! A second look at a face: mirrored, what is said of it turned back, and the mean of both looks given out.
//!
//! A face and its mirror image are the same face to a network that was trained on either, but its mistakes on them differ,
//! so that their mean is nearer to the truth; for embeddings it is how Faceptor's authors verify (SPEC A9). It takes as long
//! as the first look: photos have that time, the loop does not.

use crate::model::manifest::{Task, TaskKind};

/// Mirrors planes of rows of `width` numbers in place.
pub fn turn(planes: &mut [f32], width: usize) {
    planes.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}

/// Makes `mean`, a task's output of the first look, the mean of it and of `second`, the same output of the mirrored face.
/// `grid` is a parsing output's classes, height and width. Both have the length that the reader has checked; for points and
/// classes so has `flip`.
pub fn join(task: &Task, [_, height, width]: [usize; 3], mean: &mut [f32], second: &[f32]) {
    let middle = |first: &mut f32, second: f32| *first = 0.5 * (*first + second);
    match task.kind {
        TaskKind::Landmarks => {
            for (point, &twin) in mean.chunks_exact_mut(2).zip(&task.flip) {
                middle(&mut point[0], 1.0 - second[2 * twin]);
                middle(&mut point[1], second[2 * twin + 1]);
            }
        }
        TaskKind::Parsing => {
            let plane = height * width;
            for (class, &twin) in mean.chunks_exact_mut(plane).zip(&task.flip) {
                let turned = &second[twin * plane..][..plane];
                for (row, turned) in class.chunks_exact_mut(width).zip(turned.chunks_exact(width)) {
                    row.iter_mut().zip(turned.iter().rev()).for_each(|(first, &second)| middle(first, second));
                }
            }
        }
        TaskKind::Age | TaskKind::Expression | TaskKind::Attributes | TaskKind::Recognition => {
            mean.iter_mut().zip(second).for_each(|(first, &second)| middle(first, second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(kind: TaskKind, flip: &[usize]) -> Task {
        Task { flip: flip.to_vec(), ..Task::of_kind(kind) }
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
        let mut mean = [0.25, 0.5, 0.75, 0.375, 0.5, 0.625];
        join(&task(TaskKind::Landmarks, &[1, 0, 2]), [0; 3], &mut mean, &[0.25, 0.375, 0.5, 0.5, 0.25, 0.875]);
        assert_eq!(mean, [0.375, 0.5, 0.75, 0.375, 0.625, 0.75]);
    }

    #[test]
    fn classes_trade_places_and_their_columns_are_turned_back() {
        // Three classes of two rows and two columns, the last two being left and right.
        let mut mean = [0.0, 1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0];
        let second = [1.0, 0.0, 3.0, 2.0, 60.0, 50.0, 80.0, 70.0, 20.0, 12.0, 40.0, 30.0];
        join(&task(TaskKind::Parsing, &[0, 2, 1]), [3, 2, 2], &mut mean, &second);
        assert_eq!(mean, [0.0, 1.0, 2.0, 3.0, 11.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]);
    }

    #[test]
    fn values_are_averaged_one_by_one() {
        for kind in [TaskKind::Age, TaskKind::Expression, TaskKind::Attributes, TaskKind::Recognition] {
            let mut mean = [0.5, 0.25, 0.25];
            join(&task(kind, &[]), [0; 3], &mut mean, &[0.25, 0.5, 0.25]);
            assert_eq!(mean, [0.375, 0.375, 0.25]);
        }
    }
}
