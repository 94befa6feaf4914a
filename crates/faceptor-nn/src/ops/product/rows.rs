//! The rows of a product: convolutions are implicit matrix products.
//!
//! Blocks of rows are gathered (for a convolution: the window of each output pixel), multiplied into sums, and finished:
//! scale, bias, activation, residual, requantization.

use std::ops::Range;

use crate::cpu::{Finishing, Kernel, PackedInt8, ResidualRows, Strided, padded_columns};
use crate::ops::product::gather::SURPLUS;
use crate::ops::product::padding::PaddedImage;
use crate::ops::product::{Activation, Product};
use crate::ops::quantize::Quantizer;
use crate::ops::scratch::Scratch;
use crate::tensor::Quantization;

/// Bytes of gathered activations that should stay in the first-level cache, beside the weights' panel.
const BLOCK_BYTES: usize = 24 << 10;

/// The properties of a product that do not change from run to run.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) op: Product,
    /// Height, width, channels of the input; without a window 1, rows, depth.
    pub(super) input: [usize; 3],
    /// Height and width of the output.
    pub(super) output: [usize; 2],
    /// Elements of a gathered row.
    pub(super) pitch: usize,
    /// Rows of a block.
    block: usize,
    /// The copy that takes the place of gathered rows, if the kernel reads windows where they lie.
    padded: Option<PaddedImage>,
    /// Used as the bias where there is none.
    zeros: Vec<f32>,
}

/// The residual that is added before the second activation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Added<'a> {
    Nothing,
    Floats(&'a [f32]),
    Bytes(&'a [u8], Quantization),
}

/// The operands and outputs that finish the results.
pub(super) struct Finish<'a> {
    /// Empty without a bias.
    pub(super) bias: &'a [f32],
    pub(super) added: Added<'a>,
    pub(super) floats: Option<&'a mut [f32]>,
    pub(super) bytes: Option<(&'a mut [u8], Quantization)>,
    /// The first row of the outputs.
    pub(super) origin: usize,
}

impl Geometry {
    /// Prepares for the shapes of input and output, which the check has found to fit.
    pub(super) fn new(kernel: Kernel, op: &Product, input: &[usize], output: &[usize]) -> Geometry {
        let group = if op.zero_point.is_some() { kernel.depth_group() } else { 1 };
        let pitch = op.depth.next_multiple_of(group);
        let element = if op.zero_point.is_some() { 1 } else { 4 };
        let block = (BLOCK_BYTES / (pitch * element).max(1)).clamp(6, 96) / 6 * 6;
        let rows: usize = output.iter().product::<usize>() / op.columns.max(1);
        let (input, output) = match (&op.window, input, output) {
            (Some(_), [_, h, w, c], [_, oh, ow, _]) => ([*h, *w, *c], [*oh, *ow]),
            _ => ([1, rows, op.depth], [1, rows]),
        };
        let zeros = if op.bias { Vec::new() } else { vec![0.0; op.columns] };
        let window = op.window.as_ref().filter(|_| op.zero_point.is_some() && pitch == op.depth);
        let padded = window.and_then(|window| PaddedImage::new(kernel, window, input, output));
        Geometry { op: op.clone(), input, output, pitch, block, padded, zeros }
    }

    /// Grows the scratch to the size that a run needs.
    pub(super) fn reserve(&self, kernel: Kernel, scratch: &mut Scratch) {
        if self.op.zero_point.is_some() {
            let sums = self.block * padded_columns(self.op.columns);
            let copied = self.padded.as_ref().map_or(0, |padded| padded.len(self.output[0]));
            let gathered = self.block * self.pitch + SURPLUS;
            let shifted = if kernel.reads_shifted() && !self.is_dense() { self.input.iter().product() } else { 0 };
            scratch.reserve_int8([copied.max(gathered), shifted, sums, self.op.columns]);
        } else {
            let results = self.block * kernel.pad_float(self.op.columns);
            scratch.reserve_float([self.block * self.pitch + SURPLUS, results]);
        }
    }

    /// Returns the rows of the output.
    pub(super) fn rows(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Returns whether the input's rows already are the rows that would be gathered.
    fn is_dense(&self) -> bool {
        let plain = match &self.op.window {
            None => true,
            Some(w) => w.size == [1, 1] && w.stride == [1, 1] && w.before == [0, 0] && self.output == self.input[..2],
        };
        plain && self.pitch == self.op.depth
    }

    /// Computes some rows of an integer product.
    #[allow(clippy::too_many_arguments, reason = "operands, results and scratch of one product")]
    pub(super) fn run_int8(
        &self,
        kernel: Kernel,
        weights: &PackedInt8,
        scale: &[f32],
        x: &[u8],
        rows: Range<usize>,
        finish: &mut Finish<'_>,
        scratch: &mut Scratch,
    ) {
        let zero_point = self.op.zero_point.unwrap_or(0);
        let columns = weights.columns_padded();
        let offsets = &mut scratch.offsets[..self.op.columns];
        offsets.iter_mut().zip(weights.sums()).for_each(|(o, sum)| *o = sum * i32::from(zero_point));
        let bias = if finish.bias.is_empty() { &self.zeros } else { finish.bias };
        if let Some(padded) = self.padded.as_ref().filter(|_| !rows.is_empty()) {
            let lines = padded.lines(&rows);
            let (windows, origin) = (padded.windows(lines.len()), lines.start * self.output[1]);
            let copied = &mut scratch.bytes[..padded.len(lines.len())];
            padded.copy(x, lines, zero_point, copied);
            let offsets = &scratch.offsets[..self.op.columns];
            let mut finishing = self.finishing(rows.clone(), [scale, bias], offsets, finish);
            let there = rows.start - origin..rows.end - origin;
            if kernel.product_of_windows(copied, &windows, there, weights, &mut finishing) {
                return;
            }
        }
        // A window's activations occur in several rows: the image is shifted once, before they are gathered.
        let (x, outside) = if kernel.reads_shifted() && !self.is_dense() {
            let len = self.input.iter().product();
            let shifted = &mut scratch.shifted[..len];
            kernel.copy_shifted(&x[..len], shifted);
            let mut outside = [zero_point];
            kernel.shift(&mut outside);
            (&*shifted, outside[0])
        } else {
            (x, zero_point)
        };
        let mut first = rows.start;
        while first < rows.end {
            let count = self.block.min(rows.end - first);
            let dense = || &x[first * self.pitch..][..count * self.pitch];
            let len = count * self.pitch;
            let gathered = if !self.is_dense() {
                self.gather(x, first, count, outside, &mut scratch.bytes);
                &scratch.bytes[..len]
            } else if kernel.reads_shifted() {
                kernel.copy_shifted(dense(), &mut scratch.bytes[..len]);
                &scratch.bytes[..len]
            } else {
                dense()
            };
            let sums = &mut scratch.sums[..count * columns];
            let offsets = &scratch.offsets[..self.op.columns];
            if kernel.finishes_int8() {
                let mut finishing = self.finishing(first..first + count, [scale, bias], offsets, finish);
                kernel.product_int8(gathered, count, weights, sums, &mut finishing);
                first += count;
                continue;
            }
            kernel.multiply_int8(gathered, count, weights, sums);
            kernel.vectorize(
                #[inline(always)]
                || {
                    for (i, sums) in sums.chunks_exact(columns).enumerate() {
                        let columns = sums.iter().zip(offsets).zip(scale.iter().zip(bias));
                        let values = columns.map(|((sum, offset), (scale, bias))| (sum - offset) as f32 * scale + bias);
                        self.finish_row(first + i, values, finish);
                    }
                },
            );
            first += count;
        }
    }

    /// Computes a float product; `weights` are packed for the kernel.
    pub(super) fn run_float(
        &self,
        kernel: Kernel,
        weights: &[f32],
        x: &[f32],
        finish: &mut Finish<'_>,
        scratch: &mut Scratch,
    ) {
        let columns = kernel.pad_float(self.op.columns);
        let bias = if finish.bias.is_empty() { &self.zeros } else { finish.bias };
        let mut first = 0;
        while first < self.rows() {
            let rows = self.block.min(self.rows() - first);
            let gathered = if self.is_dense() {
                &x[first * self.pitch..][..rows * self.pitch]
            } else {
                self.gather(x, first, rows, 0.0, &mut scratch.floats);
                &scratch.floats[..rows * self.pitch]
            };
            let results = &mut scratch.results[..rows * columns];
            let left = Strided { values: gathered, row_stride: self.pitch, depth_stride: 1 };
            kernel.multiply_float(left, rows, self.op.depth, weights, results);
            kernel.vectorize(
                #[inline(always)]
                || {
                    for (i, results) in results.chunks_exact(columns).enumerate() {
                        self.finish_row(first + i, results.iter().zip(bias).map(|(r, b)| r + b), finish);
                    }
                },
            );
            first += rows;
        }
    }

    /// Returns what finishes the sums of some rows.
    fn finishing<'a>(
        &self,
        rows: Range<usize>,
        [scale, bias]: [&'a [f32]; 2],
        offsets: &'a [i32],
        finish: &'a mut Finish<'_>,
    ) -> Finishing<'a> {
        let columns = self.op.columns;
        let from = rows.start * columns..rows.end * columns;
        let to = (rows.start - finish.origin) * columns..(rows.end - finish.origin) * columns;
        let residual = match finish.added {
            Added::Nothing => ResidualRows::Nothing,
            Added::Floats(added) => ResidualRows::Floats(&added[from]),
            Added::Bytes(added, q) => {
                ResidualRows::Bytes { values: &added[from], zero_point: i32::from(q.zero_point), scale: q.scale }
            }
        };
        let floats = finish.floats.as_deref_mut().map(|floats| &mut floats[to.clone()]);
        let bytes = finish.bytes.as_mut().map(|(bytes, q)| (&mut bytes[to], Quantizer::new(*q)));
        let floors = [floor(self.op.first), floor(self.op.second)];
        Finishing { offsets, scale, bias, floors, residual, floats, bytes }
    }

    /// Applies activations and residual to one row and stores it, in one pass.
    #[inline(always)]
    fn finish_row(&self, row: usize, values: impl Iterator<Item = f32>, finish: &mut Finish<'_>) {
        let of_row = row * self.op.columns..(row + 1) * self.op.columns;
        let start = (row - finish.origin) * self.op.columns;
        let at = start..start + self.op.columns;
        let (first, second) = (floor(self.op.first), floor(self.op.second));
        match finish.added {
            Added::Nothing => store(at, values.map(|v| at_least(second, at_least(first, v))), finish),
            Added::Floats(added) => {
                let values = values.zip(&added[of_row]);
                store(at, values.map(|(v, a)| at_least(second, at_least(first, v) + a)), finish);
            }
            Added::Bytes(added, from) => {
                let zero_point = i32::from(from.zero_point);
                let values = values.zip(&added[of_row]);
                let added = |a: u8| (i32::from(a) - zero_point) as f32 * from.scale;
                store(at, values.map(|(v, a)| at_least(second, at_least(first, v) + added(*a))), finish);
            }
        }
    }
}

impl<'a> Finish<'a> {
    /// Splits off the results of the first `rows` rows, which have `columns` each.
    pub(super) fn split_first(&mut self, rows: usize, columns: usize) -> Finish<'a> {
        let len = rows * columns;
        let floats = self.floats.take().map(|all| all.split_at_mut(len.min(all.len())));
        let bytes = self.bytes.take().map(|(all, to)| (all.split_at_mut(len.min(all.len())), to));
        let (first, rest) = floats.unzip();
        self.floats = rest;
        let (first_bytes, rest) = bytes.map(|((first, rest), to)| ((first, to), (rest, to))).unzip();
        self.bytes = rest;
        let origin = self.origin;
        self.origin += rows;
        Finish { bias: self.bias, added: self.added, floats: first, bytes: first_bytes, origin }
    }
}

/// Returns the value that an activation does not let results fall below.
fn floor(activation: Activation) -> f32 {
    match activation {
        Activation::None => f32::NEG_INFINITY,
        Activation::Relu => 0.0,
    }
}

/// Returns the larger one; NaN stays NaN.
#[inline(always)]
fn at_least(low: f32, value: f32) -> f32 {
    if low > value { low } else { value }
}

#[inline(always)]
fn store(at: Range<usize>, values: impl Iterator<Item = f32>, finish: &mut Finish<'_>) {
    match (&mut finish.floats, &mut finish.bytes) {
        (Some(floats), None) => floats[at].iter_mut().zip(values).for_each(|(out, v)| *out = v),
        (None, Some((bytes, to))) => {
            let quantizer = Quantizer::new(*to);
            bytes[at].iter_mut().zip(values).for_each(|(out, v)| *out = quantizer.quantize(v));
        }
        (Some(floats), Some((bytes, to))) => {
            let quantizer = Quantizer::new(*to);
            for ((float, byte), v) in floats[at.clone()].iter_mut().zip(&mut bytes[at]).zip(values) {
                *float = v;
                *byte = quantizer.quantize(v);
            }
        }
        (None, None) => {}
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
