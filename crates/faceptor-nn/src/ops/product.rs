//! Activations times constant weights: linear layers and convolutions as implicit matrix products.
//!
//! Blocks of rows are gathered (for a convolution: the window of each output pixel), multiplied into sums, and finished:
//! scale, bias, activation, residual, requantization.

use std::ops::Range;

use crate::cpu::{Kernel, PackedInt8, Strided, padded_columns};
use crate::ops::elementwise::Quantizer;
use crate::plan::{Activation, Product, Quantization, Residual, Window};

/// Bytes of gathered activations that should stay in the first-level cache, beside the weights' panel.
const BLOCK_BYTES: usize = 24 << 10;

/// Elements of a line that is copied with a fixed length.
const SHORT: usize = 16;

/// Everything about a product that does not change from run to run.
#[derive(Debug)]
pub struct Geometry {
    pub op: Product,
    /// Height, width, channels of the input; without a window 1, rows, depth.
    input: [usize; 3],
    /// Height and width of the output.
    output: [usize; 2],
    /// Elements of a gathered row.
    pitch: usize,
    /// Rows of a block.
    block: usize,
    /// In place of a bias, where there is none.
    zeros: Vec<f32>,
}

/// Buffers that products share, grown before the first run.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    pub bytes: Vec<u8>,
    pub sums: Vec<i32>,
    pub floats: Vec<f32>,
    pub results: Vec<f32>,
    /// What the zero point adds to each column's sum.
    pub offsets: Vec<i32>,
}

impl Scratch {
    /// Room for a packed factor and for results.
    pub fn reserve_float(&mut self, [packed, results]: [usize; 2]) {
        grow(&mut self.floats, packed);
        grow(&mut self.results, results);
    }
}

/// What is added before the second activation.
#[derive(Debug, Clone, Copy)]
pub enum Added<'a> {
    Nothing,
    Floats(&'a [f32]),
    Bytes(&'a [u8], Quantization),
}

/// The per-column factors and where results go.
pub struct Finish<'a> {
    /// Empty without a bias.
    pub bias: &'a [f32],
    pub added: Added<'a>,
    pub floats: Option<&'a mut [f32]>,
    pub bytes: Option<(&'a mut [u8], Quantization)>,
    /// The row that the outputs begin with.
    pub origin: usize,
}

impl Geometry {
    /// For the shapes of the input and the output, which the plan's check has found to fit.
    pub fn new(kernel: Kernel, op: &Product, input: &[usize], output: &[usize]) -> Geometry {
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
        Geometry { op: op.clone(), input, output, pitch, block, zeros }
    }

    /// Grows the scratch to what a run needs.
    pub fn reserve(&self, kernel: Kernel, scratch: &mut Scratch) {
        if self.op.zero_point.is_some() {
            grow(&mut scratch.bytes, self.block * self.pitch);
            grow(&mut scratch.sums, self.block * padded_columns(self.op.columns));
            grow(&mut scratch.offsets, self.op.columns);
        } else {
            grow(&mut scratch.floats, self.block * self.pitch);
            grow(&mut scratch.results, self.block * kernel.pad_float(self.op.columns));
        }
    }

    /// Rows of the output.
    pub fn rows(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether the input's rows already are what would be gathered.
    fn is_dense(&self) -> bool {
        let plain = match &self.op.window {
            None => true,
            Some(w) => w.size == [1, 1] && w.stride == [1, 1] && w.before == [0, 0] && self.output == self.input[..2],
        };
        plain && self.pitch == self.op.depth
    }

    /// Integer product; `rows` of it, all or those of one thread.
    #[allow(clippy::too_many_arguments, reason = "operands, results and memory of one product")]
    pub fn run_int8(
        &self,
        kernel: Kernel,
        weights: &PackedInt8,
        scale: &[f32],
        x: &[u8],
        rows: Range<usize>,
        finish: &mut Finish<'_>,
        scratch: &mut Scratch,
    ) {
        let wanted = rows;
        let zero_point = self.op.zero_point.unwrap_or(0);
        let columns = weights.columns_padded();
        let offsets = &mut scratch.offsets[..self.op.columns];
        offsets.iter_mut().zip(weights.sums()).for_each(|(o, sum)| *o = sum * i32::from(zero_point));
        let bias = if finish.bias.is_empty() { &self.zeros } else { finish.bias };
        let mut first = wanted.start;
        while first < wanted.end {
            let rows = self.block.min(wanted.end - first);
            let gathered = if self.is_dense() {
                &x[first * self.pitch..][..rows * self.pitch]
            } else {
                self.gather(x, first, rows, zero_point, &mut scratch.bytes);
                &scratch.bytes[..rows * self.pitch]
            };
            let sums = &mut scratch.sums[..rows * columns];
            kernel.multiply_int8(gathered, rows, weights, sums);
            let offsets = &scratch.offsets[..self.op.columns];
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
            first += rows;
        }
    }

    /// Float product; `weights` packed for the kernel.
    pub fn run_float(
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

    /// Copies the windows of output pixels `first..first + rows`, one row each; `outside` fills what lies off the image.
    fn gather<T: Copy>(&self, x: &[T], first: usize, rows: usize, outside: T, out: &mut [T]) {
        let [height, width, channels] = self.input;
        let plain = Window { size: [1, 1], stride: [1, 1], dilation: [1, 1], before: [0, 0] };
        let window = self.op.window.as_ref().unwrap_or(&plain);
        for (row, out) in (first..first + rows).zip(out.chunks_exact_mut(self.pitch)) {
            let (i, j) = (row / self.output[1], row % self.output[1]);
            for dy in 0..window.size[0] {
                let y = (i * window.stride[0] + dy * window.dilation[0]).wrapping_sub(window.before[0]);
                let start = dy * window.size[1] * channels;
                let len = window.size[1] * channels;
                // A few channels make short lines: where there is room, one copy of fixed length, whose surplus the next
                // line overwrites, is faster than one of exact length.
                let left = (j * window.stride[1]).wrapping_sub(window.before[1]);
                let right = left.wrapping_add(window.size[1]);
                let inside = window.dilation[1] == 1 && left < right && right <= width;
                if inside && y < height && len <= SHORT {
                    let from = &x[(y * width + left) * channels..];
                    if let (Some(from), Some(to)) = (from.get(..SHORT), out.get_mut(start..start + SHORT)) {
                        to.copy_from_slice(from);
                        continue;
                    }
                }
                let line = &mut out[start..start + len];
                if y >= height {
                    line.fill(outside);
                    continue;
                }
                if inside {
                    line.copy_from_slice(&x[(y * width + left) * channels..][..line.len()]);
                    continue;
                }
                for (dx, pixel) in line.chunks_exact_mut(channels).enumerate() {
                    let at = left.wrapping_add(dx * window.dilation[1]);
                    if at < width {
                        pixel.copy_from_slice(&x[(y * width + at) * channels..][..channels]);
                    } else {
                        pixel.fill(outside);
                    }
                }
            }
            out[self.op.depth..].fill(outside);
        }
    }

    /// Activations and residual on one row, and its storage: one pass, whatever there is to do.
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
    pub fn split_first(&mut self, rows: usize, columns: usize) -> Finish<'a> {
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

/// What an activation does not let values fall below.
fn floor(activation: Activation) -> f32 {
    match activation {
        Activation::None => f32::NEG_INFINITY,
        Activation::Relu => 0.0,
    }
}

/// The larger one; a value that is no number stays what it is.
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

fn grow<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}

/// The residual as the step's operands have it.
pub fn added<'a>(residual: Residual, operand: Option<crate::ops::Data<'a>>) -> Added<'a> {
    match (residual, operand) {
        (Residual::Float, Some(data)) => Added::Floats(data.floats()),
        (Residual::Quantized(from), Some(data)) => Added::Bytes(data.bytes(), from),
        _ => Added::Nothing,
    }
}

#[cfg(test)]
#[path = "product_tests.rs"]
mod tests;
