//! `faceptor doctor`: prints what the checks of `doctor` found.

use anyhow::Result;
use clap::Args;

use crate::cli::network_arguments::NetworkArguments;
use crate::cli::{Outcome, output};
use crate::doctor::{self, Check, Network, Report, State};
use crate::platform::clock::Stopwatch;

#[derive(Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: DoctorArguments) -> Result<Outcome> {
    let mut watch = Stopwatch::start();
    let bundle = arguments.network.open();
    let network = Network { bundle, open_us: watch.lap_us(), is_custom: arguments.network.model.is_some() };
    let report = doctor::examine(network);
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
    let of = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let (failures, warnings) = (of(count(State::Fail), "failure"), of(count(State::Warn), "warning"));
    text + &match report.state {
        State::Ok => "\nReady.\n".to_owned(),
        State::Warn => format!("\nReady, with {warnings}.\n"),
        State::Fail => format!("\nNot ready: {failures}, {warnings}.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_advice_and_a_verdict() {
        let report = |checks: Vec<Check>| describe(&Report::new(checks));
        let kernel = || Check::ok("kernel", "Linux 6");
        let clocks = || Check::warn("clocks", "powersave", "take another");
        assert_eq!(report(vec![kernel()]), "ok    kernel      Linux 6\n\nReady.\n");
        let text = report(vec![kernel(), clocks()]);
        assert!(text.contains("warn  clocks      powersave\n                  -> take another\n"), "{text}");
        assert!(text.ends_with("\nReady, with 1 warning.\n"), "{text}");
        assert!(report(vec![clocks(), clocks()]).ends_with("\nReady, with 2 warnings.\n"));
        let text = report(vec![clocks(), Check::fail("network", "broken", "build it again")]);
        assert!(text.ends_with("\nNot ready: 1 failure, 1 warning.\n"), "{text}");
        assert!(State::Fail > State::Warn && State::Warn > State::Ok);
    }
}
