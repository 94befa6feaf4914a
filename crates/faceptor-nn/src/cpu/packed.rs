//! Int8 weights in the order in which a kernel reads them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cpu::Kernel;

/// Memory that weights lie in: a file, a part of the program, or a buffer.
pub type Memory = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Columns that packed int8 weights and their results have.
pub fn padded_columns(columns: usize) -> usize {
    columns.next_multiple_of(16)
}

/// What packed weights begin at a multiple of, bytes: the widest register.
const ALIGNMENT: usize = 64;

/// The order of packed weights: panels of columns side by side, and within a panel groups of depth of each column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packing {
    /// Columns of a panel.
    pub panel: u16,
    /// Neighbouring weights of one column.
    pub group: u16,
    /// What the depth is padded to a multiple of.
    pub depth: u16,
}

/// Every family's, whatever this program was built for: a bundle may be packed on another machine.
pub const PACKINGS: [(&str, Packing); 7] = [
    ("scalar", Packing { panel: 16, group: 1, depth: 4 }),
    ("avx2", Packing { panel: 16, group: 4, depth: 4 }),
    ("avxvnni", Packing { panel: 16, group: 4, depth: 4 }),
    ("avx512vnni", Packing { panel: 64, group: 4, depth: 4 }),
    ("neon", Packing { panel: 4, group: 16, depth: 16 }),
    ("sdot", Packing { panel: 16, group: 4, depth: 16 }),
    ("i8mm", Packing { panel: 8, group: 8, depth: 16 }),
];

impl Packing {
    /// Of the family that `FACEPTOR_KERNEL` would call so.
    pub fn named(name: &str) -> Option<Packing> {
        PACKINGS.iter().find(|(family, _)| *family == name).map(|(_, packing)| *packing)
    }

    /// Names of the families that read this order.
    pub fn families(self) -> impl Iterator<Item = &'static str> {
        PACKINGS.iter().filter(move |(_, packing)| *packing == self).map(|(name, _)| *name)
    }

    /// Whether it is the order of some family.
    pub fn is_known(self) -> bool {
        self.families().next().is_some()
    }

    /// Padded columns and padded depth.
    pub fn padded(self, columns: usize, depth: usize) -> [usize; 2] {
        [padded_columns(columns), depth.next_multiple_of(usize::from(self.depth))]
    }

    /// Calls `place` for each run of neighbouring weights with where it begins in `[columns, depth]`, where it begins when
    /// packed, and its length.
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

    /// Packs `[columns, depth]` into `out`, which is zero and has all padded weights.
    pub fn pack(self, weights: &[i8], columns: usize, depth: usize, out: &mut [i8]) {
        self.runs(columns, depth, |plain, packed, len| {
            out[packed..packed + len].copy_from_slice(&weights[plain..plain + len]);
        });
    }

    /// The other way.
    pub fn unpack(self, packed: &[i8], columns: usize, depth: usize) -> Vec<i8> {
        let mut out = vec![0; columns * depth];
        self.runs(columns, depth, |plain, at, len| out[plain..plain + len].copy_from_slice(&packed[at..at + len]));
        out
    }
}

/// Sum of each column's weights, for the padded columns.
pub fn column_sums(weights: &[i8], columns: usize, depth: usize) -> Vec<i32> {
    let mut sums = vec![0i32; padded_columns(columns)];
    for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(depth.max(1))) {
        *sum = row.iter().map(|w| *w as i32).sum();
    }
    sums
}

/// Int8 weights in a kernel's order.
#[derive(Debug)]
pub struct PackedInt8 {
    pub kernel: Kernel,
    pub columns: usize,
    /// Multiple of 16.
    pub columns_padded: usize,
    /// Multiple of [`Kernel::depth_group`].
    pub depth_padded: usize,
    pub values: Values,
    /// Sum of each column's weights: what a zero point of 1 adds to every result.
    pub sums: Vec<i32>,
    /// Whether no weight is -128, so that two products of signed bytes fit into 16 bits.
    pub narrow: bool,
}

/// The weights themselves.
pub enum Values {
    Own {
        buffer: Vec<i8>,
        start: usize,
        len: usize,
    },
    /// Used where they are: a bundle that was packed for this kernel.
    Lent {
        memory: Memory,
        start: usize,
        len: usize,
    },
}

impl Values {
    /// Bytes of the heap that they take.
    pub fn own_bytes(&self) -> usize {
        if let Values::Own { buffer, .. } = self { buffer.len() } else { 0 }
    }
}

impl Deref for Values {
    type Target = [i8];

    fn deref(&self) -> &[i8] {
        match self {
            Values::Own { buffer, start, len } => &buffer[*start..start + len],
            Values::Lent { memory, start, len } => bytemuck::cast_slice(&(**memory).as_ref()[*start..start + len]),
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weights, {} of them on the heap", self.len(), self.own_bytes())
    }
}

impl PackedInt8 {
    /// Packs `[columns, depth]`.
    pub fn new(kernel: Kernel, weights: &[i8], columns: usize, depth: usize) -> PackedInt8 {
        let packing = kernel.packing();
        let [columns_padded, depth_padded] = packing.padded(columns, depth);
        let len = columns_padded * depth_padded;
        let mut buffer = vec![0i8; len + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        packing.pack(weights, columns, depth, &mut buffer[start..start + len]);
        let sums = column_sums(weights, columns, depth);
        let narrow = !weights.contains(&i8::MIN);
        let values = Values::Own { buffer, start, len };
        PackedInt8 { kernel, columns, columns_padded, depth_padded, values, sums, narrow }
    }
}
