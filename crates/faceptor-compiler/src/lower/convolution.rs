//! Lowers float convolutions: to a product with the window of each pixel, or channel by channel.

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cnn::{Conv, KernelFormat};

use crate::lower::Lowering;
use faceptor_nn::plan::{Activation, Op as PlanOp, Product, Residual, Window};

impl Lowering<'_> {
    pub fn float_conv(&mut self, node: &TypedNode, conv: &Conv) -> Result<()> {
        ensure!(conv.q_params.is_none() && conv.pool_spec.rank() == 2, "only two-dimensional float32 ones");
        let (x, kernel, bias) = (self.input(node, 0)?, self.input(node, 1)?, self.input(node, 2)?);
        let kernel = self.graph.floats(kernel).context("the weights must be constant")?;
        let bias = self.graph.floats(bias).context("the bias must be constant")?;
        let format = conv.pool_spec.data_format;
        let input = self.graph.shape(x).to_vec();
        let layout = format.shape(&input[..])?;
        ensure!(layout.hw_rank() == 2 && layout.n().is_none_or(|n| *n == 1), "batch must be 1");
        let geometry = conv.pool_spec.computed_padding(layout.hw_dims());
        let size = [conv.pool_spec.kernel_shape[0], conv.pool_spec.kernel_shape[1]];
        let taps = size[0] * size[1];
        let (columns, channels) = (conv.output_channels(), conv.input_channels());
        let (per_group, group_columns) = (channels / conv.group, columns / conv.group);
        let depth = taps * channels;
        ensure!(kernel.len() == columns * taps * per_group, "the weights' shape does not fit");
        // As for integers: groups become one dense product.
        let mut weights = vec![0f32; columns * depth];
        for o in 0..columns {
            for c in 0..per_group {
                for tap in 0..taps {
                    let from = match conv.kernel_fmt {
                        KernelFormat::OIHW => (o * per_group + c) * taps + tap,
                        KernelFormat::OHWI => (o * taps + tap) * per_group + c,
                        KernelFormat::HWIO if conv.group == 1 => (tap * channels + c) * columns + o,
                        KernelFormat::HWIO => bail!("grouped weights in this order are not supported"),
                    };
                    weights[(o * taps + tap) * channels + o / group_columns * per_group + c] = kernel[from];
                }
            }
        }
        let has_bias = bias.iter().any(|b| *b != 0.0);
        let bias: Vec<f32> = (0..columns).map(|o| bias[if bias.len() == 1 { 0 } else { o }]).collect();
        let (stride, dilation) = (conv.pool_spec.strides(), conv.pool_spec.dilations());
        let window = Window {
            size,
            stride: [stride[0], stride[1]],
            dilation: [dilation[0], dilation[1]],
            before: [geometry[0].pad_before, geometry[1].pad_before],
        };
        if per_group == 1 && columns == channels {
            // Channel by channel: the weights run over the positions of the window, then the channels.
            let by_place: Vec<f32> =
                (0..depth).map(|i| weights[(i % channels * taps + i / channels) * channels + i % channels]).collect();
            let weights = self.graph.add_floats(&[taps, channels], &by_place);
            let bias = self.graph.add_floats(&[channels], &bias);
            return self.image_step(node, PlanOp::Depthwise(window), &[x, weights, bias], format);
        }
        let mut operands = vec![x, self.graph.add_floats(&[columns, depth], &weights)];
        if has_bias {
            operands.push(self.graph.add_floats(&[columns], &bias));
        }
        let product = Product { bias: has_bias, ..float_product(Some(window), columns, depth) };
        self.image_step(node, PlanOp::Product(product), &operands, format)
    }
}

/// Returns a product of floats without bias, activation or residual.
pub fn float_product(window: Option<Window>, columns: usize, depth: usize) -> Product {
    Product {
        window,
        columns,
        depth,
        zero_point: None,
        bias: false,
        first: Activation::None,
        residual: Residual::None,
        second: Activation::None,
        float_output: true,
        quantized_output: None,
    }
}
