//! Steps whose inputs are all known are computed now, by the operators that would compute them on the board.

use anyhow::Result;

use crate::graph::Graph;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::memory_plan::{Layout, Place};
use faceptor_nn::ops::Data;
use faceptor_nn::ops::product::Scratch;
use faceptor_nn::part::{Constants, Packs, Runner};
use faceptor_nn::plan::{Element, Op, Step};

/// A constant that is larger than what it is made of is not worth its place in the bundle beyond this, elements.
const MAX_GROWTH: usize = 1 << 16;

enum Owned {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
}

struct Table(Vec<Owned>);

impl Constants for Table {
    fn constant(&self, index: u32) -> Data<'_> {
        match &self.0[index as usize] {
            Owned::F32(v) => Data::F32(v),
            Owned::U8(v) => Data::U8(v),
            Owned::I8(v) => Data::I8(v),
        }
    }
}

/// Computes what is known; says whether there was anything.
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

/// Computes a step whose inputs are all known; its outputs are constants then.
pub fn compute(graph: &mut Graph, step: Step) -> Result<()> {
    if step.op == Op::Reshape {
        let constant = graph.slot(step.inputs[0]).constant.clone();
        graph.slots[step.outputs[0] as usize].constant = constant;
        return Ok(());
    }
    let mut table = Table(Vec::new());
    let outputs = step.outputs.clone();
    let mut alone = Graph { slots: graph.slots.clone(), ..Graph::default() };
    alone.steps.push(step);
    let plan = alone.into_plan("constant", |slot, constant| {
        let bytes = &constant.bytes;
        table.0.push(match slot.element {
            Element::F32 => {
                Owned::F32(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            Element::U8 => Owned::U8(bytes.clone()),
            Element::I8 => Owned::I8(bytes.iter().map(|b| *b as i8).collect()),
        });
        (table.0.len() - 1) as u32
    });
    let mut layout = Layout::default();
    let places: Vec<Place> = plan
        .values
        .iter()
        .map(|value| match value.constant {
            Some(index) => Place::Constant(index),
            None => layout.named_place(value.element, value.len()),
        })
        .collect();
    let mut scratch = Scratch::default();
    let mut packs = Packs::new(Kernel::SCALAR, 1);
    let mut runner = Runner::new(&plan, &places, &table, &mut packs, &mut scratch)?;
    let mut storage = layout.allocate();
    runner.run(&table, &mut storage, &mut scratch, None);
    for (output, value) in outputs.into_iter().zip(&plan.steps[0].outputs) {
        let len = plan.values[*value as usize].len();
        let bytes = match storage.data(places[*value as usize], len) {
            Some(Data::F32(values)) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Some(Data::U8(values)) => values.to_vec(),
            _ => continue,
        };
        graph.slots[output as usize].constant = Some(std::sync::Arc::new(crate::graph::Constant { bytes }));
    }
    Ok(())
}
