//! Checks whether a machine is set up for the live loop, and what to do where it is not. `cli::doctor` prints the report.

mod cameras;
mod check;
mod display;
mod machine;
mod network;
mod scheduling;

use serde::Serialize;

use crate::capture::v4l2::discovery::VideoNodes;

pub(crate) use check::{Check, State};
pub(crate) use network::Network;

use check::Root;

/// The result of every check.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The worst state of the checks.
    pub state: State,
    pub checks: Vec<Check>,
}

impl Report {
    pub(crate) fn new(checks: Vec<Check>) -> Report {
        Report { state: checks.iter().map(|check| check.state).max().unwrap_or(State::Ok), checks }
    }
}

/// Checks this machine, and whether `network` reads the face of the demo clip. Takes about a second.
pub(crate) fn examine(network: Network) -> Report {
    let root = Root::new("/");
    let mut checks = machine::checks(&root);
    checks.extend(scheduling::checks(&root));
    checks.push(scheduling::control());
    checks.push(cameras::check(&VideoNodes::below(root.path("dev"))));
    checks.extend(display::check(&root));
    checks.extend(network::checks(network));
    Report::new(checks)
}
