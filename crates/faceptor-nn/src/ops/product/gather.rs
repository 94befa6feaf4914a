//! Rows of a convolution's windows, copied one below the other.

use std::ops::Range;

use crate::ops::depthwise::Window;
use crate::ops::product::rows::Geometry;

/// Elements of a line that is copied with a fixed length.
const SHORT: usize = 16;
/// Elements after the gathered rows that may be overwritten.
pub(super) const SURPLUS: usize = SHORT;

impl Geometry {
    /// Copies the windows of output pixels `first..first + rows`, one row each; `outside` fills the places off the image.
    /// `out` has [`SURPLUS`] elements more than the rows. What lies between the end of a window and the next row is not set.
    pub(super) fn gather<T: Copy>(&self, x: &[T], first: usize, rows: usize, outside: T, out: &mut [T]) {
        let plain = Window { size: [1, 1], stride: [1, 1], dilation: [1, 1], before: [0, 0] };
        let gather = Gather { x, outside, geometry: self, window: self.op.window.as_ref().unwrap_or(&plain) };
        let across = self.output[1];
        let (mut row, end) = (first, first + rows);
        while row < end {
            let (i, j) = (row / across, row % across);
            let columns = j..across.min(j + end - row);
            let count = columns.len();
            gather.line(i, columns, &mut out[(row - first) * self.pitch..]);
            row += count;
        }
    }
}

/// The operands of a gathering.
struct Gather<'a, T> {
    x: &'a [T],
    outside: T,
    geometry: &'a Geometry,
    window: &'a Window,
}

impl<T: Copy> Gather<'_, T> {
    /// Copies the windows of some columns of line `i` of the output.
    fn line(&self, i: usize, columns: Range<usize>, out: &mut [T]) {
        let ([_, width, channels], pitch) = (self.geometry.input, self.geometry.pitch);
        let [len, stride, before] = [self.window.size[1] * channels, self.window.stride[1], self.window.before[1]];
        // A few channels make short lines. Where they lie within the image, one copy of fixed length, whose surplus the next
        // copy overwrites, is faster than one of exact length.
        let inside = match (width + before).checked_sub(self.window.size[1]) {
            Some(last) if len <= SHORT && self.window.dilation[1] == 1 => before.div_ceil(stride)..last / stride + 1,
            _ => 0..0,
        };
        for (j, at) in columns.zip((0..).step_by(pitch)) {
            if !inside.contains(&j) {
                self.window(i, j, &mut out[at..at + pitch]);
                continue;
            }
            let from = (j * stride - before) * channels;
            for dy in 0..self.window.size[0] {
                let to = &mut out[at + dy * len..];
                match self.source(i, dy) {
                    Some(start) => match self.x[start + from..].first_chunk::<SHORT>() {
                        Some(line) => to[..SHORT].copy_from_slice(line),
                        None => to[..len].copy_from_slice(&self.x[start + from..][..len]),
                    },
                    None => to[..SHORT].fill(self.outside),
                }
            }
        }
    }

    /// Returns where the line of the image begins that is line `dy` of the windows in line `i` of the output; none outside.
    #[inline(always)]
    fn source(&self, i: usize, dy: usize) -> Option<usize> {
        let [height, width, channels] = self.geometry.input;
        let y = (i * self.window.stride[0] + dy * self.window.dilation[0]).wrapping_sub(self.window.before[0]);
        (y < height).then(|| y * width * channels)
    }

    /// Copies the window of the pixel at `i`, `j`.
    fn window(&self, i: usize, j: usize, out: &mut [T]) {
        let (window, [_, width, channels]) = (self.window, self.geometry.input);
        let left = (j * window.stride[1]).wrapping_sub(window.before[1]);
        let right = left.wrapping_add(window.size[1]);
        let inside = window.dilation[1] == 1 && left < right && right <= width;
        for (dy, line) in out.chunks_exact_mut(window.size[1] * channels).enumerate().take(window.size[0]) {
            let Some(start) = self.source(i, dy) else {
                line.fill(self.outside);
                continue;
            };
            if inside {
                line.copy_from_slice(&self.x[start + left * channels..][..line.len()]);
                continue;
            }
            for (dx, pixel) in line.chunks_exact_mut(channels).enumerate() {
                let at = left.wrapping_add(dx * window.dilation[1]);
                if at < width {
                    pixel.copy_from_slice(&self.x[start + at * channels..][..channels]);
                } else {
                    pixel.fill(self.outside);
                }
            }
        }
    }
}
