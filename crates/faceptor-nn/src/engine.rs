//! The engine: parts of a bundle, run when somebody asks for what they produce.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::bundle::reader::Bundle;
use crate::bundle::{CELLS_FORM, LABELS_FORM, tensor_of};
use crate::cpu::Kernel;
use crate::error::{Error, ErrorKind};
use crate::memory_plan::{Layout, Place, Storage};
use crate::ops::product::Scratch;
use crate::part::{Helpers, Packs, Runner};
use crate::plan::{Element, Value};
use crate::thread_pool::{Pool, Threads};

/// A bundle ready to run: weights packed for this CPU, buffers planned. No run allocates.
pub struct Engine {
    bundle: Arc<Bundle>,
    kernel: Kernel,
    parts: Vec<Part>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    storage: Storage,
    scratch: Scratch,
    helpers: Option<Helpers>,
}

struct Part {
    runner: Runner,
    /// Indices of the tensors that it reads.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// The part that makes the tensor of this view; itself, if it is none.
    owner: usize,
    counter: Counter,
}

/// A tensor that has a name: written by the caller or by a part.
struct Tensor {
    shape: Vec<usize>,
    place: Place,
    producer: Option<usize>,
    /// Whether its content follows from what the caller wrote last.
    fresh: bool,
    /// All tensors that are computed from it, directly or not.
    followers: Vec<usize>,
}

/// How often a part has run, and for how long, with the views of what it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    pub part: String,
    pub runs: u64,
    /// Of all runs together.
    pub time_us: u64,
}

/// What one step of a part is, and what it has cost since the counters were reset.
#[derive(Debug, Clone, PartialEq)]
pub struct StepCost {
    pub part: String,
    pub step: String,
    pub op: &'static str,
    /// Shapes of its first input and its first output.
    pub input: Vec<usize>,
    pub output: Vec<usize>,
    pub macs: u64,
    /// Of the part, or of the view that it belongs to.
    pub runs: u64,
    pub time_ns: u64,
}

impl Engine {
    /// Prepares a bundle for this CPU.
    pub fn new(bundle: Arc<Bundle>) -> Result<Engine, Error> {
        Engine::with_kernel(bundle, Kernel::choose()?)
    }

    /// Prepares a bundle for the given kernel.
    pub fn with_kernel(bundle: Arc<Bundle>, kernel: Kernel) -> Result<Engine, Error> {
        Engine::with_threads(bundle, kernel, &Threads::default())
    }

    /// The same with more threads than the caller's, which share the large steps. The answers are the same bits.
    pub fn with_threads(bundle: Arc<Bundle>, kernel: Kernel, threads: &Threads) -> Result<Engine, Error> {
        let contradiction = |message: String| Error::new(ErrorKind::Network, message);
        let mut layout = Layout::default();
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for (index, plan) in bundle.plans().iter().enumerate() {
            let ports = plan.inputs.iter().map(|p| (p, None)).chain(plan.outputs.iter().map(|p| (p, Some(index))));
            for (port, producer) in ports {
                let Value { shape, element, .. } = &plan.values[port.value as usize];
                let id = *by_name.entry(port.name.clone()).or_insert_with(|| {
                    let place = layout.named_place(*element, shape.iter().product());
                    let followers = Vec::new();
                    tensors.push(Tensor { shape: shape.clone(), place, producer: None, fresh: false, followers });
                    tensors.len() - 1
                });
                let tensor = &mut tensors[id];
                let as_it_was = matches!(tensor.place, Place::Float(_)) == (*element == Element::F32);
                if !as_it_was {
                    return Err(contradiction(format!("tensor {} has elements of two kinds", port.name)));
                }
                if tensor.shape != *shape {
                    let found = format!("tensor {} has shapes {:?} and {shape:?}", port.name, tensor.shape);
                    return Err(contradiction(found));
                }
                if producer.is_some() && tensor.producer.is_some() {
                    return Err(contradiction(format!("tensor {} is computed by more than one part", port.name)));
                }
                tensor.producer = tensor.producer.or(producer);
            }
        }
        let mut packs = Packs::new(kernel, threads.count);
        let mut scratch = Scratch::default();
        let mut parts = Vec::new();
        for plan in bundle.plans() {
            let unnamed = || contradiction("a tensor has no name".into());
            let id = |name: &str| by_name.get(name).copied().ok_or_else(unnamed);
            let inputs = plan.inputs.iter().map(|p| id(&p.name)).collect::<Result<Vec<_>, Error>>()?;
            let outputs = plan.outputs.iter().map(|p| id(&p.name)).collect::<Result<Vec<_>, Error>>()?;
            let named = plan.inputs.iter().chain(&plan.outputs).zip(inputs.iter().chain(&outputs));
            let named: Vec<_> = named.map(|(port, tensor)| (port.value, tensors[*tensor].place)).collect();
            let places = layout.place(plan, &named);
            let runner = Runner::new(plan, &places, &*bundle, &mut packs, &mut scratch)?;
            let made = tensor_of(&plan.name);
            let parts_made = bundle.manifest().parts.iter().position(|part| part.outputs.iter().any(|o| o == made));
            let owner = if parts.len() < bundle.manifest().parts.len() { None } else { parts_made };
            let owner = owner.unwrap_or(parts.len());
            let counter = Counter { part: bundle.plans()[owner].name.clone(), runs: 0, time_us: 0 };
            parts.push(Part { runner, inputs, outputs, owner, counter });
        }
        find_followers(&mut tensors, &parts)?;
        let storage = layout.allocate();
        let helpers = Pool::start(threads)?.map(|pool| {
            let scratch = vec![scratch.clone(); pool.threads() - 1];
            Helpers { pool, scratch }
        });
        Ok(Engine { bundle, kernel, parts, tensors, by_name, storage, scratch, helpers })
    }

    /// The bundle that runs.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// The family of kernels that was chosen.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Threads that share the large steps, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.as_ref().map_or(1, |helpers| helpers.pool.threads())
    }

    /// An external input, float32, to be written as a whole. Everything that depends on it becomes stale.
    pub fn input(&mut self, tensor: &str) -> Result<&mut [f32], Error> {
        let id = self.find(tensor)?;
        if self.tensors[id].producer.is_some() {
            let message = format!("tensor {tensor} is computed by a part, it is no input");
            return Err(Error::new(ErrorKind::TensorUse, message));
        }
        self.tensors[id].fresh = true;
        for i in 0..self.tensors[id].followers.len() {
            let follower = self.tensors[id].followers[i];
            self.tensors[follower].fresh = false;
        }
        match self.tensors[id].place {
            Place::Float(slot) => Ok(self.storage.floats_mut(slot)),
            _ => Err(Error::new(ErrorKind::TensorUse, format!("tensor {tensor} is not float32"))),
        }
    }

    /// Runs the part that makes a tensor and what it needs, unless nothing has changed since; the tensor itself need not
    /// have been made, if it is a view of what the part hands on.
    pub fn prepare(&mut self, tensor: &str) -> Result<(), Error> {
        let id = self.find(tensor)?;
        let view = self.tensors[id].producer.filter(|p| *p >= self.bundle.manifest().parts.len());
        let source = view.and_then(|view| self.parts[view].inputs.first()).copied();
        self.refresh(source.unwrap_or(id)).map_err(|error| error.context(format!("computing tensor {tensor}")))
    }

    /// A tensor, float32, row-major; computed now, unless nothing has changed since it was.
    pub fn output(&mut self, tensor: &str) -> Result<&[f32], Error> {
        self.compute(tensor)?;
        match self.tensors[self.find(tensor)?].place {
            Place::Float(slot) => Ok(self.storage.floats(slot)),
            _ => Err(Error::new(ErrorKind::TensorUse, format!("tensor {tensor} is not float32"))),
        }
    }

    /// A tensor of bytes, row-major; computed now, unless nothing has changed since it was.
    pub fn bytes(&mut self, tensor: &str) -> Result<&[u8], Error> {
        self.compute(tensor)?;
        match self.tensors[self.find(tensor)?].place {
            Place::Byte(slot) => Ok(self.storage.bytes_of(slot)),
            _ => Err(Error::new(ErrorKind::TensorUse, format!("tensor {tensor} is not of bytes"))),
        }
    }

    /// Computes a tensor, unless nothing has changed since it was.
    pub fn compute(&mut self, tensor: &str) -> Result<(), Error> {
        let id = self.find(tensor)?;
        self.refresh(id).map_err(|error| error.context(format!("computing tensor {tensor}")))
    }

    /// The tensor of bytes `[1, height, width]` that says which class of parsing logits is the best, where the bundle has one.
    pub fn labels_of(&self, logits: &str) -> Option<&str> {
        self.by_name.get_key_value(&format!("{logits}{LABELS_FORM}")).map(|(name, _)| name.as_str())
    }

    /// Parsing logits as `[rows of cells, columns of cells, rows in a cell, columns in a cell, classes]`, where the bundle
    /// has them so.
    pub fn cells_of(&self, logits: &str) -> Option<&str> {
        self.by_name.get_key_value(&format!("{logits}{CELLS_FORM}")).map(|(name, _)| name.as_str())
    }

    /// Shape of a tensor that has a name.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.by_name.get(tensor).map(|id| self.tensors[*id].shape.as_slice())
    }

    /// Runs and time of each part, in the manifest's order.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.parts.iter().map(|p| &p.counter).take(self.bundle.manifest().parts.len())
    }

    /// Sets all counters to zero.
    pub fn reset_counters(&mut self) {
        for part in &mut self.parts {
            part.counter.runs = 0;
            part.counter.time_us = 0;
            part.runner.reset_times();
        }
    }

    /// Time of each step, those of views behind those of the parts, if [`Engine::profile`] was switched on.
    pub fn step_costs(&self) -> Vec<StepCost> {
        let plans = self.bundle.plans();
        let costs = self.parts.iter().zip(plans).flat_map(|(part, plan)| {
            let shape = |ids: &[u32]| ids.first().map_or(Vec::new(), |id| plan.values[*id as usize].shape.clone());
            plan.steps.iter().zip(part.runner.times_ns()).map(move |(step, time_ns)| StepCost {
                part: part.counter.part.clone(),
                step: step.name.clone(),
                op: step.op.name(),
                input: shape(&step.inputs),
                output: shape(&step.outputs),
                macs: plan.step_macs(step),
                runs: part.counter.runs,
                time_ns,
            })
        });
        costs.collect()
    }

    /// The times alone, nanoseconds, in the order of [`Engine::step_costs`].
    pub fn step_times_ns(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().flat_map(|part| part.runner.times_ns())
    }

    /// Switches the clock around every step on or off.
    pub fn profile(&mut self, on: bool) {
        self.parts.iter_mut().for_each(|p| p.runner.set_profiling(on));
    }

    /// Bytes of all buffers and packed weights.
    pub fn memory_bytes(&self) -> usize {
        let scratch = &self.scratch;
        let floats = scratch.floats.len() + scratch.results.len() + scratch.offsets.len() + scratch.sums.len();
        let packed: usize = self.parts.iter().map(|p| p.runner.own_bytes()).sum();
        self.storage.bytes() + (scratch.bytes.len() + floats * 4) * self.threads() + packed
    }

    fn find(&self, tensor: &str) -> Result<usize, Error> {
        let unknown = || Error::new(ErrorKind::UnknownTensor, format!("the bundle has no tensor {tensor}"));
        self.by_name.get(tensor).copied().ok_or_else(unknown)
    }

    fn refresh(&mut self, id: usize) -> Result<(), Error> {
        if self.tensors[id].fresh {
            return Ok(());
        }
        let producer = self.tensors[id].producer.ok_or_else(|| {
            Error::new(ErrorKind::MissingInput, "an input that it needs has not been written")
        })?;
        for i in 0..self.parts[producer].inputs.len() {
            self.refresh(self.parts[producer].inputs[i])?;
        }
        let part = &mut self.parts[producer];
        let start = Instant::now();
        part.runner.run(&*self.bundle, &mut self.storage, &mut self.scratch, self.helpers.as_mut());
        for output in &part.outputs {
            self.tensors[*output].fresh = true;
        }
        part.counter.runs += 1;
        let owner = part.owner;
        self.parts[owner].counter.time_us += start.elapsed().as_micros() as u64;
        Ok(())
    }
}

/// Fills in what depends on each tensor; refuses parts that wait for each other.
fn find_followers(tensors: &mut [Tensor], parts: &[Part]) -> Result<(), Error> {
    for start in 0..tensors.len() {
        let mut reached = vec![false; tensors.len()];
        let mut open = vec![start];
        while let Some(id) = open.pop() {
            for part in parts.iter().filter(|p| p.inputs.contains(&id)) {
                for output in &part.outputs {
                    if *output == start {
                        return Err(Error::new(ErrorKind::Network, "parts wait for each other's outputs"));
                    }
                    if !std::mem::replace(&mut reached[*output], true) {
                        open.push(*output);
                    }
                }
            }
        }
        tensors[start].followers = (0..tensors.len()).filter(|i| reached[*i]).collect();
    }
    Ok(())
}
