//! The compiler's graph: the steps of a plan, together with the values of its constants.

use std::collections::HashMap;
use std::sync::Arc;

use faceptor_nn::plan::{Element, Op, Plan, Port, Step, Value, ValueId};

/// A constant's bytes, little-endian, row-major.
#[derive(Debug, PartialEq)]
pub struct Constant {
    pub bytes: Vec<u8>,
}

/// A value of the graph: computed by a step, or constant.
#[derive(Debug, Clone)]
pub struct Slot {
    pub shape: Vec<usize>,
    pub element: Element,
    pub constant: Option<Arc<Constant>>,
}

impl Slot {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A part while it is compiled: values, and steps in order of computation.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub slots: Vec<Slot>,
    pub steps: Vec<Step>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

impl Graph {
    pub fn slot(&self, id: ValueId) -> &Slot {
        &self.slots[id as usize]
    }

    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.slot(id).shape
    }

    /// Adds a value that a step will compute.
    pub fn add_value(&mut self, shape: &[usize], element: Element) -> ValueId {
        self.slots.push(Slot { shape: shape.to_vec(), element, constant: None });
        (self.slots.len() - 1) as ValueId
    }

    /// Adds a constant of raw bytes.
    pub fn add_constant(&mut self, shape: &[usize], element: Element, bytes: Vec<u8>) -> ValueId {
        self.slots.push(Slot { shape: shape.to_vec(), element, constant: Some(Arc::new(Constant { bytes })) });
        (self.slots.len() - 1) as ValueId
    }

    /// Adds a float constant.
    pub fn add_floats(&mut self, shape: &[usize], values: &[f32]) -> ValueId {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.add_constant(shape, Element::F32, bytes)
    }

    /// Returns the values of a float constant.
    pub fn floats(&self, id: ValueId) -> Option<Vec<f32>> {
        let slot = self.slot(id);
        let constant = slot.constant.as_ref().filter(|_| slot.element == Element::F32)?;
        Some(constant.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Returns the value of a float constant whose elements are all equal.
    pub fn scalar(&self, id: ValueId) -> Option<f32> {
        let values = self.floats(id)?;
        let first = *values.first()?;
        values.iter().all(|v| *v == first).then_some(first)
    }

    /// Appends a step with one output, and returns that.
    pub fn push(&mut self, name: &str, op: Op, inputs: &[ValueId], shape: &[usize], element: Element) -> ValueId {
        let output = self.add_value(shape, element);
        self.steps.push(Step { name: name.to_string(), op, inputs: inputs.to_vec(), outputs: vec![output] });
        output
    }

    /// Returns the index of the step that computes a value.
    pub fn producer(&self, id: ValueId) -> Option<usize> {
        self.steps.iter().position(|s| s.outputs.contains(&id))
    }

    /// Returns the indices of the steps that read a value.
    pub fn consumers(&self, id: ValueId) -> Vec<usize> {
        (0..self.steps.len()).filter(|i| self.steps[*i].inputs.contains(&id)).collect()
    }

    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.iter().any(|p| p.value == id)
    }

    /// Returns the only step that reads a value, if the value is not an output of the part.
    pub fn only_consumer(&self, id: ValueId) -> Option<usize> {
        match self.consumers(id)[..] {
            [one] if !self.is_output(id) => Some(one),
            _ => None,
        }
    }

    /// Replaces `old` by `new` in all inputs of steps and all outputs of the part.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        for step in &mut self.steps {
            step.inputs.iter_mut().filter(|i| **i == old).for_each(|i| *i = new);
        }
        self.outputs.iter_mut().filter(|p| p.value == old).for_each(|p| p.value = new);
    }

    /// Removes steps whose results are never read. Returns whether there were any.
    pub fn drop_dead_steps(&mut self) -> bool {
        let before = self.steps.len();
        let mut live = vec![false; self.slots.len()];
        self.outputs.iter().for_each(|p| live[p.value as usize] = true);
        let mut keep = vec![false; before];
        for (i, step) in self.steps.iter().enumerate().rev() {
            keep[i] = step.outputs.iter().any(|o| live[*o as usize]);
            if keep[i] {
                step.inputs.iter().for_each(|v| live[*v as usize] = true);
            }
        }
        let mut keep = keep.into_iter();
        self.steps.retain(|_| keep.next().unwrap_or(true));
        before != self.steps.len()
    }

    /// Merges equal steps with equal inputs. Returns whether there were any.
    pub fn merge_equal_steps(&mut self) -> bool {
        let mut merged = false;
        let mut i = 0;
        while i < self.steps.len() {
            let earlier = (0..i).find(|j| {
                let (a, b) = (&self.steps[*j], &self.steps[i]);
                let same_shape = |(x, y): (&ValueId, &ValueId)| self.shape(*x) == self.shape(*y);
                a.op == b.op && a.inputs == b.inputs && a.outputs.iter().zip(&b.outputs).all(same_shape)
            });
            if let Some(j) = earlier {
                let step = self.steps.remove(i);
                for (k, output) in step.outputs.into_iter().enumerate() {
                    self.replace(output, self.steps[j].outputs[k]);
                }
                merged = true;
            } else {
                i += 1;
            }
        }
        merged
    }

    /// Sorts the steps so that every value is computed before it is read; keeps their order where possible.
    pub fn sort(&mut self) {
        let mut known: Vec<bool> = self.slots.iter().map(|s| s.constant.is_some()).collect();
        self.inputs.iter().for_each(|p| known[p.value as usize] = true);
        let mut waiting = std::mem::take(&mut self.steps);
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|s| s.inputs.iter().all(|i| known[*i as usize]));
            // If no step is ready, a pass made a mistake; the check of the plan reports it.
            let step = waiting.remove(ready.unwrap_or(0));
            step.outputs.iter().for_each(|o| known[*o as usize] = true);
            self.steps.push(step);
        }
    }

    /// Returns the plan, with the constants numbered by `intern`.
    pub fn into_plan(self, name: &str, mut intern: impl FnMut(&Slot, &Constant) -> u32) -> Plan {
        let mut numbers = HashMap::new();
        let mut values = Vec::new();
        let mut number = |id: ValueId| -> ValueId {
            *numbers.entry(id).or_insert_with(|| {
                let slot = &self.slots[id as usize];
                let constant = slot.constant.as_ref().map(|c| intern(slot, c));
                values.push(Value { shape: slot.shape.clone(), element: slot.element, constant });
                (values.len() - 1) as ValueId
            })
        };
        let mut port = |p: &Port| Port { name: p.name.clone(), value: number(p.value) };
        let inputs = self.inputs.iter().map(&mut port).collect();
        let outputs = self.outputs.iter().map(&mut port).collect();
        let steps: Vec<Step> = self
            .steps
            .iter()
            .map(|s| Step {
                name: s.name.clone(),
                op: s.op.clone(),
                inputs: s.inputs.iter().map(|i| number(*i)).collect(),
                outputs: s.outputs.iter().map(|o| number(*o)).collect(),
            })
            .collect();
        let mut plan = Plan { name: name.to_string(), values, steps, inputs, outputs, macs: 0 };
        plan.macs = plan.steps.iter().map(|s| plan.step_macs(s)).sum();
        plan
    }
}
