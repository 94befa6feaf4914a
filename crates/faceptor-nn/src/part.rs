//! One part's steps, prepared for this CPU, over planned buffers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use crate::bundle::reader::Bundle;
use crate::cpu::{Kernel, PackedFloat, PackedInt8};
use crate::error::Error;
use crate::memory_plan::{Place, Storage};
use crate::ops::depthwise::Depthwise;
use crate::ops::elementwise::Broadcast;
use crate::ops::movement::Gather;
use crate::ops::product::{Geometry, Scratch};
use crate::ops::reduce::Reduced;
use crate::ops::sample::Sampled;
use crate::ops::{Data, attention, best_class, matmul};
use crate::plan::{Attention, Op, Plan, Reach, Step};
use crate::step::{Operand, Ready, Work};
use crate::thread_pool::Pool;

/// Where constants come from.
pub trait Constants {
    fn constant(&self, index: u32) -> Data<'_>;

    /// Weights `[columns, depth]` in the order of a kernel.
    fn weights(&self, index: u32, kernel: Kernel, [columns, depth]: [usize; 2]) -> Result<PackedInt8, Error> {
        PackedInt8::new(kernel, self.constant(index).weights(), columns, depth)
    }
}

impl Constants for Bundle {
    fn constant(&self, index: u32) -> Data<'_> {
        Bundle::constant(self, index)
    }

    fn weights(&self, index: u32, kernel: Kernel, _: [usize; 2]) -> Result<PackedInt8, Error> {
        Bundle::weights(self, index, kernel)
    }
}

/// Weights packed for one kernel, shared by all steps that use them.
pub struct Packs {
    kernel: Kernel,
    /// That may share a step.
    threads: usize,
    int8: HashMap<u32, Arc<PackedInt8>>,
    float: HashMap<u32, Arc<PackedFloat>>,
}

impl Packs {
    pub fn new(kernel: Kernel, threads: usize) -> Packs {
        Packs { kernel, threads, int8: HashMap::new(), float: HashMap::new() }
    }
}

/// Threads that share the large steps, each with memory of its own.
pub struct Helpers {
    pub pool: Pool,
    /// One for each helper; the caller has its own.
    pub scratch: Vec<Scratch>,
}

/// Steps with fewer multiply-accumulates are done before a helper has heard of them.
const MIN_SHARED_MACS: u64 = 400_000;

/// The steps of one part.
pub struct Runner {
    kernel: Kernel,
    steps: Vec<Ready>,
    profiling: bool,
    own_bytes: usize,
}

impl Runner {
    /// Prepares a checked plan whose values lie at `places`; grows `scratch` to what it needs.
    pub fn new(
        plan: &Plan,
        places: &[Place],
        constants: &dyn Constants,
        packs: &mut Packs,
        scratch: &mut Scratch,
    ) -> Result<Runner, Error> {
        let operand = |id: &u32| Operand { place: places[*id as usize], len: plan.values[*id as usize].len() };
        let mut own_bytes = 0;
        let mut steps = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let work = prepare(plan, step, constants, packs, &mut own_bytes)?;
            match &work {
                Work::Int8(geometry, _) | Work::Float(geometry, _) => geometry.reserve(packs.kernel, scratch),
                Work::MatMul(op) => scratch.reserve_float(matmul::scratch_len(packs.kernel, op)),
                Work::BestClass(op) => scratch.reserve_float(best_class::scratch_len(packs.kernel, op)),
                Work::Attention(op, shares) => {
                    for op in shares.iter().chain([&**op]) {
                        let len = attention::scratch_len(packs.kernel, op);
                        scratch.floats.resize(scratch.floats.len().max(len), 0.0);
                    }
                }
                _ => {}
            }
            let inputs = step.inputs.iter().map(operand).collect();
            let outputs = step.outputs.iter().map(operand).collect();
            let threads = match &work {
                Work::Int8(geometry, _) if plan.step_macs(step) >= MIN_SHARED_MACS => {
                    packs.threads.min(geometry.rows())
                }
                Work::Attention(_, shares) if plan.step_macs(step) >= MIN_SHARED_MACS => shares.len(),
                _ => 1,
            };
            steps.push(Ready { work, threads, inputs, outputs, time_ns: 0 });
        }
        Ok(Runner { kernel: packs.kernel, steps, profiling: false, own_bytes })
    }

    /// Computes the part's outputs from its inputs; whoever helps changes no bit of them.
    pub fn run(
        &mut self,
        constants: &dyn Constants,
        storage: &mut Storage,
        scratch: &mut Scratch,
        mut helpers: Option<&mut Helpers>,
    ) {
        for step in &mut self.steps {
            let start = self.profiling.then(Instant::now);
            let helpers = helpers.as_deref_mut().filter(|_| step.threads > 1);
            step.run(self.kernel, constants, storage, scratch, helpers);
            step.time_ns += start.map_or(0, |s| s.elapsed().as_nanos() as u64);
        }
    }

    pub fn set_profiling(&mut self, on: bool) {
        self.profiling = on;
    }

    pub fn times_ns(&self) -> impl Iterator<Item = u64> {
        self.steps.iter().map(|s| s.time_ns)
    }

    pub fn reset_times(&mut self) {
        self.steps.iter_mut().for_each(|s| s.time_ns = 0);
    }

    /// Packed weights that this part was the first to use.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes
    }
}

fn prepare(
    plan: &Plan,
    step: &Step,
    constants: &dyn Constants,
    packs: &mut Packs,
    own_bytes: &mut usize,
) -> Result<Work, Error> {
    let shape = |id: u32| plan.values[id as usize].shape.as_slice();
    let (x, out) = (shape(step.inputs[0]), shape(step.outputs[0]));
    Ok(match &step.op {
        Op::Product(product) => {
            let geometry = Box::new(Geometry::new(packs.kernel, product, x, out));
            // Present, as the plan's check has it.
            let index = plan.values[step.inputs[1] as usize].constant.unwrap_or(0);
            let kernel = packs.kernel;
            if product.zero_point.is_some() {
                let packed = match packs.int8.entry(index) {
                    Entry::Occupied(packed) => packed.get().clone(),
                    Entry::Vacant(place) => {
                        let packed = constants.weights(index, kernel, [product.columns, product.depth])?;
                        *own_bytes += packed.own_bytes();
                        place.insert(Arc::new(packed)).clone()
                    }
                };
                Work::Int8(geometry, packed)
            } else {
                let packed = match packs.float.entry(index) {
                    Entry::Occupied(packed) => packed.get().clone(),
                    Entry::Vacant(place) => {
                        let weights = constants.constant(index).floats();
                        let packed = PackedFloat::new(kernel, weights, product.columns, product.depth)?;
                        *own_bytes += packed.own_bytes();
                        place.insert(Arc::new(packed)).clone()
                    }
                };
                Work::Float(geometry, packed)
            }
        }
        Op::MatMul(op) => Work::MatMul(Box::new(op.clone())),
        Op::Attention(op) => Work::Attention(
            Box::new(op.clone()),
            share_queries(op, plan.values[step.outputs[0] as usize].len(), packs.threads),
        ),
        Op::Binary(op) => Work::Binary(*op, Broadcast::new(x, shape(step.inputs[1]), out)),
        Op::Unary(op) => Work::Unary(*op),
        Op::Reduce { by, axes } => Work::Reduce(*by, Reduced::new(x, axes)),
        Op::Softmax { axis } => Work::Softmax { len: x[*axis], stride: x[*axis + 1..].iter().product() },
        Op::LayerNorm { epsilon } => Work::LayerNorm { epsilon: *epsilon },
        Op::Transpose { order } => Work::Gather(Gather::transpose(x, order)),
        Op::Reshape => Work::Copy,
        Op::Broadcast => Work::Gather(Gather::broadcast(x, out)),
        Op::Concat { axis } => {
            let run = |id: &u32| shape(*id)[*axis..].iter().product();
            Work::Concat { runs: step.inputs.iter().map(run).collect() }
        }
        Op::Slice { axis, start, step } if *step != 1 => Work::Gather(Gather::sample(x, out, *axis, *start, *step)),
        Op::Slice { axis, start, .. } => {
            let behind: usize = x[*axis + 1..].iter().product();
            Work::Slice { run: out[*axis] * behind, start: start * behind, pitch: x[*axis] * behind }
        }
        Op::Pad { before, value } => {
            Work::Pad { shape: x.to_vec(), before: before.clone(), out: out.to_vec(), value: *value }
        }
        Op::Sample(op) => Work::Sample(Sampled::new(op, x)),
        Op::Select => Work::Select,
        Op::BestClass(op) => Work::BestClass(Box::new(op.clone())),
        Op::Depthwise(window) => Work::Depthwise(Depthwise::new(window, x, out)),
        Op::Quantize(to) => Work::Quantize(*to),
        Op::Dequantize(from) => Work::Dequantize(*from),
    })
}

/// Attention over some of the queries each, where the results of neighbouring queries follow each other; none if they do
/// not, or if there are too few of them.
fn share_queries(op: &Attention, results: usize, threads: usize) -> Vec<Attention> {
    let all = op.queries.len;
    if threads < 2 || all < 2 * threads || op.queries.out * all != results {
        return Vec::new();
    }
    let share = |thread: usize| all * (thread + 1) / threads - all * thread / threads;
    (0..threads).map(|thread| Attention { queries: Reach { len: share(thread), ..op.queries }, ..op.clone() }).collect()
}
