//! Int8 weights in the order in which a kernel reads them.

use super::Kernel;

/// Columns that packed int8 weights and their results have.
pub fn padded_columns(columns: usize) -> usize {
    columns.next_multiple_of(16)
}

/// Int8 weights in a kernel's order: panels of columns, and within them groups of depth.
#[derive(Debug)]
pub struct PackedInt8 {
    pub kernel: Kernel,
    pub columns: usize,
    /// Multiple of 16.
    pub columns_padded: usize,
    /// Multiple of [`Kernel::depth_group`].
    pub depth_padded: usize,
    pub values: Vec<i8>,
    /// Sum of each column's weights: what a zero point of 1 adds to every result.
    pub sums: Vec<i32>,
    /// Whether no weight is -128, so that two products of signed bytes fit into 16 bits.
    pub narrow: bool,
}

impl PackedInt8 {
    /// Packs `[columns, depth]`.
    pub fn new(kernel: Kernel, weights: &[i8], columns: usize, depth: usize) -> PackedInt8 {
        let columns_padded = padded_columns(columns);
        let depth_padded = depth.next_multiple_of(kernel.depth_group());
        let mut values = vec![0i8; columns_padded * depth_padded];
        let (panel, group) = (kernel.panel_int8(), kernel.group());
        for column in 0..columns {
            let first = column / panel * panel;
            let width = panel.min(columns_padded - first);
            let base = first * depth_padded + (column - first) * group;
            let from = weights[column * depth..][..depth].chunks(group);
            for (chunk, to) in from.zip(values[base..].chunks_mut(width * group)) {
                to[..chunk.len()].copy_from_slice(chunk);
            }
        }
        let mut sums = vec![0i32; columns_padded];
        for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(depth.max(1))) {
            *sum = row.iter().map(|w| *w as i32).sum();
        }
        let narrow = !weights.contains(&i8::MIN);
        PackedInt8 { kernel, columns, columns_padded, depth_padded, values, sums, narrow }
    }
}
