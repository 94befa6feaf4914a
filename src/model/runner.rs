//! One part's steps, prepared for this CPU, over planned buffers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::bundle::Bundle;
use super::kernels::{Kernel, PackedInt8, pack_float};
use super::ops::depthwise::Depthwise;
use super::ops::elementwise::{self, Broadcast, Quantizer};
use super::ops::movement::{self, Gather};
use super::ops::product::{Finish, Geometry, Scratch, added};
use super::ops::reduce::{self, Reduced};
use super::ops::sample::Sampled;
use super::ops::{Data, attention, best_class, matmul};
use super::plan::{
    Attention, BestClass, Binary, MatMul, Op, Plan, Quantization, Reach, Reduction, Residual, Step, Unary,
};
use super::pool::{MAX_THREADS, Pool};
use super::storage::{Place, Storage};

/// Where constants come from.
pub trait Constants {
    fn constant(&self, index: u32) -> Data<'_>;

    /// Weights `[columns, depth]` in the order of a kernel.
    fn weights(&self, index: u32, kernel: Kernel, [columns, depth]: [usize; 2]) -> PackedInt8 {
        PackedInt8::new(kernel, self.constant(index).weights(), columns, depth)
    }
}

impl Constants for Bundle {
    fn constant(&self, index: u32) -> Data<'_> {
        Bundle::constant(self, index)
    }

    fn weights(&self, index: u32, kernel: Kernel, _: [usize; 2]) -> PackedInt8 {
        Bundle::weights(self, index, kernel)
    }
}

/// Weights packed for one kernel, shared by all steps that use them.
pub struct Packs {
    kernel: Kernel,
    /// That may share a step.
    threads: usize,
    int8: HashMap<u32, Arc<PackedInt8>>,
    float: HashMap<u32, Arc<Vec<f32>>>,
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

/// One thread's part of a product.
struct Rows<'a> {
    rows: Range<usize>,
    finish: Finish<'a>,
    scratch: &'a mut Scratch,
}

/// One thread's part of attention: some of the queries.
struct Queries<'a> {
    op: &'a Attention,
    q: &'a [f32],
    out: attention::Out<'a>,
    scratch: &'a mut Scratch,
}

/// The steps of one part.
pub struct Runner {
    kernel: Kernel,
    steps: Vec<Ready>,
    profiling: bool,
    own_bytes: usize,
}

struct Ready {
    work: Work,
    /// Threads that share it.
    threads: usize,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    time_ns: u64,
}

#[derive(Clone, Copy)]
struct Operand {
    place: Place,
    len: usize,
}

/// A step's operator with all that follows from its shapes.
enum Work {
    Int8(Box<Geometry>, Arc<PackedInt8>),
    Float(Box<Geometry>, Arc<Vec<f32>>),
    MatMul(Box<MatMul>),
    /// As a whole, and the part of each thread.
    Attention(Box<Attention>, Vec<Attention>),
    Binary(Binary, Broadcast),
    Unary(Unary),
    Reduce(Reduction, Reduced),
    Softmax {
        len: usize,
        stride: usize,
    },
    LayerNorm {
        epsilon: f32,
    },
    Gather(Gather),
    /// Nothing, if both lie in one place.
    Copy,
    /// The length of each input's rows.
    Concat {
        runs: Vec<usize>,
    },
    Slice {
        run: usize,
        start: usize,
        pitch: usize,
    },
    Pad {
        shape: Vec<usize>,
        before: Vec<usize>,
        out: Vec<usize>,
        value: f32,
    },
    Quantize(Quantization),
    Dequantize(Quantization),
    Sample(Sampled),
    Select,
    Depthwise(Depthwise),
    BestClass(Box<BestClass>),
}

impl Runner {
    /// Prepares a checked plan whose values lie at `places`; grows `scratch` to what it needs.
    pub fn new(
        plan: &Plan,
        places: &[Place],
        constants: &dyn Constants,
        packs: &mut Packs,
        scratch: &mut Scratch,
    ) -> Runner {
        let operand = |id: &u32| Operand { place: places[*id as usize], len: plan.values[*id as usize].len() };
        let mut own_bytes = 0;
        let mut steps = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let work = prepare(plan, step, constants, packs, &mut own_bytes);
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
        Runner { kernel: packs.kernel, steps, profiling: false, own_bytes }
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

fn prepare(plan: &Plan, step: &Step, constants: &dyn Constants, packs: &mut Packs, own_bytes: &mut usize) -> Work {
    let shape = |id: u32| plan.values[id as usize].shape.as_slice();
    let (x, out) = (shape(step.inputs[0]), shape(step.outputs[0]));
    match &step.op {
        Op::Product(product) => {
            let geometry = Box::new(Geometry::new(packs.kernel, product, x, out));
            // Present, as the plan's check has it.
            let index = plan.values[step.inputs[1] as usize].constant.unwrap_or(0);
            let kernel = packs.kernel;
            if product.zero_point.is_some() {
                let packed = packs.int8.entry(index).or_insert_with(|| {
                    let packed = constants.weights(index, kernel, [product.columns, product.depth]);
                    *own_bytes += packed.values.own_bytes() + packed.sums.len() * 4;
                    Arc::new(packed)
                });
                Work::Int8(geometry, packed.clone())
            } else {
                let packed = packs.float.entry(index).or_insert_with(|| {
                    let weights = constants.constant(index).floats();
                    let mut packed = vec![0.0; kernel.pad_float(product.columns) * product.depth];
                    pack_float(kernel, weights, product.columns, product.depth, [1, product.depth], &mut packed);
                    *own_bytes += packed.len() * 4;
                    Arc::new(packed)
                });
                Work::Float(geometry, packed.clone())
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
    }
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

/// Reads operands from storage or from the constants.
struct Operands<'a> {
    storage: &'a Storage,
    constants: &'a dyn Constants,
    inputs: &'a [Operand],
}

impl<'a> Operands<'a> {
    fn get(&self, i: usize) -> Data<'a> {
        let operand = self.inputs[i];
        match operand.place {
            Place::Constant(index) => self.constants.constant(index),
            place => self.storage.data(place, operand.len).unwrap_or(Data::F32(&[])),
        }
    }

    fn floats(&self, i: usize) -> &'a [f32] {
        self.get(i).floats()
    }
}

/// A buffer while it is written.
enum Taken {
    Float(usize, Vec<f32>),
    Byte(usize, Vec<u8>),
    Nothing,
}

impl Taken {
    fn new(storage: &mut Storage, operand: Option<&Operand>) -> Taken {
        match operand.map(|o| o.place) {
            Some(Place::Float(slot)) => Taken::Float(slot, storage.take_floats(slot)),
            Some(Place::Byte(slot)) => Taken::Byte(slot, storage.take_bytes(slot)),
            _ => Taken::Nothing,
        }
    }

    fn put_back(self, storage: &mut Storage) {
        match self {
            Taken::Float(slot, buffer) => storage.put_floats(slot, buffer),
            Taken::Byte(slot, buffer) => storage.put_bytes(slot, buffer),
            Taken::Nothing => {}
        }
    }

    fn floats(&mut self, len: usize) -> &mut [f32] {
        if let Taken::Float(_, buffer) = self { &mut buffer[..len] } else { &mut [] }
    }

    fn bytes(&mut self, len: usize) -> &mut [u8] {
        if let Taken::Byte(_, buffer) = self { &mut buffer[..len] } else { &mut [] }
    }
}

impl Ready {
    fn run(
        &self,
        kernel: Kernel,
        constants: &dyn Constants,
        storage: &mut Storage,
        scratch: &mut Scratch,
        helpers: Option<&mut Helpers>,
    ) {
        if matches!(self.work, Work::Copy) && self.inputs[0].place == self.outputs[0].place {
            return;
        }
        let len = self.outputs[0].len;
        let mut first = Taken::new(storage, self.outputs.first());
        let mut second = Taken::new(storage, self.outputs.get(1));
        let operands = Operands { storage, constants, inputs: &self.inputs };
        match helpers {
            Some(helpers) => self.share(kernel, &operands, &mut first, &mut second, len, scratch, helpers),
            None => self.compute(kernel, &operands, &mut first, &mut second, len, scratch),
        }
        first.put_back(storage);
        second.put_back(storage);
    }

    /// The same with helpers, for the operators that can be shared.
    #[allow(clippy::too_many_arguments, reason = "those of `compute`, and who helps")]
    fn share(
        &self,
        kernel: Kernel,
        operands: &Operands<'_>,
        first: &mut Taken,
        second: &mut Taken,
        len: usize,
        scratch: &mut Scratch,
        helpers: &mut Helpers,
    ) {
        let count = self.threads.min(helpers.pool.threads());
        let mut scratches = std::iter::once(scratch).chain(&mut helpers.scratch);
        match &self.work {
            Work::Int8(geometry, weights) => {
                let mut rest = finish(&geometry.op, operands, first, second, len);
                let (scale, x, all) = (operands.floats(2), operands.get(0).bytes(), geometry.rows());
                let mut shares: [Option<Rows<'_>>; MAX_THREADS] = [const { None }; MAX_THREADS];
                for (thread, share) in shares[..count].iter_mut().enumerate() {
                    let rows = all * thread / count..all * (thread + 1) / count;
                    let finish = rest.split_first(rows.len(), geometry.op.columns);
                    *share = scratches.next().map(|scratch| Rows { rows, finish, scratch });
                }
                helpers.pool.each(&mut shares[..count], |share| {
                    if let Some(Rows { rows, finish, scratch }) = share {
                        geometry.run_int8(kernel, weights, scale, x, rows.clone(), finish, scratch);
                    }
                });
            }
            Work::Attention(whole, ops) => {
                let [q, k, v] = [0, 1, 2].map(|i| operands.floats(i));
                let (floats, bytes) = match whole.quantized_output {
                    Some(_) => (Default::default(), first.bytes(len)),
                    None => (first.floats(len), Default::default()),
                };
                let (mut floats, mut bytes): (&mut [f32], &mut [u8]) = (floats, bytes);
                let mut shares: [Option<Queries<'_>>; MAX_THREADS] = [const { None }; MAX_THREADS];
                let mut before = 0;
                for (op, share) in ops.iter().zip(&mut shares[..count]) {
                    let results = op.queries.len * op.queries.out;
                    let out = match op.quantized_output {
                        Some(to) => {
                            let (here, behind) = std::mem::take(&mut bytes).split_at_mut(results);
                            bytes = behind;
                            attention::Out::Bytes(here, Quantizer::new(to))
                        }
                        None => {
                            let (here, behind) = std::mem::take(&mut floats).split_at_mut(results);
                            floats = behind;
                            attention::Out::Floats(here)
                        }
                    };
                    let q = &q[before * op.queries.query..];
                    *share = scratches.next().map(|scratch| Queries { op, q, out, scratch });
                    before += op.queries.len;
                }
                helpers.pool.each(&mut shares[..count], |share| {
                    if let Some(Queries { op, q, out, scratch }) = share {
                        attention::run(kernel, op, [*q, k, v], out, &mut scratch.floats);
                    }
                });
            }
            _ => {}
        }
    }

    fn compute(
        &self,
        kernel: Kernel,
        operands: &Operands<'_>,
        first: &mut Taken,
        second: &mut Taken,
        len: usize,
        scratch: &mut Scratch,
    ) {
        match &self.work {
            Work::Int8(geometry, weights) => {
                let mut finish = finish(&geometry.op, operands, first, second, len);
                let scale = operands.floats(2);
                geometry.run_int8(
                    kernel,
                    weights,
                    scale,
                    operands.get(0).bytes(),
                    0..geometry.rows(),
                    &mut finish,
                    scratch,
                );
            }
            Work::Float(geometry, weights) => {
                let mut finish = finish(&geometry.op, operands, first, second, len);
                geometry.run_float(kernel, weights, operands.floats(0), &mut finish, scratch);
            }
            Work::MatMul(op) => {
                let (a, b) = (operands.floats(0), operands.floats(1));
                matmul::run(kernel, op, a, b, first.floats(len), &mut scratch.floats, &mut scratch.results);
            }
            Work::BestClass(op) => {
                let inputs = [operands.floats(0), operands.floats(1)];
                best_class::run(kernel, op, inputs, first.bytes(len), &mut scratch.floats, &mut scratch.results);
            }
            Work::Attention(op, _) => {
                let inputs = [operands.floats(0), operands.floats(1), operands.floats(2)];
                let mut out = match op.quantized_output {
                    Some(to) => attention::Out::Bytes(first.bytes(len), Quantizer::new(to)),
                    None => attention::Out::Floats(first.floats(len)),
                };
                attention::run(kernel, op, inputs, &mut out, &mut scratch.floats);
            }
            Work::Gather(gather) => match operands.get(0) {
                Data::F32(x) => gather.run(x, first.floats(len)),
                Data::U8(x) => gather.run(x, first.bytes(len)),
                Data::I8(_) => {}
            },
            Work::Copy => match operands.get(0) {
                Data::F32(x) => first.floats(len).copy_from_slice(x),
                Data::U8(x) => first.bytes(len).copy_from_slice(x),
                Data::I8(_) => {}
            },
            Work::Concat { runs } => {
                let pitch = runs.iter().sum();
                let mut start = 0;
                for (i, run) in runs.iter().enumerate() {
                    match operands.get(i) {
                        Data::F32(x) => movement::place(x, *run, start, pitch, first.floats(len)),
                        Data::U8(x) => movement::place(x, *run, start, pitch, first.bytes(len)),
                        Data::I8(_) => {}
                    }
                    start += run;
                }
            }
            Work::Slice { run, start, pitch } => match operands.get(0) {
                Data::F32(x) => movement::take(x, *run, *start, *pitch, first.floats(len)),
                Data::U8(x) => movement::take(x, *run, *start, *pitch, first.bytes(len)),
                Data::I8(_) => {}
            },
            Work::Pad { shape, before, out, value } => {
                movement::pad(shape, before, out, *value, operands.floats(0), first.floats(len));
            }
            _ => kernel.vectorize(
                #[inline(always)]
                || self.compute_vectorized(operands, first, len),
            ),
        }
    }

    /// The operators whose loops the compiler turns into vector code.
    #[inline(always)]
    fn compute_vectorized(&self, operands: &Operands<'_>, out: &mut Taken, len: usize) {
        match &self.work {
            Work::Binary(op, broadcast) => {
                elementwise::binary(*op, broadcast, operands.floats(0), operands.floats(1), out.floats(len));
            }
            Work::Unary(op) => elementwise::unary(*op, operands.floats(0), out.floats(len)),
            Work::Reduce(by, reduced) => reduce::reduce(*by, reduced, operands.floats(0), out.floats(len)),
            Work::Softmax { len: axis, stride } => {
                reduce::softmax(*axis, *stride, operands.floats(0), out.floats(len));
            }
            Work::LayerNorm { epsilon } => {
                let (gain, offset) = (operands.floats(1), operands.floats(2));
                reduce::layer_norm(*epsilon, gain, offset, operands.floats(0), out.floats(len));
            }
            Work::Quantize(to) => elementwise::quantize(*to, operands.floats(0), out.bytes(len)),
            Work::Sample(sampled) => {
                let weights = if self.inputs.len() > 1 { operands.floats(1) } else { &[] };
                sampled.run(operands.floats(0), weights, out.floats(len));
            }
            Work::Select => {
                elementwise::select(operands.floats(0), operands.floats(1), operands.floats(2), out.floats(len));
            }
            Work::Depthwise(op) => {
                op.run(operands.floats(0), operands.floats(1), operands.floats(2), out.floats(len));
            }
            Work::Dequantize(from) => elementwise::dequantize(*from, operands.get(0).bytes(), out.floats(len)),
            _ => {}
        }
    }
}

/// What a product does with its results, from its operands and outputs.
fn finish<'a>(
    op: &super::plan::Product,
    operands: &Operands<'a>,
    first: &'a mut Taken,
    second: &'a mut Taken,
    len: usize,
) -> Finish<'a> {
    let bias_at = 2 + op.zero_point.is_some() as usize;
    let bias = if op.bias { operands.floats(bias_at) } else { &[] };
    let residual_at = bias_at + op.bias as usize;
    let residual = (op.residual != Residual::None).then(|| operands.get(residual_at));
    let (floats, bytes) = match (op.float_output, op.quantized_output) {
        (true, Some(to)) => (Some(first.floats(len)), Some((second.bytes(len), to))),
        (true, None) => (Some(first.floats(len)), None),
        (false, Some(to)) => (None, Some((first.bytes(len), to))),
        (false, None) => (None, None),
    };
    Finish { bias, added: added(op.residual, residual), floats, bytes, origin: 0 }
}
