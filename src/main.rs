use std::process::ExitCode;

use faceptor_edge::pace::allocations::Counting;

/// `faceptor bench` reports the allocations of a frame; elsewhere the counting is not noticed.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    faceptor_edge::cli::main()
}
