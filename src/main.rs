use std::process::ExitCode;

fn main() -> ExitCode {
    faceptor_edge::cli::main()
}
