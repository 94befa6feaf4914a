//! `faceptor doctor`: whether this machine is set up for the loop, and what to do where it is not.

mod cameras;
mod machine;
mod network;
mod scheduling;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::cli::network::NetworkArguments;
use crate::cli::{Outcome, output};

#[derive(Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// The loop works, but later, less evenly, or without a camera.
    Warn,
    /// The loop does not work.
    Fail,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Check {
        Check { check, state: State::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { check, state: State::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { check, state: State::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

#[derive(Serialize)]
struct Report {
    /// The worst of the checks.
    state: State,
    checks: Vec<Check>,
}

/// Where `/proc`, `/sys` and `/dev` are: `/`, or a folder in tests.
struct Root(PathBuf);

impl Root {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A small file without white space and zeros at its ends; `None` when it cannot be read.
    fn text(&self, name: &str) -> Option<String> {
        text(&self.path(name))
    }
}

fn text(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}

pub fn run(arguments: DoctorArguments) -> Result<Outcome> {
    let root = Root(PathBuf::from("/"));
    let mut checks = machine::checks(&root);
    checks.extend(scheduling::checks(&root));
    checks.push(scheduling::control());
    checks.extend(cameras::checks(&root));
    checks.extend(network::checks(&arguments.network));
    let report = Report { state: checks.iter().map(|check| check.state).max().unwrap_or(State::Ok), checks };
    match arguments.json {
        true => output::print_json(&report)?,
        false => output::print(&describe(&report))?,
    }
    Ok(if report.state == State::Fail { Outcome::SomeFailed } else { Outcome::Done })
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    for Check { check, state, found, advice } in &report.checks {
        let state = match state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        text += &format!("{state:<6}{check:<12}{found}\n");
        if let Some(advice) = advice {
            text += &format!("{:<18}-> {advice}\n", "");
        }
    }
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    text + &match (count(State::Fail), count(State::Warn)) {
        (0, 0) => "\nThis machine is ready.\n".to_owned(),
        (0, warnings) => format!("\nThe loop works here; {warnings} of it could be better.\n"),
        (failures, _) => format!("\n{failures} of it keeps the loop from working.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Folder;

    /// A tree with some files, for the checks to look into.
    pub(crate) struct Tree {
        folder: Folder,
    }

    impl Tree {
        pub fn new(files: &[(&str, &str)]) -> Tree {
            let tree = Tree { folder: Folder::new().expect("a folder") };
            files.iter().for_each(|(name, text)| tree.set(name, text));
            tree
        }

        pub fn set(&self, name: &str, text: &str) {
            let file = self.folder.path().join(name);
            fs::create_dir_all(file.parent().expect("it has one")).expect("a folder");
            fs::write(file, text).expect("written");
        }

        pub fn root(&self) -> Root {
            Root(self.folder.path().to_owned())
        }
    }

    #[test]
    fn the_text_says_what_to_do_and_what_it_comes_to() {
        let mut report = Report { state: State::Ok, checks: vec![Check::ok("kernel", "Linux 6")] };
        assert_eq!(describe(&report), "ok    kernel      Linux 6\n\nThis machine is ready.\n");
        report.checks.push(Check::warn("governor", "powersave", "take another"));
        let text = describe(&report);
        assert!(text.contains("warn  governor    powersave\n                  -> take another\n"), "{text}");
        assert!(text.ends_with("1 of it could be better.\n"), "{text}");
        report.checks.push(Check::fail("network", "broken", "build it again"));
        assert!(describe(&report).ends_with("1 of it keeps the loop from working.\n"));
        assert!(State::Fail > State::Warn && State::Warn > State::Ok);
    }
}
