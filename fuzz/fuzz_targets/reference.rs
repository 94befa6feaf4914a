//! Opens a reference folder whose index is the input.
#![no_main]

use faceptor_edge::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::reference(bytes));
