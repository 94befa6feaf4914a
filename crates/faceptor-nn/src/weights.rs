//! Constant weights, and their packed form for one kernel.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::cpu::{Kernel, PackedFloat, PackedInt8};
use crate::error::Error;
use crate::tensor::Data;

/// A table of the constants that a plan refers to.
pub(crate) trait Constants {
    /// Returns the elements of a constant.
    fn constant(&self, index: u32) -> Result<Data<'_>, Error>;

    /// Returns weights `[columns, depth]` in the order of a kernel.
    fn weights(&self, index: u32, kernel: Kernel, [columns, depth]: [usize; 2]) -> Result<PackedInt8, Error> {
        PackedInt8::new(kernel, self.constant(index)?.weights()?, columns, depth)
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
