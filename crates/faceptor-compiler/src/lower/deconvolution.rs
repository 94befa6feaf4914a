//! Lowers transposed convolutions: to one product and a shuffle where windows do not overlap, otherwise to a convolution of
//! the image with zeros inserted between its pixels.

use anyhow::{Context, Result, ensure};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cnn::{Deconv, KernelFormat};
use tract_onnx::tract_hir::tract_core::ops::nn::DataFormat;

use crate::lower::Lowering;
use crate::lower::convolution::float_product;
use faceptor_nn::plan::{Element, Op as PlanOp, Product, ValueId, Window};

impl Lowering<'_> {
    pub fn deconvolution(&mut self, node: &TypedNode, op: &Deconv) -> Result<()> {
        let spec = &op.pool_spec;
        let known = spec.data_format == DataFormat::NCHW && op.kernel_format == KernelFormat::OIHW;
        ensure!(known && spec.rank() == 2, "only two-dimensional ones with channels first");
        let (x, kernel, bias) = (self.input(node, 0)?, self.input(node, 1)?, self.input(node, 2)?);
        let &[1, channels, height, width] = self.graph.shape(x) else { anyhow::bail!("batch must be 1") };
        let out = self.shape_of(OutletId::new(node.id, 0))?;
        let columns = out[1];
        let kernel = self.graph.floats(kernel).context("the weights must be constant")?;
        let bias = self.graph.floats(bias).context("the bias must be constant")?;
        let bias: Vec<f32> = (0..columns).map(|o| bias[if bias.len() == 1 { 0 } else { o }]).collect();
        let pair = |values: &[usize]| [values[0], values[1]];
        let (size, stride) = (pair(&spec.kernel_shape), pair(&spec.strides()));
        let dilation = pair(&spec.dilations());
        let (per_group, group_columns) = (channels / op.group, columns / op.group);
        ensure!(kernel.len() == columns * per_group * size[0] * size[1], "the weights' shape does not fit");
        let weight = |o: usize, c: usize, dy: usize, dx: usize| {
            let inside = c / per_group == o / group_columns;
            if inside { kernel[((o * per_group + c % per_group) * size[0] + dy) * size[1] + dx] } else { 0.0 }
        };
        let order = vec![0, 2, 3, 1];
        let last = [1, height, width, channels];
        let image = self.graph.push(&node.name, PlanOp::Transpose { order }, &[x], &last, Element::F32);
        let padding = spec.padding.compute_for_deconv(&[height, width], &size, &dilation, &stride, &op.adjustments)?;
        let before = [padding[0].pad_before, padding[1].pad_before];
        let apart = size == stride && dilation == [1, 1] && out[2..] == [height * size[0], width * size[1]];
        let result = if apart && before == [0, 0] {
            let taps = size[0] * size[1];
            let matrix: Vec<f32> = (0..taps * columns * channels)
                .map(|i| {
                    let (tap, o, c) = (i / channels / columns, i / channels % columns, i % channels);
                    weight(o, c, tap / size[1], tap % size[1])
                })
                .collect();
            let bias: Vec<f32> = (0..taps * columns).map(|i| bias[i % columns]).collect();
            let product = float_product(None, taps * columns, channels);
            let rows = [1, height, width, taps * columns];
            let value = self.with_bias(&node.name, product, image, &matrix, &bias, &rows);
            let split = [height, width, size[0], size[1], columns];
            let value = self.graph.push(&node.name, PlanOp::Reshape, &[value], &split, Element::F32);
            let moved = [height, size[0], width, size[1], columns];
            let order = vec![0, 2, 1, 3, 4];
            let value = self.graph.push(&node.name, PlanOp::Transpose { order }, &[value], &moved, Element::F32);
            let image = [1, out[2], out[3], columns];
            self.graph.push(&node.name, PlanOp::Reshape, &[value], &image, Element::F32)
        } else {
            let apart = [height, 1, width, 1, channels];
            let value = self.graph.push(&node.name, PlanOp::Reshape, &[image], &apart, Element::F32);
            let spread = [height, stride[0], width, stride[1], channels];
            let zeros = PlanOp::Pad { before: vec![0; 5], value: 0.0 };
            let value = self.graph.push(&node.name, zeros, &[value], &spread, Element::F32);
            let spread = [1, height * stride[0], width * stride[1], channels];
            let value = self.graph.push(&node.name, PlanOp::Reshape, &[value], &spread, Element::F32);
            // The part before the first window, less what the padding removes.
            let front = |axis: usize| {
                (dilation[axis] * (size[axis] - 1)).checked_sub(before[axis]).context("padding exceeds the window")
            };
            let window = Window { size, stride: [1, 1], dilation, before: [front(0)?, front(1)?] };
            let depth = size[0] * size[1] * channels;
            let matrix: Vec<f32> = (0..columns * depth)
                .map(|i| {
                    let (o, tap, c) = (i / depth, i % depth / channels, i % channels);
                    weight(o, c, size[0] - 1 - tap / size[1], size[1] - 1 - tap % size[1])
                })
                .collect();
            let product = float_product(Some(window), columns, depth);
            let image = [1, out[2], out[3], columns];
            self.with_bias(&node.name, product, value, &matrix, &bias, &image)
        };
        self.emit(node, PlanOp::Transpose { order: vec![0, 3, 1, 2] }, &[result])
    }

    fn with_bias(
        &mut self,
        name: &str,
        mut product: Product,
        x: ValueId,
        matrix: &[f32],
        bias: &[f32],
        shape: &[usize],
    ) -> ValueId {
        product.bias = true;
        let weights = self.graph.add_floats(&[product.columns, product.depth], matrix);
        let bias = self.graph.add_floats(&[bias.len()], bias);
        self.graph.push(name, PlanOp::Product(product), &[x, weights, bias], shape, Element::F32)
    }
}
