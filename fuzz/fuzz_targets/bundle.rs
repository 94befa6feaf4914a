//! Reads a bundle whose checksums are right, prepares its parts and runs those with an output: a bundle that passes the
//! checks must not panic, however its plans were made.
#![no_main]

use faceptor_nn::{Bundle, Engine, Kernel};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

/// Bytes of the header before the section entries, and of an entry: crates/faceptor-nn/src/bundle/mod.rs.
const FIXED_BYTES: usize = 24;
const ENTRY_BYTES: usize = 56;
/// Plans beyond this work are read and prepared, but not run: a slow input is not a finding.
const MOST_MACS: u64 = 50_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    correct_checksums(&mut bytes);
    let Ok(bundle) = Bundle::from_bytes(&bytes) else { return };
    let Ok(kernel) = Kernel::named("scalar") else { return };
    let macs = bundle.parts().fold(0u64, |sum, part| sum.saturating_add(part.macs));
    let outputs: Vec<String> =
        bundle.parts().flat_map(|part| part.outputs.iter().map(|tensor| tensor.name.clone())).collect();
    let Ok(mut engine) = Engine::with_kernel(bundle, kernel) else { return };
    if macs <= MOST_MACS {
        for name in &outputs {
            let _ = engine.output(name.as_str());
        }
    }
});

/// Corrects the checksums of the sections and of the header, so that changed bytes reach the parsers.
fn correct_checksums(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize, len: usize| -> Option<usize> {
        let digits = bytes.get(at..at.checked_add(len)?)?;
        Some(digits.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte)))
    };
    let Some(sections) = number(bytes, 12, 4).filter(|count| *count <= 64) else { return };
    for entry in (0..sections).map(|i| FIXED_BYTES + i * ENTRY_BYTES) {
        let place = number(bytes, entry + 8, 8).zip(number(bytes, entry + 16, 8));
        let Some((offset, len)) = place else { return };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= bytes.len()) else { return };
        let digest = Sha256::digest(&bytes[offset..end]);
        let Some(to) = bytes.get_mut(entry + 24..entry + 56) else { return };
        to.copy_from_slice(&digest);
    }
    let end = FIXED_BYTES + sections * ENTRY_BYTES;
    if bytes.len() >= end + 32 {
        let digest = Sha256::digest(&bytes[..end]);
        bytes[end..end + 32].copy_from_slice(&digest);
    }
}
