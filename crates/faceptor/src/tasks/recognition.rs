//! Recognition: an embedding of unit length, so that a dot product of two is their similarity.

use crate::error::Result;
use crate::tasks::shape::check_numbers;
use faceptor_nn::manifest::Task;

/// Checks for `[1, dimensions]`.
pub(super) fn check(task: &Task, shape: &[usize]) -> Result<()> {
    check_numbers(task, shape, None)
}

/// Copies `output` into `embedding`, scaled to length 1; an output of zeros stays so.
pub(super) fn read(output: &[f32], embedding: &mut Vec<f32>) {
    let length = output.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    embedding.clear();
    embedding.extend(output.iter().map(|v| v / length));
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_length_is_one() {
        let mut embedding = Vec::new();
        read(&[3.0, 0.0, -4.0], &mut embedding);
        assert_eq!(embedding, [0.6, 0.0, -0.8]);
        read(&[0.0, 0.0], &mut embedding);
        assert_eq!(embedding, [0.0, 0.0]);
    }
}
