//! Log lines on standard error: `faceptor: FILE: reason`.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::outputs::format::terminal;

struct Stderr;

static LOGGER: Stderr = Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        // Log records of the compiler's libraries are of no use to a user.
        metadata.target().starts_with("faceptor") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let kind = match record.level() {
            Level::Error | Level::Info => "",
            Level::Warn => "warning: ",
            Level::Debug | Level::Trace => "debug: ",
        };
        // One line a message, whatever names it contains. A closed standard error is no failure.
        let text = record.args().to_string().replace(['\n', '\r'], " ");
        let _ = writeln!(std::io::stderr().lock(), "faceptor: {kind}{}", terminal::one_line(&text));
    }

    fn flush(&self) {}
}

/// Sends log lines to standard error from now on.
pub fn start(verbose: bool, quiet: bool) {
    let level = match (verbose, quiet) {
        (_, true) => LevelFilter::Error,
        (true, _) => LevelFilter::Debug,
        _ => LevelFilter::Info,
    };
    log::set_max_level(level);
    // This fails when a test has set a logger before; then that one is used.
    let _ = log::set_logger(&LOGGER);
}
