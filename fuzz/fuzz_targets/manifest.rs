//! Parses a manifest.
#![no_main]

use faceptor_nn::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Manifest::parse(text);
});
