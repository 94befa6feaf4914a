//! The reference for integer products, in a form that compilers turn into vector code.

use super::{DEPTH_GROUP, PackedInt8};

/// Columns of one panel.
const WIDTH: usize = 16;

#[inline(always)]
pub fn multiply_int8(a: &[u8], rows: usize, weights: &PackedInt8, out: &mut [i32]) {
    let depth = weights.depth_padded;
    if depth == 0 {
        out.fill(0);
        return;
    }
    for (panel, values) in weights.values.chunks_exact(WIDTH * depth).enumerate() {
        for row in 0..rows {
            let mut sums = [0i32; WIDTH];
            let a = a[row * depth..][..depth].chunks_exact(DEPTH_GROUP);
            for (a, w) in a.zip(values.chunks_exact(WIDTH * DEPTH_GROUP)) {
                for (sum, w) in sums.iter_mut().zip(w.chunks_exact(DEPTH_GROUP)) {
                    // Products fit in 16 bits with sign, their sums do not.
                    let product = |i: usize| (a[i] as i16 as i32) * (w[i] as i16 as i32);
                    *sum += product(0) + product(1) + product(2) + product(3);
                }
            }
            out[row * weights.columns_padded + panel * WIDTH..][..WIDTH].copy_from_slice(&sums);
        }
    }
}
