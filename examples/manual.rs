//! Writes what the packages take from the definition of the command line: manual pages, completions and the configuration file.
//!
//! ```sh
//! cargo run --release --example manual -- target/manual
//! ```
//!
//! Output: `man/faceptor.1` and a page for each verb, `completions/` for bash, zsh and fish, `faceptor.toml`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::Shell;
use faceptor_edge::cli;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("argument: the folder to write to")?);
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let failed = || format!("cannot write to {}", folder.display());
    clap_mangen::generate_to(cli::command(), &man).with_context(failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::command(), "faceptor", &completions).with_context(failed)?;
    }
    fs::write(folder.join("faceptor.toml"), cli::example_configuration()).with_context(failed)
}
