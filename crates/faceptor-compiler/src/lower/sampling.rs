//! Lowers resizing, pooling, gathering and padding to samples: each index of an output axis combines a few input indices.

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::array::{Pad, PadMode};
use tract_onnx::tract_hir::tract_core::ops::cnn::{PaddingSpec, PoolSpec, SumPool};

use crate::lower::Lowering;
use faceptor_nn::plan::{Combine, Element, Op as PlanOp, Sample, ValueId};

/// The input positions, the same number for each index of an output axis, and their weights if they are not all 1.
struct Taps {
    by: Combine,
    taps: usize,
    positions: Vec<u32>,
    weights: Option<Vec<f32>>,
}

impl Taps {
    /// Takes one input index for each output index.
    fn gather(positions: Vec<u32>) -> Taps {
        Taps { by: Combine::Sum, taps: 1, positions, weights: None }
    }
}

impl Lowering<'_> {
    /// Adds a sample along one axis.
    fn sample(&mut self, name: &str, x: ValueId, axis: usize, taps: Taps) -> Result<ValueId> {
        ensure!(self.graph.slot(x).element == Element::F32, "only float32 is supported");
        let mut shape = self.graph.shape(x).to_vec();
        shape[axis] = taps.positions.len() / taps.taps;
        let mut inputs = vec![x];
        if let Some(weights) = taps.weights.filter(|w| w.iter().any(|w| *w != 1.0)) {
            inputs.push(self.graph.add_floats(&[weights.len()], &weights));
        }
        let op = Sample { axis, taps: taps.taps, by: taps.by, positions: taps.positions };
        Ok(self.graph.push(name, PlanOp::Sample(op), &inputs, &shape, Element::F32))
    }

    /// Sets the output of the node to `value`, reshaped.
    pub fn finish(&mut self, node: &TypedNode, value: ValueId) -> Result<()> {
        self.emit(node, PlanOp::Reshape, &[value])
    }

    pub fn max_pool(&mut self, node: &TypedNode, spec: &PoolSpec) -> Result<()> {
        self.pool(node, spec, |len, out, places| {
            let mut positions = Vec::new();
            for o in 0..out {
                let inside: Vec<u32> = places(o).filter_map(|p| p.filter(|p| *p < len).map(|p| p as u32)).collect();
                let first = *inside.first().context("a window lies outside the image")?;
                // A position outside is never the largest: one inside takes its place.
                positions.extend(places(o).map(|p| p.filter(|p| *p < len).map_or(first, |p| p as u32)));
            }
            Ok(Taps { by: Combine::Max, taps: positions.len() / out, positions, weights: None })
        })
    }

    pub fn sum_pool(&mut self, node: &TypedNode, op: &SumPool) -> Result<()> {
        let spec = &op.pool_spec;
        // With ONNX's ceil mode the overhang after the explicit padding does not count.
        let ceil = matches!(&spec.padding, PaddingSpec::ExplicitOnnxPool(_, _, true));
        ensure!(!(ceil && op.normalize && op.count_include_pad), "ceil mode with counted padding is not supported");
        self.pool(node, spec, |len, out, places| {
            let mut positions = Vec::new();
            let mut weights = Vec::new();
            for o in 0..out {
                let inside = |p: &Option<usize>| p.is_some_and(|p| p < len);
                let count = places(o).filter(|p| op.count_include_pad || inside(p)).count();
                let weight = if op.normalize { 1.0 / count as f32 } else { 1.0 };
                positions.extend(places(o).map(|p| p.filter(|p| *p < len).unwrap_or(0) as u32));
                weights.extend(places(o).map(|p| if inside(&p) { weight } else { 0.0 }));
            }
            Ok(Taps { by: Combine::Sum, taps: positions.len() / out, positions, weights: Some(weights) })
        })
    }

    /// Adds a sample for each axis: pooling is separable. `make` gets the length of the axis, that of the output, and a
    /// function from an output index to the positions of its window, `None` for those before the axis.
    #[allow(clippy::type_complexity, reason = "the type is written once")]
    fn pool(
        &mut self,
        node: &TypedNode,
        spec: &PoolSpec,
        make: impl Fn(usize, usize, &dyn Fn(usize) -> Box<dyn Iterator<Item = Option<usize>>>) -> Result<Taps>,
    ) -> Result<()> {
        let mut value = self.input(node, 0)?;
        let shape: TVec<usize> = self.graph.shape(value).iter().copied().collect();
        let data = spec.data_format.shape(shape)?;
        let first = data.h_axis();
        for (i, padding) in spec.computed_padding(data.hw_dims()).iter().enumerate() {
            let (size, stride, dilation) = (spec.kernel_shape[i], spec.stride(i), spec.dilation(i));
            let before = padding.pad_before;
            let places = move |o: usize| -> Box<dyn Iterator<Item = Option<usize>>> {
                Box::new((0..size).map(move |tap| (o * stride + tap * dilation).checked_sub(before)))
            };
            let taps = make(data.hw_dims()[i], padding.convoluted, &places)?;
            value = self.sample(&node.name, value, first + i, taps)?;
        }
        self.finish(node, value)
    }

    /// Lowers a gather with constant indices along one axis.
    pub fn gather(&mut self, node: &TypedNode, axis: usize) -> Result<()> {
        let indices = self.model.outlet_fact(node.inputs[1])?.konst.clone().context("its indices must be constant")?;
        let x = self.input(node, 0)?;
        let len = self.graph.shape(x)[axis];
        let indices = indices.cast_to::<i64>()?;
        let position = |i: &i64| {
            let index = if *i < 0 { i + len as i64 } else { *i };
            u32::try_from(index)
                .ok()
                .filter(|p| (*p as usize) < len)
                .with_context(|| format!("index {i} is out of range"))
        };
        let positions: Vec<u32> =
            indices.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(position).collect::<Result<_>>()?;
        let value = self.sample(&node.name, x, axis, Taps::gather(positions))?;
        self.finish(node, value)
    }

    /// Lowers the repetition of whole axes.
    pub fn tile(&mut self, node: &TypedNode, multipliers: &[TDim]) -> Result<()> {
        let mut value = self.input(node, 0)?;
        for (axis, count) in multipliers.iter().enumerate() {
            let (len, count) = (self.graph.shape(value)[axis] as u32, count.to_usize()? as u32);
            if count != 1 {
                let positions = (0..len * count).map(|i| i % len).collect();
                value = self.sample(&node.name, value, axis, Taps::gather(positions))?;
            }
        }
        self.finish(node, value)
    }

    /// Takes every `step`th index, backwards from the end.
    pub fn backwards(&mut self, node: &TypedNode, axis: usize, start: usize, step: usize) -> Result<()> {
        let x = self.input(node, 0)?;
        let len = self.graph.shape(x)[axis];
        let positions = (start..len).rev().step_by(step).map(|p| p as u32).collect();
        let value = self.sample(&node.name, x, axis, Taps::gather(positions))?;
        self.finish(node, value)
    }

    /// Lowers padding by reflection or by the edge.
    pub fn pad_by_repetition(&mut self, node: &TypedNode, pad: &Pad) -> Result<()> {
        let mut value = self.input(node, 0)?;
        for (axis, (before, after)) in pad.pads.iter().enumerate().filter(|(_, p)| **p != (0, 0)) {
            let last = self.graph.shape(value)[axis] as i64 - 1;
            let position = |i: i64| match pad.mode {
                PadMode::Reflect if i < 0 => -i,
                PadMode::Reflect if i > last => 2 * last - i,
                _ => i.clamp(0, last),
            };
            let positions: Vec<i64> = (-(*before as i64)..=last + *after as i64).map(position).collect();
            ensure!(positions.iter().all(|p| (0..=last).contains(p)), "padding is longer than the axis");
            let positions = positions.into_iter().map(|p| p as u32).collect();
            value = self.sample(&node.name, value, axis, Taps::gather(positions))?;
        }
        self.finish(node, value)
    }

    /// Lowers resizing in every mode that is linear and separable. The weights along an axis are found by running tract's
    /// operator on unit vectors.
    pub fn resize(&mut self, node: &TypedNode) -> Result<()> {
        let mut value = self.input(node, 0)?;
        let (from, to) = (self.graph.shape(value).to_vec(), self.shape_of(OutletId::new(node.id, 0))?);
        ensure!(from.len() == to.len(), "the rank changes");
        let resized: Vec<usize> = (0..from.len()).filter(|a| from[*a] != to[*a]).collect();
        let small: Vec<usize> =
            (0..from.len()).map(|axis| if resized.contains(&axis) { from[axis] } else { 1 }).collect();
        for &axis in &resized {
            let mut rows = vec![Vec::new(); to[axis]];
            let inner: usize = small[axis + 1..].iter().product();
            for index in 0..from[axis] {
                let len = small.iter().product::<usize>();
                let unit: Vec<f32> = (0..len).map(|i| f32::from(i / inner % from[axis] == index)).collect();
                let (shape, found) = self.resized(node, &small, &unit)?;
                let pitch: usize = shape[axis + 1..].iter().product();
                ensure!(shape[axis] == to[axis], "its sizes are not what the graph says");
                for (o, row) in rows.iter_mut().enumerate() {
                    let weight = found[o * pitch];
                    if weight != 0.0 {
                        row.push((index as u32, weight));
                    }
                }
            }
            let count = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
            rows.iter_mut().for_each(|row| row.resize(count, (row.first().map_or(0, |r| r.0), 0.0)));
            let positions = rows.iter().flatten().map(|r| r.0).collect();
            let weights = Some(rows.iter().flatten().map(|r| r.1).collect());
            value = self.sample(&node.name, value, axis, Taps { by: Combine::Sum, taps: count, positions, weights })?;
        }
        self.finish(node, value)
    }

    /// Runs the operator of the node on another input; its other inputs are constant.
    fn resized(&self, node: &TypedNode, shape: &[usize], values: &[f32]) -> Result<(Vec<usize>, Vec<f32>)> {
        let mut inputs = tvec!(Tensor::from_shape(shape, values)?.into_tvalue());
        for input in &node.inputs[1..] {
            let constant = self.model.outlet_fact(*input)?.konst.clone().context("its sizes must be constant")?;
            inputs.push(constant.into_tvalue());
        }
        let Some(outputs) = node.op.eval_out_of_plan(inputs)? else { bail!("tract cannot compute it by itself") };
        let output = outputs.first().context("it has no output")?;
        Ok((output.shape().to_vec(), output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
    }
}
