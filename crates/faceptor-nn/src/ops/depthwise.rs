//! Convolution of every channel by itself, channels last.

use crate::plan::Window;

/// A window over `[1, height, width, channels]`.
#[derive(Debug, Clone)]
pub struct Depthwise {
    window: Window,
    /// Height, width, channels of the input.
    input: [usize; 3],
    /// Width of the output.
    width: usize,
}

impl Depthwise {
    /// For shapes that the plan's check has found to fit.
    pub fn new(window: &Window, input: &[usize], output: &[usize]) -> Depthwise {
        let side = |shape: &[usize], axis: usize| shape.get(axis).copied().unwrap_or(1);
        let input = [side(input, 1), side(input, 2), side(input, 3)];
        Depthwise { window: window.clone(), input, width: side(output, 2) }
    }

    /// `weights`: one row of channels for each place of the window.
    #[inline(always)]
    pub fn run(&self, x: &[f32], weights: &[f32], bias: &[f32], out: &mut [f32]) {
        let ([height, width, channels], w) = (self.input, &self.window);
        for (pixel, out) in out.chunks_exact_mut(channels).enumerate() {
            out.copy_from_slice(bias);
            let (row, column) = (pixel / self.width, pixel % self.width);
            for dy in 0..w.size[0] {
                let y = (row * w.stride[0] + dy * w.dilation[0]).wrapping_sub(w.before[0]);
                for dx in 0..w.size[1] {
                    let at = (column * w.stride[1] + dx * w.dilation[1]).wrapping_sub(w.before[1]);
                    if y >= height || at >= width {
                        continue;
                    }
                    let x = &x[(y * width + at) * channels..][..channels];
                    let weights = &weights[(dy * w.size[1] + dx) * channels..][..channels];
                    out.iter_mut().zip(x).zip(weights).for_each(|((o, x), w)| *o += x * w);
                }
            }
        }
    }
}
