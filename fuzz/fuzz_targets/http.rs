//! Parses the head of an HTTP request of the preview.
#![no_main]

use faceptor_edge::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::http(bytes));
