//! Lowers softmax, log-softmax and the selection between two values.

use anyhow::{Context, Result, ensure};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::nn::SoftmaxKind;

use crate::lower::Lowering;
use faceptor_nn::plan::{Binary, Element, Op as PlanOp, Reduction, Unary, ValueId};

impl Lowering<'_> {
    /// Lowers softmax over one axis or several adjacent ones, which are joined; log-softmax by its definition.
    pub fn softmax(&mut self, node: &TypedNode, axes: &[usize], kind: &SoftmaxKind) -> Result<()> {
        let x = self.input(node, 0)?;
        let shape = self.graph.shape(x).to_vec();
        let (first, last) = (axes.iter().min().context("no axes")?, axes.iter().max().context("no axes")?);
        ensure!((*first..=*last).all(|a| axes.contains(&a)), "axes that do not lie side by side are not supported");
        let joined: Vec<usize> =
            [shape[..*first].to_vec(), vec![shape[*first..=*last].iter().product()], shape[*last + 1..].to_vec()]
                .concat();
        let x = self.graph.push(&node.name, PlanOp::Reshape, &[x], &joined, Element::F32);
        let value = match kind {
            SoftmaxKind::Softmax => {
                self.graph.push(&node.name, PlanOp::Softmax { axis: *first }, &[x], &joined, Element::F32)
            }
            SoftmaxKind::LogSoftmax => {
                let mut one = joined.clone();
                one[*first] = 1;
                let mut push = |op: PlanOp, inputs: &[ValueId], shape: &[usize]| {
                    self.graph.push(&node.name, op, inputs, shape, Element::F32)
                };
                let over = |by: Reduction| PlanOp::Reduce { by, axes: vec![*first] };
                let max = push(over(Reduction::Max), &[x], &one);
                let shifted = push(PlanOp::Binary(Binary::Sub), &[x, max], &joined);
                let exponentials = push(PlanOp::Unary(Unary::Exp), &[shifted], &joined);
                let sum = push(over(Reduction::Sum), &[exponentials], &one);
                let logarithm = push(PlanOp::Unary(Unary::Ln), &[sum], &one);
                push(PlanOp::Binary(Binary::Sub), &[shifted, logarithm], &joined)
            }
        };
        self.finish(node, value)
    }

    /// Lowers the element-wise selection between two values; all inputs are broadcast to the shape of the output.
    pub fn select(&mut self, node: &TypedNode) -> Result<()> {
        let out = self.shape_of(OutletId::new(node.id, 0))?;
        let mut inputs = Vec::new();
        for slot in 0..3 {
            let value = self.input(node, slot)?;
            let same = self.graph.shape(value) == out;
            inputs.push(match same {
                true => value,
                false => self.graph.push(&node.name, PlanOp::Broadcast, &[value], &out, Element::F32),
            });
        }
        self.emit(node, PlanOp::Select, &inputs)
    }
}
