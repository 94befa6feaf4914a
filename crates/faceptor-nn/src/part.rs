//! A part of the network, prepared for this CPU, over planned buffers.

use std::time::Instant;

use crate::buffers::{Buffers, Place};
use crate::bundle::Bundle;
use crate::cpu::{Kernel, PackedInt8};
use crate::error::Error;
use crate::ops::context::Helpers;
use crate::ops::scratch::Scratch;
use crate::plan::Plan;
use crate::step::PreparedStep;
use crate::tensor::Data;
use crate::weights::{Constants, SharedWeights};

impl Constants for Bundle {
    fn constant(&self, index: u32) -> Result<Data<'_>, Error> {
        Bundle::constant(self, index)
    }

    fn weights(&self, index: u32, kernel: Kernel, _: [usize; 2]) -> Result<PackedInt8, Error> {
        Bundle::weights(self, index, kernel)
    }
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
        Ok(PreparedPart { kernel: weights.kernel(), steps, is_profiling: false, own_bytes })
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
