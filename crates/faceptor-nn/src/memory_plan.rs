//! The memory plan: buffers for the values of all parts, planned once. A buffer is used again after its value has been read
//! for the last time.

use crate::buffers::{Buffers, Place};
use crate::plan::{Element, Op, Plan, ValueId};

/// Plans the buffers: those of named tensors first, then those that all parts use in turn.
#[derive(Debug, Default)]
pub(crate) struct MemoryPlan {
    floats: Slots,
    bytes: Slots,
}

/// The slots of one element type.
#[derive(Debug, Default)]
struct Slots {
    lens: Vec<usize>,
    /// Slots for values that live within one run of a part.
    temporary: Vec<usize>,
    free: Vec<usize>,
}

impl Slots {
    /// Takes a free slot, or a new one, and makes it large enough.
    fn acquire(&mut self, len: usize) -> usize {
        // The smallest that is large enough, or else the largest, which then grows.
        let fitting = self.free.iter().enumerate().filter(|(_, s)| self.lens[**s] >= len);
        let best = fitting.min_by_key(|(_, s)| self.lens[**s]).map(|(i, _)| i);
        let best = best.or_else(|| self.free.iter().enumerate().max_by_key(|(_, s)| self.lens[**s]).map(|(i, _)| i));
        let slot = match best {
            Some(i) => self.free.swap_remove(i),
            None => {
                self.lens.push(0);
                self.temporary.push(self.lens.len() - 1);
                self.lens.len() - 1
            }
        };
        self.lens[slot] = self.lens[slot].max(len);
        slot
    }
}

impl MemoryPlan {
    /// Plans a buffer for a named tensor alone.
    pub(crate) fn named_place(&mut self, element: Element, len: usize) -> Place {
        let lens = if element == Element::F32 { &mut self.floats.lens } else { &mut self.bytes.lens };
        lens.push(len);
        let slot = lens.len() - 1;
        if element == Element::F32 { Place::Float(slot) } else { Place::Byte(slot) }
    }

    /// Places every value of a plan; `named` has the places of its inputs and outputs. A value that no step reads or writes
    /// has no place.
    pub(crate) fn place(&mut self, plan: &Plan, named: &[(ValueId, Place)]) -> Vec<Option<Place>> {
        self.floats.free = self.floats.temporary.clone();
        self.bytes.free = self.bytes.temporary.clone();
        let classes = share_reshaped(plan, named);
        let mut last_use = vec![0; plan.values.len()];
        for (i, step) in plan.steps.iter().enumerate() {
            step.inputs.iter().chain(&step.outputs).for_each(|v| last_use[classes[*v as usize]] = i);
        }
        let mut places: Vec<Option<Place>> = vec![None; plan.values.len()];
        for (value, place) in named {
            places[classes[*value as usize]] = Some(*place);
        }
        let permanent: Vec<usize> = named.iter().map(|(v, _)| classes[*v as usize]).collect();
        for (i, value) in plan.values.iter().enumerate() {
            if let Some(constant) = value.constant {
                places[classes[i]] = Some(Place::Constant(constant));
            }
        }
        for (i, step) in plan.steps.iter().enumerate() {
            for output in &step.outputs {
                let class = classes[*output as usize];
                if places[class].is_none() {
                    let value = &plan.values[*output as usize];
                    places[class] = Some(match value.element {
                        Element::F32 => Place::Float(self.floats.acquire(value.len())),
                        Element::U8 | Element::I8 => Place::Byte(self.bytes.acquire(value.len())),
                    });
                }
            }
            let mut done: Vec<usize> = step.inputs.iter().chain(&step.outputs).map(|v| classes[*v as usize]).collect();
            done.sort_unstable();
            done.dedup();
            for class in done.into_iter().filter(|c| last_use[*c] == i && !permanent.contains(c)) {
                match places[class] {
                    Some(Place::Float(slot)) => self.floats.free.push(slot),
                    Some(Place::Byte(slot)) => self.bytes.free.push(slot),
                    Some(Place::Constant(_)) | None => {}
                }
            }
        }
        classes.iter().map(|class| places[*class]).collect()
    }

    /// Allocates the buffers.
    pub(crate) fn allocate(self) -> Buffers {
        Buffers {
            floats: self.floats.lens.into_iter().map(|len| vec![0.0; len]).collect(),
            bytes: self.bytes.lens.into_iter().map(|len| vec![0; len]).collect(),
        }
    }
}

/// Returns for each value the one whose place it shares: a reshaped value shares the place of its source, unless both have
/// a place already.
fn share_reshaped(plan: &Plan, named: &[(ValueId, Place)]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..plan.values.len()).collect();
    let mut fixed: Vec<bool> = plan.values.iter().map(|v| v.constant.is_some()).collect();
    named.iter().for_each(|(v, _)| fixed[*v as usize] = true);
    for step in plan.steps.iter().filter(|s| s.op == Op::Reshape) {
        let (from, to) = (classes[step.inputs[0] as usize], classes[step.outputs[0] as usize]);
        if from != to && !(fixed[from] && fixed[to]) {
            fixed[from] |= fixed[to];
            classes.iter_mut().filter(|c| **c == to).for_each(|c| *c = from);
        }
    }
    classes
}
