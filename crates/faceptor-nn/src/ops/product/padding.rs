//! Convolutions without gathering: the image is copied once, with its padding, and windows are read where they lie.

use std::ops::Range;

use crate::cpu::{Kernel, Windows};
use crate::ops::depthwise::Window;

/// The copy of an image with its padding, and the places of the windows in it.
#[derive(Debug)]
pub(super) struct PaddedImage {
    window: Window,
    /// Height, width, channels of the input.
    input: [usize; 3],
    /// Results in a line of the output.
    across: usize,
    /// Bytes of a line of the copy.
    line: usize,
}

impl PaddedImage {
    /// Returns none if the kernel does not read windows of this convolution in place.
    pub(super) fn new(kernel: Kernel, window: &Window, input: [usize; 3], output: [usize; 2]) -> Option<PaddedImage> {
        let [_, width, channels] = input;
        let run_len = window.size[1] * channels;
        let is_plain = window.size == [1, 1] && window.stride == [1, 1];
        if is_plain || window.dilation != [1, 1] || !kernel.takes_windows(window.size[0], run_len) {
            return None;
        }
        let pixels = (output[1] - 1) * window.stride[1] + window.size[1];
        let has_pixels = pixels > window.before[1] && width > 0;
        has_pixels.then(|| PaddedImage { window: window.clone(), input, across: output[1], line: pixels * channels })
    }

    /// Returns the bytes of the copy for `lines` lines of the output.
    pub(super) fn len(&self, lines: usize) -> usize {
        ((lines.max(1) - 1) * self.window.stride[0] + self.window.size[0]) * self.line
    }

    /// Returns the lines of the output that hold these rows.
    pub(super) fn lines(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start / self.across..rows.end.div_ceil(self.across)
    }

    /// Returns where the windows of `lines` lines of the output lie in the copy.
    pub(super) fn windows(&self, lines: usize) -> Windows {
        let (channels, [down, right]) = (self.input[2], self.window.stride);
        let pixels = self.line / channels;
        let windows = Windows {
            runs: self.window.size[0],
            run_len: self.window.size[1] * channels,
            run_step: self.line,
            step: right * channels,
            ..Windows::dense(self.across, 0)
        };
        if down == 1 && right == 1 {
            // Windows follow each other over the ends of lines too: one long line, with the padding in it.
            Windows { positions: lines * pixels - (pixels - self.across), period: pixels, ..windows }
        } else {
            Windows { lines, line_step: down * self.line, ..windows }
        }
    }

    /// Copies what the windows of these lines of the output cover; `outside` fills the padding.
    pub(super) fn copy(&self, x: &[u8], lines: Range<usize>, outside: u8, out: &mut [u8]) {
        let [height, width, channels] = self.input;
        let before = self.window.before[1] * channels;
        let used = self.line.saturating_sub(before).min(width * channels);
        let first = lines.start * self.window.stride[0];
        for (i, out) in out[..self.len(lines.len())].chunks_exact_mut(self.line).enumerate() {
            let y = (first + i).wrapping_sub(self.window.before[0]);
            if y >= height {
                out.fill(outside);
                continue;
            }
            out[..before].fill(outside);
            out[before..before + used].copy_from_slice(&x[y * width * channels..][..used]);
            out[before + used..].fill(outside);
        }
    }
}
