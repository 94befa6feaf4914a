//! A step of the schedule, prepared for this CPU: what it does, from where to where, alone or shared by threads.

use std::ops::Range;
use std::sync::Arc;

use crate::cpu::{Kernel, PackedFloat, PackedInt8};
use crate::memory_plan::{Place, Storage};
use crate::ops::depthwise::Depthwise;
use crate::ops::elementwise::{self, Broadcast, Quantizer};
use crate::ops::movement::{self, Gather};
use crate::ops::product::{Finish, Geometry, Scratch, added};
use crate::ops::reduce::{self, Reduced};
use crate::ops::sample::Sampled;
use crate::ops::{Data, attention, best_class, matmul};
use crate::part::{Constants, Helpers};
use crate::plan::{Attention, BestClass, Binary, MatMul, Quantization, Reduction, Residual, Unary};
use crate::thread_pool::MAX_THREADS;

/// One step of a part with its operator, its operands and how long it took.
pub struct Ready {
    pub work: Work,
    /// Threads that share it.
    pub threads: usize,
    pub inputs: Vec<Operand>,
    pub outputs: Vec<Operand>,
    pub time_ns: u64,
}

#[derive(Clone, Copy)]
pub struct Operand {
    pub place: Place,
    pub len: usize,
}

/// A step's operator with all that follows from its shapes.
pub enum Work {
    Int8(Box<Geometry>, Arc<PackedInt8>),
    Float(Box<Geometry>, Arc<PackedFloat>),
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
    pub fn run(
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
                geometry.run_float(kernel, weights.values(), operands.floats(0), &mut finish, scratch);
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
    op: &crate::plan::Product,
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
