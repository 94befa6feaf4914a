//! Wraps the compiler's steps as tract operators, so that a part can run in tract step by step, next to tract's own parts.
//!
//! Each operator computes with the scalar reference on plain tensors: it is for comparisons, and slow.

use tract_onnx::tract_hir::internal::*;

use crate::graph::{Constant, Graph, Slot};
use crate::passes::constant_folding;
use faceptor_nn::plan::{Element, Step, ValueId};

/// A step as a tract operator.
#[derive(Debug, Clone)]
pub struct StepOperator(Arc<IsolatedStep>);

/// A step with the values that it reads and writes, renumbered from 0.
#[derive(Debug)]
struct IsolatedStep {
    slots: Vec<Slot>,
    step: Step,
    /// Its inputs that are not constant, in order.
    inputs: Vec<ValueId>,
}

impl PartialEq for StepOperator {
    fn eq(&self, other: &StepOperator) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StepOperator {}

impl StepOperator {
    fn new(graph: &Graph, step: &Step) -> StepOperator {
        let mut known: Vec<ValueId> = Vec::new();
        let mut number = |id: &ValueId| -> ValueId {
            let place = known.iter().position(|k| k == id).unwrap_or_else(|| {
                known.push(*id);
                known.len() - 1
            });
            place as ValueId
        };
        let inputs: Vec<ValueId> = step.inputs.iter().map(&mut number).collect();
        let outputs = step.outputs.iter().map(&mut number).collect();
        let slots: Vec<Slot> = known.iter().map(|id| graph.slot(*id).clone()).collect();
        let variable = inputs.iter().copied().filter(|id| slots[*id as usize].constant.is_none()).collect();
        let step = Step { name: step.name.clone(), op: step.op.clone(), inputs, outputs };
        StepOperator(Arc::new(IsolatedStep { slots, step, inputs: variable }))
    }
}

impl Op for StepOperator {
    fn name(&self) -> StaticName {
        format!("Faceptor {}", self.0.step.op.name()).into()
    }

    op_as_typed_op!();
}

impl EvalOp for StepOperator {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let IsolatedStep { slots, step, inputs: ids } = &*self.0;
        let mut graph = Graph { slots: slots.clone(), ..Graph::default() };
        for (id, tensor) in ids.iter().zip(&inputs) {
            let slot = &mut graph.slots[*id as usize];
            let plain = tensor.try_as_plain_ram()?;
            let bytes = match slot.element {
                Element::F32 => plain.as_slice::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect(),
                _ => plain.as_slice::<u8>()?.to_vec(),
            };
            slot.constant = Some(std::sync::Arc::new(Constant { bytes }));
        }
        constant_folding::compute(&mut graph, step.clone())?;
        let outputs = step.outputs.iter().map(|id| {
            let slot = graph.slot(*id);
            let bytes = slot.constant.as_ref().map(|constant| constant.bytes.as_slice()).unwrap_or_default();
            let tensor = match slot.element {
                Element::F32 => {
                    let floats: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                    Tensor::from_shape(&slot.shape, &floats)?
                }
                _ => Tensor::from_shape(&slot.shape, bytes)?,
            };
            Ok(tensor.into_tvalue())
        });
        outputs.collect()
    }
}

impl TypedOp for StepOperator {
    as_op!();

    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let fact = |id: &ValueId| {
            let slot = &self.0.slots[*id as usize];
            match slot.element {
                Element::F32 => f32::fact(&slot.shape),
                _ => u8::fact(&slot.shape),
            }
        };
        Ok(self.0.step.outputs.iter().map(fact).collect())
    }
}

/// Returns a part as a tract model with an operator for each step. Inputs and outputs are those of the part, in its order.
pub fn model(graph: &Graph) -> TractResult<TypedModel> {
    let mut model = TypedModel::default();
    let mut outlets: HashMap<ValueId, OutletId> = HashMap::new();
    for port in &graph.inputs {
        outlets.insert(port.value, model.add_source(&port.name, f32::fact(graph.shape(port.value)))?);
    }
    for (number, step) in graph.steps.iter().enumerate() {
        let operator = StepOperator::new(graph, step);
        let variable = step.inputs.iter().filter(|id| graph.slot(**id).constant.is_none());
        let inputs: Option<TVec<OutletId>> = variable.map(|id| outlets.get(id).copied()).collect();
        let inputs = inputs.with_context(|| format!("step {} comes too early", step.name))?;
        let found = model.wire_node(format!("{} {number}", step.name), operator, &inputs)?;
        outlets.extend(step.outputs.iter().copied().zip(found));
    }
    let outputs: Option<TVec<OutletId>> = graph.outputs.iter().map(|port| outlets.get(&port.value).copied()).collect();
    model.select_output_outlets(&outputs.context("an output is never computed")?)?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::*;
    use crate::{PartForm, compile_folder, tract_model};
    use faceptor_nn::bundle::Bundle;
    use faceptor_nn::cpu::Kernel;
    use faceptor_nn::engine::Engine;
    use faceptor_nn::manifest::Manifest;

    /// Runs all parts in tract, each in its own form, and returns the answer of each task.
    fn answers(folder: &Path, manifest: &Manifest, image: &Tensor, form: impl Fn(usize) -> PartForm) -> Vec<Vec<f32>> {
        let mut known: HashMap<String, TValue> = HashMap::new();
        known.insert(manifest.image_tensors().next().expect("an image").to_owned(), image.clone().into_tvalue());
        for (number, part) in manifest.parts.iter().enumerate() {
            if !part.inputs.iter().all(|name| known.contains_key(name)) {
                continue;
            }
            let model = tract_model(folder, &part.name, form(number)).expect("a model");
            let named: Vec<String> =
                model.input_outlets().expect("inputs").iter().map(|o| model.node(o.node).name.clone()).collect();
            let inputs = named.iter().map(|name| known[name].clone()).collect();
            let outputs = model.into_runnable().expect("a plan").run(inputs).expect("an answer");
            known.extend(part.outputs.iter().cloned().zip(outputs));
        }
        let floats =
            |name: &String| known[name].try_as_plain_ram().expect("plain").as_slice::<f32>().expect("f32").to_vec();
        manifest.tasks.iter().map(|task| floats(&task.output)).collect()
    }

    #[test]
    fn a_network_runs_in_tract_with_any_of_its_parts_fused() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny");
        let bundle = Bundle::from_bytes(&compile_folder(&folder).expect("compiles")).expect("a bundle");
        let manifest = bundle.manifest();
        let mut engine = Engine::with_kernel(bundle.clone(), Kernel::SCALAR).expect("an engine");
        let name = manifest.image_tensors().next().expect("an image");
        let shape = engine.shape(name).expect("a shape").to_vec();
        let pixels: Vec<f32> = (0..shape.iter().product()).map(|i| (i * 7 % 251) as f32 / 125.0 - 1.0).collect();
        engine.input(name).expect("an input").copy_from_slice(&pixels);
        let expected: Vec<Vec<f32>> =
            manifest.tasks.iter().map(|task| engine.output(&task.output).expect("an answer").to_vec()).collect();
        let image = Tensor::from_shape(&shape, &pixels).expect("a tensor");

        // The very steps of the engine: the same bits.
        assert_eq!(answers(&folder, manifest, &image, |_| PartForm::Fused), expected);

        let forms = [PartForm::Tract, PartForm::Steps, PartForm::Fused];
        for turn in 0..4 {
            let found = answers(&folder, manifest, &image, |part| match turn {
                0 => PartForm::Tract,
                1 => PartForm::Steps,
                _ => forms[(part + turn) % 3],
            });
            for (task, (found, expected)) in manifest.tasks.iter().zip(found.iter().zip(&expected)) {
                // Sums in another order move a value over the edge between two quantized ones here and there.
                let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
                let error = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(error <= 0.03 * largest, "{}, mixture {turn}: {error} of {largest}", task.name);
            }
        }
    }
}
