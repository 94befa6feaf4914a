//! The orders in which kernels read int8 weights.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Memory that holds a bundle: a mapped file, a part of the program, or a buffer. It must return the same bytes on every
/// call of `as_ref`.
pub type Memory = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Returns how many columns packed int8 weights and their results have: a multiple of 16.
pub(crate) fn padded_columns(columns: usize) -> usize {
    columns.next_multiple_of(16)
}

/// The order of packed int8 weights: panels of columns side by side, and within a panel groups of depth of each column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Columns of a panel.
    pub(crate) panel: u16,
    /// Neighbouring weights of one column.
    pub(crate) group: u16,
    /// Number that the depth is padded to a multiple of.
    pub(crate) depth: u16,
}

/// Lists the order of every family by name, whatever CPU this program was built for: a bundle may be packed on another
/// machine.
pub const PACKINGS: [(&str, Packing); 8] = [
    ("scalar", Packing { panel: 16, group: 1, depth: 4 }),
    ("avx2", Packing { panel: 16, group: 4, depth: 4 }),
    ("avxvnni", Packing { panel: 16, group: 4, depth: 4 }),
    ("avx512vnni", Packing { panel: 64, group: 4, depth: 4 }),
    ("amx", Packing { panel: 64, group: 4, depth: 4 }),
    ("neon", Packing { panel: 4, group: 16, depth: 16 }),
    ("sdot", Packing { panel: 16, group: 4, depth: 16 }),
    ("i8mm", Packing { panel: 8, group: 8, depth: 16 }),
];

impl Packing {
    /// Returns the order of the family that `FACEPTOR_KERNEL` calls by that name.
    pub fn named(name: &str) -> Option<Packing> {
        PACKINGS.iter().find(|(family, _)| *family == name).map(|(_, packing)| *packing)
    }

    /// Returns the names of the families that read this order.
    pub fn families(self) -> impl Iterator<Item = &'static str> {
        PACKINGS.iter().filter(move |(_, packing)| *packing == self).map(|(name, _)| *name)
    }

    /// Returns whether some family reads this order.
    pub fn is_known(self) -> bool {
        self.families().next().is_some()
    }

    /// Returns the padded columns and the padded depth.
    pub(crate) fn padded(self, columns: usize, depth: usize) -> [usize; 2] {
        [padded_columns(columns), depth.next_multiple_of(usize::from(self.depth))]
    }

    /// Calls `place` for each run of neighbouring weights with its start in `[columns, depth]`, its start when packed, and
    /// its length.
    fn runs(self, columns: usize, depth: usize, mut place: impl FnMut(usize, usize, usize)) {
        let [columns_padded, depth_padded] = self.padded(columns, depth);
        let (panel, group) = (usize::from(self.panel), usize::from(self.group));
        for column in 0..columns {
            let first = column / panel * panel;
            let width = panel.min(columns_padded - first);
            let base = first * depth_padded + (column - first) * group;
            for (step, k) in (0..depth).step_by(group).enumerate() {
                place(column * depth + k, base + step * width * group, group.min(depth - k));
            }
        }
    }

    /// Packs `[columns, depth]` into `out`, which is zero and has room for all padded weights.
    pub(crate) fn pack(self, weights: &[i8], columns: usize, depth: usize, out: &mut [i8]) {
        self.runs(columns, depth, |plain, packed, len| {
            out[packed..packed + len].copy_from_slice(&weights[plain..plain + len]);
        });
    }

    /// Returns packed weights as `[columns, depth]`.
    pub(crate) fn unpack(self, packed: &[i8], columns: usize, depth: usize) -> Vec<i8> {
        let mut out = vec![0; columns * depth];
        self.runs(columns, depth, |plain, at, len| out[plain..plain + len].copy_from_slice(&packed[at..at + len]));
        out
    }
}

/// Returns the sum of each column's weights, for the padded columns.
pub(crate) fn column_sums(weights: &[i8], columns: usize, depth: usize) -> Vec<i32> {
    let mut sums = vec![0i32; padded_columns(columns)];
    for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(depth.max(1))) {
        *sum = row.iter().map(|w| *w as i32).sum();
    }
    sums
}
