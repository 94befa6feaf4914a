//! Convolution of every channel by itself, channels last; and the window that all convolutions share.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ops::context::{Preparation, StepRun};
use crate::ops::{Operator, PreparedOperator, Signature, ensure};

/// A convolution over `[1, height, width, channels]`; weights run over rows, columns, channels of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Rows and columns of the window.
    pub size: [usize; 2],
    /// Pixels from window to window.
    pub stride: [usize; 2],
    /// Pixels from place to place within the window.
    pub dilation: [usize; 2],
    /// Padding: rows above, columns to the left; what lies below and right follows from the output's shape.
    pub before: [usize; 2],
}

/// Convolves every channel by itself. Inputs: `[1, height, width, channels]`, weights `[places of the window, channels]`,
/// bias `[channels]`.
pub(crate) struct Depthwise<'a> {
    pub(crate) window: &'a Window,
}

impl Operator for Depthwise<'_> {
    fn name(&self) -> &'static str {
        "depthwise f32"
    }

    fn check(&self, operands: &Signature<'_>) -> Result<(), String> {
        let (x, out) = operands.operands(3)?;
        let (&[1, height, width, channels], &[1, rows, columns, depth]) = (&x.shape[..], &out.shape[..]) else {
            return Err("is a convolution of something else than one image".into());
        };
        let window = self.window;
        check_window(window, [height, width], [rows, columns])?;
        let weights = window.size[0] * window.size[1] * channels;
        let fits = operands.inputs[1].len() == weights && operands.inputs[2].len() == channels;
        ensure(operands.is_float() && depth == channels && fits, "has shapes that do not fit")
    }

    fn macs(&self, operands: &Signature<'_>) -> Option<u64> {
        operands.results().checked_mul(self.window.size[0].checked_mul(self.window.size[1])? as u64)
    }

    fn prepare(&self, step: &mut Preparation<'_>) -> Result<Box<dyn PreparedOperator>, Error> {
        Ok(Box::new(Prepared::new(self.window, step.input(0), step.output())))
    }
}

impl PreparedOperator for Prepared {
    fn run(&self, step: &mut StepRun<'_>) -> Result<(), Error> {
        let [x, weights, bias] = [step.inputs.floats(0)?, step.inputs.floats(1)?, step.inputs.floats(2)?];
        let out = step.outputs.floats()?;
        step.kernel.vectorize(
            #[inline(always)]
            || self.compute(x, weights, bias, out),
        );
        Ok(())
    }
}

/// A window over the shapes of one step.
struct Prepared {
    window: Window,
    /// Height, width, channels of the input.
    input: [usize; 3],
    /// Width of the output.
    width: usize,
}

impl Prepared {
    /// Prepares for shapes that the check has found to fit.
    fn new(window: &Window, input: &[usize], output: &[usize]) -> Prepared {
        let side = |shape: &[usize], axis: usize| shape.get(axis).copied().unwrap_or(1);
        let input = [side(input, 1), side(input, 2), side(input, 3)];
        Prepared { window: window.clone(), input, width: side(output, 2) }
    }

    /// Computes the output; `weights` has one row of channels for each place of the window.
    #[inline(always)]
    fn compute(&self, x: &[f32], weights: &[f32], bias: &[f32], out: &mut [f32]) {
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

/// Checks that each output pixel's window begins within the padded image, so that no index can wrap around.
pub(crate) fn check_window(window: &Window, input: [usize; 2], output: [usize; 2]) -> Result<(), String> {
    let small = |values: &[usize; 2]| values.iter().all(|v| (1..=1024).contains(v));
    if !(small(&window.size) && small(&window.stride) && small(&window.dilation)) {
        return Err("has a window out of range".into());
    }
    let begins = |axis: usize| {
        window.before[axis] <= 4096 && (output[axis] - 1).saturating_mul(window.stride[axis]) < input[axis] + 8192
    };
    if begins(0) && begins(1) { Ok(()) } else { Err("has an output that is too large".into()) }
}
