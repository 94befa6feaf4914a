//! Bundles packed for a family of CPUs: its kernels use the weights in place, without a copy.
//!
//! The results are the same, so a packed bundle keeps the identity of the one it was made of. Any other family runs it too, and
//! packs the weights anew when an engine is made.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, BundleError, HASH_BYTES, MAX_ELEMENTS, Writer};
use crate::cpu::{Kernel, PackedInt8, Packing, column_sums};
use crate::error::{Error, ErrorKind};
use crate::plan::Element;

/// The section of a packed bundle that a plain one lacks.
///
/// Each tensor of signed 8 bit weights `[columns, depth]` then is: the padded weights in the family's order, and the sum
/// of each padded column, i32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PackedSection {
    pub packing: Packing,
    /// Identity of the plain bundle.
    pub origin: [u8; HASH_BYTES],
    /// Tensors that have a weight of -128, in rising order.
    pub wide: Vec<u32>,
}

/// Returns whether a packed bundle stores such a tensor in a family's order.
pub(crate) fn is_packed(element: Element, shape: &[usize]) -> bool {
    element == Element::I8 && shape.len() == 2
}

/// Returns the bytes of packed weights and of their sums.
pub(crate) fn packed_bytes(packing: Packing, shape: &[usize]) -> Option<[usize; 2]> {
    let [columns, depth] = shape else { return None };
    if *columns > MAX_ELEMENTS || *depth > MAX_ELEMENTS {
        return None;
    }
    let [columns, depth] = packing.padded(*columns, *depth);
    Some([columns.checked_mul(depth)?, columns.checked_mul(4)?])
}

impl Bundle {
    /// Returns the order of the weights; none for a plain bundle.
    pub fn packing(&self) -> Option<Packing> {
        self.packed.as_ref().map(|packed| packed.packing)
    }

    /// Returns a bundle of the same network with its weights in the order of a family, or unpacked for `None`.
    ///
    /// # Errors
    /// If the result would be larger than a bundle may be.
    pub fn repacked(&self, packing: Option<Packing>) -> Result<Vec<u8>, BundleError> {
        self.rewritten(&self.manifest_text, packing)
    }

    /// Returns a plain bundle of the same parts with another manifest, such as one with a measured table of impostor scores.
    /// It has an identity of its own.
    ///
    /// # Errors
    /// If the manifest does not fit the parts, or the result would be larger than a bundle may be.
    pub fn with_manifest(&self, text: &str) -> Result<Vec<u8>, BundleError> {
        let bytes = self.rewritten(text, None)?;
        Bundle::from_bytes(&bytes).map(|_| bytes)
    }

    fn rewritten(&self, manifest: &str, packing: Option<Packing>) -> Result<Vec<u8>, BundleError> {
        let mut writer = Writer::new(manifest);
        let mut wide = Vec::new();
        // Tensors that share their bytes share them in the copy too: old place to new place.
        let mut places: HashMap<u64, u64> = HashMap::new();
        for (index, entry) in self.table.iter().enumerate() {
            if is_packed(entry.element, &entry.shape) {
                let (plain, [columns, depth]) = (self.plain_weights(index as u32)?, [entry.shape[0], entry.shape[1]]);
                if plain.contains(&i8::MIN) {
                    wide.push(index as u32);
                }
                let Some(packing) = packing else {
                    writer.keep(entry, bytemuck::cast_slice(&plain));
                    continue;
                };
                let mut bytes = vec![0i8; packing.padded(columns, depth).iter().product()];
                packing.pack(&plain, columns, depth, &mut bytes);
                let sums = column_sums(&plain, columns, depth);
                writer.keep(entry, &[bytemuck::cast_slice(&bytes), bytemuck::cast_slice::<i32, u8>(&sums)].concat());
            } else if let Some(place) = places.get(&entry.offset) {
                writer.keep_at(entry, *place);
            } else {
                let stored = self.stored(index as u32).ok_or_else(|| unreadable(index as u32))?;
                places.insert(entry.offset, writer.keep(entry, stored));
            }
        }
        self.plans.iter().for_each(|plan| writer.plan(plan.clone()));
        match packing {
            Some(packing) => writer.finish_packed(&PackedSection { packing, origin: self.identity, wide }),
            None => writer.finish(),
        }
    }

    /// Returns a tensor's weights in the order of a kernel: in place, if that is their order already.
    ///
    /// # Errors
    /// If the tensor is no matrix of weights, or its bytes do not fit its shape.
    pub(crate) fn weights(&self, index: u32, kernel: Kernel) -> Result<PackedInt8, Error> {
        let malformed = || Error::new(ErrorKind::Network, format!("tensor {index} is no matrix of weights"));
        let entry = self.table.get(index as usize).ok_or_else(malformed)?;
        let [columns, depth] = entry.shape[..] else { return Err(malformed()) };
        let Some(packed) = self.packed.as_ref().filter(|packed| packed.packing == kernel.packing()) else {
            let plain = self.plain_weights(index).map_err(|_| malformed())?;
            return PackedInt8::new(kernel, &plain, columns, depth);
        };
        let [len, _] = packed_bytes(packed.packing, &entry.shape).ok_or_else(malformed)?;
        let (range, stored) = (self.range(index).ok_or_else(malformed)?, self.stored(index).ok_or_else(malformed)?);
        let sums = stored.get(len..).ok_or_else(malformed)?;
        let sums = bytemuck::try_cast_slice(sums).map_err(|_| malformed())?.to_vec();
        let narrow = packed.wide.binary_search(&index).is_err();
        PackedInt8::in_place(kernel, [columns, depth], self.bytes.clone(), range.start, sums, narrow)
    }

    /// Returns a tensor's weights as `[columns, depth]`.
    fn plain_weights(&self, index: u32) -> Result<Vec<i8>, BundleError> {
        let (Some(entry), Some(stored)) = (self.table.get(index as usize), self.stored(index)) else {
            return Err(unreadable(index));
        };
        let stored: &[i8] = bytemuck::cast_slice(stored);
        Ok(match &self.packed {
            Some(packed) if is_packed(entry.element, &entry.shape) => {
                packed.packing.unpack(stored, entry.shape[0], entry.shape[1])
            }
            _ => stored.to_vec(),
        })
    }
}

fn unreadable(index: u32) -> BundleError {
    BundleError::Malformed(format!("tensor {index} cannot be read"))
}
