//! Reads a stream of frames (YUV4MPEG2, concatenated JPEGs): the first byte is the size of the pieces that arrive.
#![no_main]

use faceptor_edge::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::stream(bytes));
