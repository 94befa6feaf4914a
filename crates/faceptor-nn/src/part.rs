//! A part of the network, prepared for this CPU, over planned buffers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use crate::bundle::Bundle;
use crate::cpu::{Kernel, PackedFloat, PackedInt8};
use crate::error::Error;
use crate::memory_plan::{Buffers, Place};
use crate::ops::Data;
use crate::ops::scratch::Scratch;
use crate::plan::Plan;
use crate::step::PreparedStep;
use crate::thread_pool::Pool;

/// A table of the constants that a plan refers to.
pub(crate) trait Constants {
    /// Returns the elements of a constant.
    fn constant(&self, index: u32) -> Result<Data<'_>, Error>;

    /// Returns weights `[columns, depth]` in the order of a kernel.
    fn weights(&self, index: u32, kernel: Kernel, [columns, depth]: [usize; 2]) -> Result<PackedInt8, Error> {
        PackedInt8::new(kernel, self.constant(index)?.weights()?, columns, depth)
    }
}

impl Constants for Bundle {
    fn constant(&self, index: u32) -> Result<Data<'_>, Error> {
        Bundle::constant(self, index)
    }

    fn weights(&self, index: u32, kernel: Kernel, _: [usize; 2]) -> Result<PackedInt8, Error> {
        Bundle::weights(self, index, kernel)
    }
}

/// Weights packed for one kernel, shared by all steps that use them.
pub(crate) struct SharedWeights {
    kernel: Kernel,
    threads: usize,
    int8: HashMap<u32, Arc<PackedInt8>>,
    float: HashMap<u32, Arc<PackedFloat>>,
}

impl SharedWeights {
    /// Prepares for a kernel and a number of threads that may share a step.
    pub(crate) fn new(kernel: Kernel, threads: usize) -> SharedWeights {
        SharedWeights { kernel, threads, int8: HashMap::new(), float: HashMap::new() }
    }

    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Returns packed int8 weights; adds to `own_bytes` what they take, if they are packed now.
    pub(crate) fn int8(
        &mut self,
        index: u32,
        shape: [usize; 2],
        constants: &dyn Constants,
        own_bytes: &mut usize,
    ) -> Result<Arc<PackedInt8>, Error> {
        match self.int8.entry(index) {
            Entry::Occupied(packed) => Ok(packed.get().clone()),
            Entry::Vacant(place) => {
                let packed = constants.weights(index, self.kernel, shape)?;
                *own_bytes += packed.own_bytes();
                Ok(place.insert(Arc::new(packed)).clone())
            }
        }
    }

    /// Returns packed float32 weights; adds to `own_bytes` what they take, if they are packed now.
    pub(crate) fn float(
        &mut self,
        index: u32,
        [columns, depth]: [usize; 2],
        constants: &dyn Constants,
        own_bytes: &mut usize,
    ) -> Result<Arc<PackedFloat>, Error> {
        match self.float.entry(index) {
            Entry::Occupied(packed) => Ok(packed.get().clone()),
            Entry::Vacant(place) => {
                let weights = constants.constant(index)?.floats()?;
                let packed = PackedFloat::new(self.kernel, weights, columns, depth)?;
                *own_bytes += packed.own_bytes();
                Ok(place.insert(Arc::new(packed)).clone())
            }
        }
    }
}

/// Threads that share the large steps, each with its own scratch.
pub(crate) struct Helpers {
    pub(crate) pool: Pool,
    /// One for each helper; the caller has its own.
    pub(crate) scratch: Vec<Scratch>,
}

/// The steps of one part.
pub(crate) struct PreparedPart {
    kernel: Kernel,
    steps: Vec<PreparedStep>,
    is_profiling: bool,
    own_bytes: usize,
}

impl PreparedPart {
    /// Prepares a checked plan whose values lie at `places`; grows `scratch` to what it needs.
    pub(crate) fn new(
        plan: &Plan,
        places: &[Option<Place>],
        constants: &dyn Constants,
        weights: &mut SharedWeights,
        scratch: &mut Scratch,
    ) -> Result<PreparedPart, Error> {
        let mut own_bytes = 0;
        let mut steps = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            steps.push(PreparedStep::new(plan, step, places, constants, weights, scratch, &mut own_bytes)?);
        }
        Ok(PreparedPart { kernel: weights.kernel, steps, is_profiling: false, own_bytes })
    }

    /// Computes the part's outputs from its inputs; helpers change no bit of them.
    pub(crate) fn run(
        &mut self,
        constants: &dyn Constants,
        buffers: &mut Buffers,
        scratch: &mut Scratch,
        mut helpers: Option<&mut Helpers>,
    ) -> Result<(), Error> {
        for step in &mut self.steps {
            let start = self.is_profiling.then(Instant::now);
            step.run(self.kernel, constants, buffers, scratch, helpers.as_deref_mut())?;
            step.time_ns += start.map_or(0, |start| start.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    /// Switches the clock around every step on or off.
    pub(crate) fn set_profiling(&mut self, on: bool) {
        self.is_profiling = on;
    }

    /// Returns the time of each step since the last reset, nanoseconds.
    pub(crate) fn times_ns(&self) -> impl Iterator<Item = u64> {
        self.steps.iter().map(|step| step.time_ns)
    }

    pub(crate) fn reset_times(&mut self) {
        self.steps.iter_mut().for_each(|step| step.time_ns = 0);
    }

    /// Returns the bytes of packed weights that this part was the first to use.
    pub(crate) fn own_bytes(&self) -> usize {
        self.own_bytes
    }
}
