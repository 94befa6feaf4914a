//! The named tensors of an engine: where they lie, which part makes them, and whether they are up to date.

use std::collections::HashMap;

use crate::buffers::Place;
use crate::error::{Error, ErrorKind};
use crate::memory_plan::MemoryPlan;
use crate::plan::{Element, Plan, Value};

/// The number of a named tensor of an engine, by which it is found without looking up its name.
///
/// It is valid for every engine of the same bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorId(u32);

impl TensorId {
    pub(super) fn new(index: usize) -> TensorId {
        TensorId(index as u32)
    }
}

/// Names a tensor in a call of an [`Engine`](crate::Engine): a [`TensorId`], or the tensor's name, which is looked up.
pub trait TensorKey: key::Resolve {}

impl TensorKey for TensorId {}
impl TensorKey for str {}
impl TensorKey for String {}
impl<K: TensorKey + ?Sized> TensorKey for &K {}

/// Keeps [`TensorKey`] from being implemented elsewhere.
mod key {
    use super::{Error, Tensors};

    pub trait Resolve {
        #[doc(hidden)]
        fn resolve(&self, tensors: &Tensors) -> Result<usize, Error>;
    }
}

pub(super) use key::Resolve;

impl Resolve for TensorId {
    fn resolve(&self, tensors: &Tensors) -> Result<usize, Error> {
        let unknown = || Error::new(ErrorKind::UnknownTensor, format!("the bundle has no tensor {}", self.0));
        Some(self.0 as usize).filter(|id| *id < tensors.all.len()).ok_or_else(unknown)
    }
}

impl Resolve for str {
    fn resolve(&self, tensors: &Tensors) -> Result<usize, Error> {
        let unknown = || Error::new(ErrorKind::UnknownTensor, format!("the bundle has no tensor {self}"));
        tensors.by_name.get(self).copied().ok_or_else(unknown)
    }
}

impl Resolve for String {
    fn resolve(&self, tensors: &Tensors) -> Result<usize, Error> {
        self.as_str().resolve(tensors)
    }
}

impl<K: Resolve + ?Sized> Resolve for &K {
    fn resolve(&self, tensors: &Tensors) -> Result<usize, Error> {
        (**self).resolve(tensors)
    }
}

/// A named tensor: written by the caller or by a part.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) place: Place,
    /// The part that makes it; none for an input of the network.
    pub(super) producer: Option<usize>,
    /// `true` while its elements follow from the inputs as the caller wrote them last.
    pub(super) fresh: bool,
    /// All tensors that are computed from it, directly or not.
    pub(super) followers: Vec<usize>,
}

/// All named tensors. Public only because the sealed trait behind [`TensorKey`] names it.
#[derive(Default)]
pub struct Tensors {
    pub(super) all: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

impl Tensors {
    /// Collects the tensors of all plans and plans a buffer for each.
    pub(super) fn collect(plans: &[Plan], memory: &mut MemoryPlan) -> Result<Tensors, Error> {
        let contradiction = |message: String| Err(Error::new(ErrorKind::Network, message));
        let mut tensors = Tensors::default();
        for (index, plan) in plans.iter().enumerate() {
            let ports = plan.inputs.iter().map(|p| (p, None)).chain(plan.outputs.iter().map(|p| (p, Some(index))));
            for (port, producer) in ports {
                let value = &plan.values[port.value as usize];
                let id = tensors.add(&port.name, value, memory);
                let tensor = &mut tensors.all[id];
                if matches!(tensor.place, Place::Float(_)) != (value.element == Element::F32) {
                    return contradiction(format!("tensor {} has elements of two kinds", port.name));
                }
                if tensor.shape != value.shape {
                    let (name, shapes) = (&port.name, (&tensor.shape, &value.shape));
                    return contradiction(format!("tensor {name} has shapes {:?} and {:?}", shapes.0, shapes.1));
                }
                if producer.is_some() && tensor.producer.is_some() {
                    return contradiction(format!("tensor {} is computed by more than one part", port.name));
                }
                tensor.producer = tensor.producer.or(producer);
            }
        }
        Ok(tensors)
    }

    fn add(&mut self, name: &str, value: &Value, memory: &mut MemoryPlan) -> usize {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let place = memory.named_place(value.element, value.len());
        let (name, shape, followers) = (name.to_string(), value.shape.clone(), Vec::new());
        self.by_name.insert(name.clone(), self.all.len());
        self.all.push(Tensor { name, shape, place, producer: None, fresh: false, followers });
        self.all.len() - 1
    }

    /// Returns the id of a tensor that the given condition holds for.
    pub(super) fn find(&self, name: &str, condition: impl Fn(&Tensor) -> bool) -> Option<TensorId> {
        self.by_name.get(name).filter(|id| condition(&self.all[**id])).map(|id| TensorId::new(*id))
    }

    /// Fills in the tensors that depend on each; `parts` are the inputs and outputs of all parts.
    pub(super) fn find_followers(&mut self, parts: &[[&[usize]; 2]]) -> Result<(), Error> {
        for start in 0..self.all.len() {
            let mut reached = vec![false; self.all.len()];
            let mut open = vec![start];
            while let Some(id) = open.pop() {
                for [_, outputs] in parts.iter().filter(|[inputs, _]| inputs.contains(&id)) {
                    for output in *outputs {
                        if *output == start {
                            return Err(Error::new(ErrorKind::Network, "parts wait for each other's outputs"));
                        }
                        if !std::mem::replace(&mut reached[*output], true) {
                            open.push(*output);
                        }
                    }
                }
            }
            self.all[start].followers = (0..self.all.len()).filter(|id| reached[*id]).collect();
        }
        Ok(())
    }

    /// Notes that the caller writes an input: everything that depends on it becomes stale.
    pub(super) fn mark_written(&mut self, id: usize) {
        self.all[id].fresh = true;
        for i in 0..self.all[id].followers.len() {
            let follower = self.all[id].followers[i];
            self.all[follower].fresh = false;
        }
    }
}
