//! Decodes one JPEG frame as a camera sends it, strictly and leniently.
#![no_main]

use faceptor_edge::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::jpeg_frame(bytes));
