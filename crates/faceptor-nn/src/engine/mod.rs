//! The engine: runs the parts of a bundle that a requested tensor depends on.

mod tensors;

use std::sync::Arc;
use std::time::Instant;

use crate::buffers::{Buffers, Place};
use crate::bundle::{Bundle, Encoding, TensorName};
use crate::cpu::Kernel;
use crate::engine::tensors::{Resolve, Tensors};
use crate::error::{Error, ErrorKind};
use crate::memory_plan::MemoryPlan;
use crate::ops::context::Helpers;
use crate::ops::scratch::Scratch;
use crate::part::PreparedPart;
use crate::plan::Plan;
use crate::thread_pool::{Pool, Threads};
use crate::weights::SharedWeights;

pub use crate::engine::tensors::{TensorId, TensorKey};

/// A bundle ready to run: weights packed for this CPU, buffers planned. No run allocates.
///
/// A tensor is named by its name or, faster, by a [`TensorId`] that was looked up once.
pub struct Engine {
    bundle: Arc<Bundle>,
    kernel: Kernel,
    parts: Vec<Part>,
    tensors: Tensors,
    buffers: Buffers,
    scratch: Scratch,
    helpers: Option<Helpers>,
}

struct Part {
    prepared: PreparedPart,
    /// Indices of the tensors that it reads.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// The part that makes the tensor of this view; itself, if it is no view.
    owner: usize,
    counter: Counter,
}

/// The runs of a part and their time, those of the views of its tensors included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Name of the part.
    pub part: String,
    /// Runs since the counters were reset.
    pub runs: u64,
    /// Time of all runs together, microseconds.
    pub time_us: u64,
}

/// One step of a part and its time since the counters were reset.
#[derive(Debug, Clone, PartialEq)]
pub struct StepCost {
    /// Name of the part.
    pub part: String,
    /// Name of the step.
    pub step: String,
    /// Name of the operator.
    pub op: &'static str,
    /// Shape of the first input.
    pub input: Vec<usize>,
    /// Shape of the first output.
    pub output: Vec<usize>,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Runs of the part, or of the view that the step belongs to.
    pub runs: u64,
    /// Time of all runs together, nanoseconds.
    pub time_ns: u64,
}

impl Engine {
    /// Prepares a bundle for the fastest kernel of this CPU.
    ///
    /// # Errors
    /// If `FACEPTOR_KERNEL` names a kernel that cannot be used, or the parts of the bundle contradict each other.
    pub fn new(bundle: Arc<Bundle>) -> Result<Engine, Error> {
        Engine::with_kernel(bundle, Kernel::choose()?)
    }

    /// Prepares a bundle for a kernel.
    ///
    /// # Errors
    /// If the parts of the bundle contradict each other.
    pub fn with_kernel(bundle: Arc<Bundle>, kernel: Kernel) -> Result<Engine, Error> {
        Engine::with_threads(bundle, kernel, &Threads::default())
    }

    /// Prepares a bundle for a kernel and for more threads than the caller's, which share the large steps. The results are
    /// the same bits.
    ///
    /// # Errors
    /// If the parts of the bundle contradict each other, or the threads cannot be started.
    pub fn with_threads(bundle: Arc<Bundle>, kernel: Kernel, threads: &Threads) -> Result<Engine, Error> {
        let mut memory = MemoryPlan::default();
        let mut tensors = Tensors::collect(bundle.plans(), &mut memory)?;
        let mut weights = SharedWeights::new(kernel, threads.count);
        let mut scratch = Scratch::default();
        let mut parts = Vec::new();
        for (index, plan) in bundle.plans().iter().enumerate() {
            let ids = |ports: &[crate::plan::Port]| {
                ports.iter().map(|port| port.name.as_str().resolve(&tensors)).collect::<Result<Vec<_>, Error>>()
            };
            let (inputs, outputs) = (ids(&plan.inputs)?, ids(&plan.outputs)?);
            let named = plan.inputs.iter().chain(&plan.outputs).zip(inputs.iter().chain(&outputs));
            let named: Vec<_> = named.map(|(port, id)| (port.value, tensors.all[*id].place)).collect();
            let places = memory.place(plan, &named);
            let prepared = PreparedPart::new(plan, &places, &*bundle, &mut weights, &mut scratch)?;
            let owner = owner(&bundle, index, plan);
            let counter = Counter { part: bundle.plans()[owner].name.clone(), runs: 0, time_us: 0 };
            parts.push(Part { prepared, inputs, outputs, owner, counter });
        }
        tensors.find_followers(&parts.iter().map(|part| [&part.inputs[..], &part.outputs[..]]).collect::<Vec<_>>())?;
        let buffers = memory.allocate();
        let helpers = Pool::start(threads)?.map(|pool| {
            let scratch = vec![scratch.clone(); pool.threads() - 1];
            Helpers { pool, scratch }
        });
        Ok(Engine { bundle, kernel, parts, tensors, buffers, scratch, helpers })
    }

    /// Returns the bundle that runs.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }

    /// Returns the kernel that the engine was prepared for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Returns the number of threads that share the large steps, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.as_ref().map_or(1, |helpers| helpers.pool.threads())
    }

    /// Looks up a tensor of any type, for [`Engine::prepare`] or [`Engine::compute`].
    ///
    /// # Errors
    /// If there is no such tensor.
    pub fn tensor_id(&self, tensor: &str) -> Result<TensorId, Error> {
        tensor.resolve(&self.tensors).map(TensorId::new)
    }

    /// Looks up an input of the network, float32, for [`Engine::input`].
    ///
    /// # Errors
    /// If there is no such tensor, or a part computes it, or it is not float32.
    pub fn input_id(&self, tensor: &str) -> Result<TensorId, Error> {
        self.check_input(tensor.resolve(&self.tensors)?)?;
        self.output_id(tensor)
    }

    /// Looks up a float32 tensor for [`Engine::output`].
    ///
    /// # Errors
    /// If there is no such tensor, or it is not float32.
    pub fn output_id(&self, tensor: &str) -> Result<TensorId, Error> {
        tensor.resolve(&self.tensors)?;
        let found = self.tensors.find(tensor, |tensor| matches!(tensor.place, Place::Float(_)));
        found.ok_or_else(|| wrong_element(tensor, "float32"))
    }

    /// Looks up the tensor of bytes `[1, height, width]` that has the best class of each pixel, for [`Engine::bytes`]; none
    /// if the bundle has no such view of these parsing logits.
    pub fn labels_id(&self, logits: &str) -> Option<TensorId> {
        let name = TensorName::new(logits, Encoding::Labels).to_string();
        self.tensors.find(&name, |tensor| matches!(tensor.place, Place::Byte(_)))
    }

    /// Looks up parsing logits as `[rows of cells, columns of cells, rows in a cell, columns in a cell, classes]`, for
    /// [`Engine::output`]; none if the bundle has no such view of them.
    pub fn cells_id(&self, logits: &str) -> Option<TensorId> {
        let name = TensorName::new(logits, Encoding::Cells).to_string();
        self.tensors.find(&name, |tensor| matches!(tensor.place, Place::Float(_)))
    }

    /// Returns an input of the network, float32, which the caller must write as a whole. Everything that depends on it
    /// becomes stale.
    ///
    /// # Errors
    /// If there is no such tensor, or a part computes it, or it is not float32.
    pub fn input(&mut self, tensor: impl TensorKey) -> Result<&mut [f32], Error> {
        let id = tensor.resolve(&self.tensors)?;
        self.check_input(id)?;
        let Place::Float(slot) = self.tensors.all[id].place else {
            return Err(wrong_element(&self.tensors.all[id].name, "float32"));
        };
        self.tensors.mark_written(id);
        Ok(self.buffers.floats_mut(slot))
    }

    /// Runs the part that makes a tensor and everything it depends on, except what is up to date. If a view makes the tensor,
    /// only what the view reads is computed.
    ///
    /// # Errors
    /// If there is no such tensor, or an input that it depends on has not been written.
    pub fn prepare(&mut self, tensor: impl TensorKey) -> Result<(), Error> {
        let id = tensor.resolve(&self.tensors)?;
        let view = self.tensors.all[id].producer.filter(|part| *part >= self.bundle.manifest().parts.len());
        let source = view.and_then(|view| self.parts[view].inputs.first()).copied();
        self.refresh(source.unwrap_or(id)).map_err(|error| self.computing(id, error))
    }

    /// Returns a float32 tensor, row-major; computes it first, unless it is up to date.
    ///
    /// # Errors
    /// If there is no such tensor, or it is not float32, or an input that it depends on has not been written.
    pub fn output(&mut self, tensor: impl TensorKey) -> Result<&[f32], Error> {
        let id = self.computed(tensor)?;
        match self.tensors.all[id].place {
            Place::Float(slot) => Ok(self.buffers.floats(slot)),
            Place::Byte(_) | Place::Constant(_) => Err(wrong_element(&self.tensors.all[id].name, "float32")),
        }
    }

    /// Returns a tensor of bytes, row-major; computes it first, unless it is up to date.
    ///
    /// # Errors
    /// If there is no such tensor, or it is not of bytes, or an input that it depends on has not been written.
    pub fn bytes(&mut self, tensor: impl TensorKey) -> Result<&[u8], Error> {
        let id = self.computed(tensor)?;
        match self.tensors.all[id].place {
            Place::Byte(slot) => Ok(self.buffers.bytes(slot)),
            Place::Float(_) | Place::Constant(_) => Err(wrong_element(&self.tensors.all[id].name, "of bytes")),
        }
    }

    /// Computes a tensor, unless it is up to date.
    ///
    /// # Errors
    /// If there is no such tensor, or an input that it depends on has not been written.
    pub fn compute(&mut self, tensor: impl TensorKey) -> Result<(), Error> {
        self.computed(tensor).map(|_| ())
    }

    /// Returns the shape of a named tensor; none if there is no such tensor.
    pub fn shape(&self, tensor: impl TensorKey) -> Option<&[usize]> {
        let id = tensor.resolve(&self.tensors).ok()?;
        Some(&self.tensors.all[id].shape)
    }

    /// Returns runs and time of each part, in the manifest's order.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.parts.iter().map(|part| &part.counter).take(self.bundle.manifest().parts.len())
    }

    /// Sets all counters to zero.
    pub fn reset_counters(&mut self) {
        for part in &mut self.parts {
            part.counter.runs = 0;
            part.counter.time_us = 0;
            part.prepared.reset_times();
        }
    }

    /// Returns the time of each step, those of views after those of the parts, measured while [`Engine::profile`] is on.
    pub fn step_costs(&self) -> Vec<StepCost> {
        let plans = self.bundle.plans();
        let costs = self.parts.iter().zip(plans).flat_map(|(part, plan)| {
            let shape = |ids: &[u32]| ids.first().map_or(Vec::new(), |id| plan.values[*id as usize].shape.clone());
            plan.steps.iter().zip(part.prepared.times_ns()).map(move |(step, time_ns)| StepCost {
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

    /// Returns the times alone, nanoseconds, in the order of [`Engine::step_costs`].
    pub fn step_times_ns(&self) -> impl Iterator<Item = u64> {
        self.parts.iter().flat_map(|part| part.prepared.times_ns())
    }

    /// Switches the clock around every step on or off.
    pub fn profile(&mut self, on: bool) {
        self.parts.iter_mut().for_each(|part| part.prepared.set_profiling(on));
    }

    /// Returns the bytes of all buffers and packed weights.
    pub fn memory_bytes(&self) -> usize {
        let packed: usize = self.parts.iter().map(|part| part.prepared.own_bytes()).sum();
        self.buffers.len_bytes() + self.scratch.len_bytes() * self.threads() + packed
    }

    fn check_input(&self, id: usize) -> Result<(), Error> {
        let tensor = &self.tensors.all[id];
        if tensor.producer.is_none() {
            return Ok(());
        }
        let message = format!("tensor {} is computed by a part, it is no input", tensor.name);
        Err(Error::new(ErrorKind::TensorUse, message))
    }

    fn computed(&mut self, tensor: impl TensorKey) -> Result<usize, Error> {
        let id = tensor.resolve(&self.tensors)?;
        self.refresh(id).map_err(|error| self.computing(id, error))?;
        Ok(id)
    }

    fn computing(&self, id: usize, error: Error) -> Error {
        error.context(format!("computing tensor {}", self.tensors.all[id].name))
    }

    fn refresh(&mut self, id: usize) -> Result<(), Error> {
        if self.tensors.all[id].fresh {
            return Ok(());
        }
        let unwritten = || Error::new(ErrorKind::MissingInput, "an input that it needs has not been written");
        let producer = self.tensors.all[id].producer.ok_or_else(unwritten)?;
        for i in 0..self.parts[producer].inputs.len() {
            self.refresh(self.parts[producer].inputs[i])?;
        }
        let part = &mut self.parts[producer];
        let start = Instant::now();
        part.prepared.run(&*self.bundle, &mut self.buffers, &mut self.scratch, self.helpers.as_mut())?;
        for output in &part.outputs {
            self.tensors.all[*output].fresh = true;
        }
        part.counter.runs += 1;
        let owner = part.owner;
        self.parts[owner].counter.time_us += start.elapsed().as_micros() as u64;
        Ok(())
    }
}

/// Returns the part that makes the tensor of a view; the plan's own index, if it is no view.
fn owner(bundle: &Bundle, index: usize, plan: &Plan) -> usize {
    let parts = &bundle.manifest().parts;
    if index < parts.len() {
        return index;
    }
    let tensor = TensorName::parse(&plan.name).tensor;
    parts.iter().position(|part| part.outputs.iter().any(|output| output == tensor)).unwrap_or(index)
}

#[cold]
fn wrong_element(tensor: &str, expected: &str) -> Error {
    Error::new(ErrorKind::TensorUse, format!("tensor {tensor} is not {expected}"))
}
