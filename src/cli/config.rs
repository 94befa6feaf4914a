//! `faceptor config`: checks the configuration file of `faceptor run`, or prints an example.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cli::config_example::example_configuration;
use crate::cli::config_file::ConfigFile;
use crate::cli::{Outcome, output};

#[derive(Args)]
pub struct ConfigArguments {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Check a configuration file, and print the options that it sets.
    Check {
        /// The file that `faceptor run --config` will read.
        #[arg(value_name = "FILE", default_value = "/etc/faceptor/faceptor.toml")]
        file: PathBuf,
    },
    /// Print a configuration file with every option of `run`, explained.
    Example,
}

pub fn run(arguments: ConfigArguments) -> Result<Outcome> {
    let file = match arguments.verb {
        ConfigVerb::Check { file } => file,
        ConfigVerb::Example => {
            output::print(&example_configuration())?;
            return Ok(Outcome::Done);
        }
    };
    let config = ConfigFile::open(&file)?;
    let options: Vec<String> = config.options().iter().map(|option| option.to_string_lossy().into_owned()).collect();
    output::print(&format!("{}: good\nfaceptor run {}\n", file.display(), options.join(" ")))?;
    Ok(Outcome::Done)
}
