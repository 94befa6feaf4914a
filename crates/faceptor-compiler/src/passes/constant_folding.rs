//! Constant folding: computes steps whose inputs are all constants, with the operators that would compute them on the board.

use std::sync::Arc;

use anyhow::Result;

use crate::graph::{Constant, Graph};
use faceptor_nn::Kernel;
use faceptor_nn::evaluate::{TensorData, evaluate};
use faceptor_nn::plan::{Op, Port, Step};

/// The most elements by which a constant may be larger than its inputs: beyond that, it is not worth its place in the bundle.
const MAX_GROWTH: usize = 1 << 16;

/// Computes the steps whose inputs are all constants; returns whether there were any.
pub fn fold_constants(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    let mut i = 0;
    while i < graph.steps.len() {
        let step = &graph.steps[i];
        let known = step.inputs.iter().all(|v| graph.slot(*v).constant.is_some());
        let len_in: usize = step.inputs.iter().map(|v| graph.slot(*v).len()).sum();
        let len_out: usize = step.outputs.iter().map(|v| graph.slot(*v).len()).sum();
        if !known || len_out > len_in.saturating_add(MAX_GROWTH) {
            i += 1;
            continue;
        }
        let step = graph.steps.remove(i);
        compute(graph, step)?;
        changed = true;
    }
    Ok(changed)
}

/// Computes a step whose inputs are all constants; its outputs become constants.
pub fn compute(graph: &mut Graph, step: Step) -> Result<()> {
    if step.op == Op::Reshape {
        let constant = graph.slot(step.inputs[0]).constant.clone();
        graph.slots[step.outputs[0] as usize].constant = constant;
        return Ok(());
    }
    let mut constants = Vec::new();
    let outputs = step.outputs.clone();
    let mut alone = Graph { slots: graph.slots.clone(), ..Graph::default() };
    alone.outputs = outputs.iter().map(|value| Port { name: step.name.clone(), value: *value }).collect();
    alone.steps.push(step);
    let plan = alone.into_plan("constant", |slot, constant| {
        constants.push(TensorData::from_le_bytes(slot.element, &constant.bytes));
        (constants.len() - 1) as u32
    });
    let results = evaluate(&plan, &constants, &[], Kernel::SCALAR)?;
    for (output, result) in outputs.into_iter().zip(results) {
        let constant = Constant { bytes: result.to_le_bytes() };
        graph.slots[output as usize].constant = Some(Arc::new(constant));
    }
    Ok(())
}
