//! Checks a plan that was read from a file: after that no step can reach outside its operands.

use crate::ops::strides::MAX_RANK;
use crate::plan::{Element, Plan, Step, ValueId};
use crate::tensor::MAX_ELEMENTS;

/// Largest sum of the elements of all values of one plan.
const MAX_ALL_ELEMENTS: usize = 1 << 27;
/// Largest number of steps.
const MAX_STEPS: usize = 100_000;
/// Largest number of multiply-accumulates of one run: a thousand times what the shipped network needs.
const MAX_MACS: u64 = 1 << 39;

/// Type and shape of a constant in the tensor table.
pub type ConstantShape<'a> = (Element, &'a [usize]);

/// Checks every value and every step of a plan. `table` returns type and shape of a constant, if there is one of that index.
///
/// # Errors
/// A sentence without subject that names the value or step at fault and what is wrong with it.
pub fn check_plan<'a>(plan: &Plan, table: impl Fn(u32) -> Option<ConstantShape<'a>>) -> Result<(), String> {
    if plan.steps.len() > MAX_STEPS {
        return Err(format!("has {} steps, at most {MAX_STEPS}", plan.steps.len()));
    }
    let mut all = 0usize;
    for (i, value) in plan.values.iter().enumerate() {
        if value.shape.len() > MAX_RANK {
            return Err(format!("value {i} has {} axes, at most {MAX_RANK}", value.shape.len()));
        }
        let len = value.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d).filter(|n| *n <= MAX_ELEMENTS));
        all = all.saturating_add(len.unwrap_or(usize::MAX));
        if all > MAX_ALL_ELEMENTS || value.shape.contains(&0) {
            return Err(format!("value {i} has too many elements or none: {:?}", value.shape));
        }
        if let Some(index) = value.constant {
            let fits = table(index).is_some_and(|(element, shape)| element == value.element && shape == value.shape);
            if !fits {
                return Err(format!("value {i} does not fit tensor {index} of the table"));
            }
        } else if value.element == Element::I8 {
            return Err(format!("value {i} is signed and not constant"));
        }
    }
    let mut known: Vec<bool> = plan.values.iter().map(|v| v.constant.is_some()).collect();
    let mut mark = |id: ValueId, what: &str| match known.get_mut(id as usize) {
        Some(known) if !*known => {
            *known = true;
            Ok(())
        }
        _ => Err(format!("{what} writes value {id}, which is not there, constant or written before")),
    };
    for port in &plan.inputs {
        mark(port.value, &format!("input {}", port.name))?;
    }
    // Checked in order, so that a step only reads what an earlier one wrote.
    let mut written: Vec<bool> = plan.values.iter().map(|v| v.constant.is_some()).collect();
    plan.inputs.iter().for_each(|p| written[p.value as usize] = true);
    for step in &plan.steps {
        if let Some(id) = step.inputs.iter().find(|i| written.get(**i as usize) != Some(&true)) {
            return Err(format!("step {} reads value {id} before it is written", step.name));
        }
        for id in &step.outputs {
            mark(*id, &format!("step {}", step.name))?;
            written[*id as usize] = true;
        }
        check_step(plan, step).map_err(|e| format!("step {} ({}): {e}", step.name, step.op.name()))?;
    }
    let macs = plan.steps.iter().try_fold(0u64, |n, s| n.checked_add(plan.checked_step_macs(s)?));
    if macs != Some(plan.macs) || plan.macs > MAX_MACS {
        return Err(format!("needs {macs:?} multiply-accumulates, says {}, at most {MAX_MACS}", plan.macs));
    }
    let ports = plan.inputs.iter().chain(&plan.outputs);
    if let Some((_, port)) = ports.clone().enumerate().find(|(i, p)| ports.clone().take(*i).any(|o| o.value == p.value))
    {
        return Err(format!("tensor {} shares its value with another", port.name));
    }
    for port in ports {
        let number = plan.values.get(port.value as usize).is_some_and(|v| v.element != Element::I8);
        if !number || !written[port.value as usize] {
            return Err(format!("tensor {} holds weights or is never written", port.name));
        }
    }
    Ok(())
}

fn check_step(plan: &Plan, step: &Step) -> Result<(), String> {
    step.op.operator().check(&plan.signature(step))
}
