//! Carries out a request line of the control socket.
#![no_main]

use faceptor_edge::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::control(bytes));
