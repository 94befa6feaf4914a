//! Runs a plan by itself, without a bundle.

use crate::buffers::Place;
use crate::cpu::Kernel;
use crate::error::{Error, ErrorKind};
use crate::memory_plan::MemoryPlan;
use crate::ops::scratch::Scratch;
use crate::part::PreparedPart;
use crate::plan::{Element, Plan, Port};
use crate::tensor::Data;
use crate::weights::{Constants, SharedWeights};

/// The elements of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// 32 bit floats.
    F32(Vec<f32>),
    /// Quantized activations.
    U8(Vec<u8>),
    /// Quantized weights.
    I8(Vec<i8>),
}

impl TensorData {
    /// Reads elements from little-endian bytes.
    pub fn from_le_bytes(element: Element, bytes: &[u8]) -> TensorData {
        match element {
            Element::F32 => {
                let floats = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
                TensorData::F32(floats.collect())
            }
            Element::U8 => TensorData::U8(bytes.to_vec()),
            Element::I8 => TensorData::I8(bytes.iter().map(|byte| *byte as i8).collect()),
        }
    }

    /// Returns the elements as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        match self {
            TensorData::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorData::U8(values) => values.clone(),
            TensorData::I8(values) => values.iter().map(|value| *value as u8).collect(),
        }
    }
}

struct Table<'a>(&'a [TensorData]);

impl Constants for Table<'_> {
    fn constant(&self, index: u32) -> Result<Data<'_>, Error> {
        let missing = || Error::new(ErrorKind::Network, format!("there is no constant {index}"));
        Ok(match self.0.get(index as usize).ok_or_else(missing)? {
            TensorData::F32(values) => Data::F32(values),
            TensorData::U8(values) => Data::U8(values),
            TensorData::I8(values) => Data::I8(values),
        })
    }
}

/// Runs a plan once on one thread. `constants` are the tensors that the plan refers to by index, `inputs` the elements of its
/// inputs in their order; returns those of its outputs in theirs.
///
/// The plan must be one that [`check_plan`](crate::plan::check_plan) accepts, except that activations may be constants.
///
/// # Errors
/// [`ErrorKind::Network`] if an input or a constant has another type or length than its value.
///
/// # Panics
/// If a step reaches outside its operands.
pub fn evaluate(
    plan: &Plan,
    constants: &[TensorData],
    inputs: &[TensorData],
    kernel: Kernel,
) -> Result<Vec<TensorData>, Error> {
    let wrong = |port: &Port| Error::new(ErrorKind::Network, format!("tensor {} does not fit its value", port.name));
    let mut memory = MemoryPlan::default();
    let ports = plan.inputs.iter().chain(&plan.outputs);
    let named = ports.map(|port| {
        let value = plan.values.get(port.value as usize).ok_or_else(|| wrong(port))?;
        Ok((port.value, memory.named_place(value.element, value.len())))
    });
    let named = named.collect::<Result<Vec<_>, Error>>()?;
    let places = memory.place(plan, &named);
    let table = Table(constants);
    let mut scratch = Scratch::default();
    let mut weights = SharedWeights::new(kernel, 1);
    let mut part = PreparedPart::new(plan, &places, &table, &mut weights, &mut scratch)?;
    let mut buffers = memory.allocate();
    if inputs.len() != plan.inputs.len() {
        let message = format!("{} inputs, the plan has {}", inputs.len(), plan.inputs.len());
        return Err(Error::new(ErrorKind::Network, message));
    }
    for ((port, (_, place)), input) in plan.inputs.iter().zip(&named).zip(inputs) {
        match (place, input) {
            (Place::Float(slot), TensorData::F32(values)) if values.len() == buffers.floats(*slot).len() => {
                buffers.floats_mut(*slot).copy_from_slice(values);
            }
            (Place::Byte(slot), TensorData::U8(values)) if values.len() == buffers.bytes(*slot).len() => {
                buffers.bytes_mut(*slot).copy_from_slice(values);
            }
            _ => return Err(wrong(port)),
        }
    }
    part.run(&table, &mut buffers, &mut scratch, None)?;
    let outputs = named[plan.inputs.len()..].iter().zip(&plan.outputs).map(|((_, place), port)| match place {
        Place::Float(slot) => Ok(TensorData::F32(buffers.floats(*slot).to_vec())),
        Place::Byte(slot) => Ok(TensorData::U8(buffers.bytes(*slot).to_vec())),
        Place::Constant(_) => Err(wrong(port)),
    });
    outputs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Op, Step, Unary, Value};

    /// A plan with one step on two numbers.
    fn plan() -> Plan {
        let value = || Value { shape: vec![2], element: Element::F32, constant: None };
        let port = |name: &str, value| Port { name: name.into(), value };
        let step = Step { name: "s".into(), op: Op::Unary(Unary::Relu), inputs: vec![0], outputs: vec![1] };
        Plan {
            name: "p".into(),
            values: vec![value(), value()],
            steps: vec![step],
            inputs: vec![port("x", 0)],
            outputs: vec![port("y", 1)],
            macs: 0,
        }
    }

    #[test]
    fn a_plan_runs_by_itself() {
        let input = TensorData::F32(vec![-1.0, 2.0]);
        let outputs = evaluate(&plan(), &[], &[input], Kernel::SCALAR).expect("a run");
        assert_eq!(outputs, [TensorData::F32(vec![0.0, 2.0])]);
    }

    #[test]
    fn inputs_of_another_type_or_length_are_refused() {
        let refused = |inputs: &[TensorData]| evaluate(&plan(), &[], inputs, Kernel::SCALAR).is_err();
        assert!(refused(&[]) && refused(&[TensorData::F32(vec![1.0])]) && refused(&[TensorData::U8(vec![1, 2])]));
        let mut constant = plan();
        constant.values[0].constant = Some(0);
        constant.inputs.clear();
        assert!(evaluate(&constant, &[], &[], Kernel::SCALAR).is_err(), "a constant that is not there");
        assert!(evaluate(&constant, &[TensorData::U8(vec![1, 2])], &[], Kernel::SCALAR).is_err());
    }

    #[test]
    fn bytes_are_read_and_written_little_endian() {
        for (element, bytes) in
            [(Element::F32, vec![0, 0, 128, 63]), (Element::U8, vec![200]), (Element::I8, vec![200])]
        {
            assert_eq!(TensorData::from_le_bytes(element, &bytes).to_le_bytes(), bytes);
        }
        assert_eq!(TensorData::from_le_bytes(Element::F32, &[0, 0, 128, 63]), TensorData::F32(vec![1.0]));
    }
}
