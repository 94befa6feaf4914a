//! The command line: one file a verb.

mod bench;
mod blur_arguments;
mod bundle;
#[cfg(feature = "signing")]
mod bundle_signing;
mod compile;
mod config;
mod config_example;
mod config_file;
mod ctl;
mod devices;
mod doctor;
mod enroll;
mod enroll_people;
mod enroll_source;
mod enroll_writer;
mod gallery;
mod gallery_arguments;
mod identify;
mod image;
mod logger;
mod measure_arguments;
pub(crate) mod network_arguments;
pub(crate) mod output;
pub(crate) mod output_rules;
mod photo_jobs;
mod photo_names;
mod photo_results;
mod progress;
mod reference;
mod report_text;
mod run;
mod run_arguments;
pub(crate) mod run_control;
pub(crate) mod run_gallery;
mod run_sources;
mod tasks;
mod update;
mod update_settings;
mod update_system;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::lab::assertion::AssertionError;
use crate::outputs::format::terminal;
use crate::platform::limits;
use faceptor::stages::SelectionError;

pub use config_example::example_configuration;

#[cfg_attr(
    not(feature = "no-expression"),
    doc = "Reads faces with one small quantized network: landmarks, parsing, age, expression, attributes, recognition."
)]
#[cfg_attr(
    feature = "no-expression",
    doc = "Reads faces with one small quantized network: landmarks, parsing, age, attributes, recognition."
)]
///
/// Results go to standard output, logs to standard error. Exit status: 0 success, 1 a failure while running (also
/// when some of several files failed), 2 wrong usage.
#[derive(Parser)]
#[command(name = "faceptor", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Also log what is skipped, and why.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Log errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the network on photos (JPEG, PNG, WebP, TIFF, BMP) or folders of photos.
    Image(image::ImageArguments),
    /// Add a person to a gallery, from photos that are good enough.
    Enroll(enroll::EnrollArguments),
    /// Say who is on photos, or that a face is of no one in the gallery.
    Identify(identify::IdentifyArguments),
    /// Show what a gallery holds, and change it.
    Gallery(gallery::GalleryVerbArguments),
    /// Run the live loop: frames of a camera or another source through the network, at a fixed latency.
    #[command(args_override_self = true)]
    Run(Box<run::RunArguments>),
    /// Check a configuration file of `run`, or print an example.
    Config(config::ConfigArguments),
    /// List the cameras of this machine with their formats, sizes and rates.
    Devices(devices::DevicesArguments),
    /// Control a running loop over its socket: tasks, budget, status, statistics, snapshot, quit.
    Ctl(ctl::CtlArguments),
    /// Measure the latency of each stage on this machine; the report can be compared and asserted.
    Bench(bench::BenchArguments),
    /// Write reference inputs with this machine's outputs and times, for `verify` on another machine.
    Reference(reference::ReferenceArguments),
    /// Compare this machine's outputs and times with a reference: errors, decision flips, latency ratios.
    Verify(verify::VerifyArguments),
    /// Check this machine: kernel, clocks, heat, priority, memory, cameras, CPU features, and whether the network works.
    Doctor(doctor::DoctorArguments),
    /// List the tasks of a network with their queries, size and measured cost.
    Tasks(tasks::TasksArguments),
    /// Compile an export folder (ONNX files and manifest.toml) to a bundle, or print what a bundle holds.
    Compile(compile::CompileArguments),
    /// Verify the signatures of bundles, sign them (minisign's format), and pack updates.
    Bundle(bundle::BundleArguments),
    /// Put a signed network in, prove it on this machine, and go back to the last good one if it fails.
    Update(Box<update::UpdateArguments>),
}

/// Wrong arguments that are only detected once the command has begun. Exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub String);

/// The result of a command that did not fail as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Some inputs failed and were reported; the others were processed. Exit status 1.
    SomeFailed,
}

/// Returns the definition of the command line. The manual pages, the completions and the configuration file of the packages
/// are made from it (`examples/manual.rs`).
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments of the process, runs the verb, and returns the exit status. `git` is the commit that the program
/// was built from, if the build knew it.
pub fn main(git: Option<&'static str>) -> ExitCode {
    let state_directory = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    // Started before the configuration is read, which may have a mistake to report. The arguments set the level later.
    logger::start(false, false);
    let given = match config_file::expand(std::env::args_os().collect(), state_directory.as_deref()) {
        Ok(arguments) => arguments,
        Err(refused) => {
            log::error!("{refused}");
            return ExitCode::from(2);
        }
    };
    let arguments = match Arguments::try_parse_from(given) {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help goes to standard output. A closed reader is no failure.
            let text = message.render().to_string();
            let text = terminal::lines(&text);
            let _ = match message.use_stderr() {
                true => std::io::stderr().write_all(text.as_bytes()),
                false => std::io::stdout().write_all(text.as_bytes()),
            };
            return ExitCode::from(message.exit_code() as u8);
        }
    };
    let git = git.filter(|commit| !commit.is_empty());
    logger::start(arguments.verbose, arguments.quiet);
    limits::ignore_file_size_signal();
    let result = match arguments.verb {
        Verb::Image(arguments) => image::run(arguments),
        Verb::Enroll(arguments) => enroll::run(arguments),
        Verb::Identify(arguments) => identify::run(arguments),
        Verb::Gallery(arguments) => gallery::run(arguments),
        Verb::Run(arguments) => run::run(*arguments),
        Verb::Config(arguments) => config::run(arguments),
        Verb::Ctl(arguments) => ctl::run(arguments),
        Verb::Bench(arguments) => bench::run(arguments, git),
        Verb::Reference(arguments) => reference::run(arguments, git),
        Verb::Verify(arguments) => verify::run(arguments, git),
        Verb::Devices(arguments) => devices::run(arguments),
        Verb::Doctor(arguments) => doctor::run(arguments),
        Verb::Tasks(arguments) => tasks::run(arguments),
        Verb::Compile(arguments) => compile::run(arguments),
        Verb::Bundle(arguments) => bundle::run(arguments),
        Verb::Update(arguments) => update::run(*arguments),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::FAILURE,
        Err(error) if error.downcast_ref::<output::Closed>().is_some() => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            let usage = error.is::<SelectionError>() || error.is::<UsageError>() || error.is::<AssertionError>();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn arguments_are_consistent() {
        super::command().debug_assert();
    }
}
