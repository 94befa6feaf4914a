//! Opens a gallery that is the input, or whose records are the input, and changes it.
#![no_main]

use faceptor_gallery::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::gallery(bytes));
