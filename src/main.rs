#![forbid(unsafe_code)]

use std::process::ExitCode;

use faceptor_edge::platform::allocations::Counting;

/// `faceptor bench` reports the allocations of a frame; elsewhere the counting is not noticed.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    // Set by the Makefile. Here and not in the library, so that a new commit costs a link and no compilation.
    faceptor_edge::cli::main(option_env!("FACEPTOR_GIT"))
}
