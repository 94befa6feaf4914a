//! The service that runs the network: restarted by a command, and watched over its control socket.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::control::client;
use crate::update::install::Service;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for one answer of the loop.
const ANSWER: Duration = Duration::from_secs(5);

/// A service, and how long it may take to start and to publish its frames.
#[derive(Debug)]
pub(crate) struct SystemService {
    /// A command of the shell.
    pub restart: String,
    /// The sockets of its loops.
    pub sockets: Vec<PathBuf>,
    pub patience: Duration,
    /// Set by a signal: the update is given up.
    pub interrupted: Arc<AtomicBool>,
}

/// What a loop says of itself.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It runs the network that is waited for, and has published so many frames since its start.
    Frames(u64),
    /// Anything else, in words.
    Other(String),
}

impl Service for SystemService {
    fn restart(&mut self) -> Result<()> {
        let command = &self.restart;
        let mut shell = Command::new("/bin/sh");
        // Standard output holds the result of the update. In a group of its own, Ctrl+C does not reach it.
        shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let mut child = shell.spawn().with_context(|| format!("the command cannot be started: {command}"))?;
        let ended = wait(&mut child, Instant::now() + self.patience);
        let status = ended.with_context(|| format!("the command cannot be waited for: {command}"))?;
        match status {
            Some(status) => ensure!(status.success(), "the service was not restarted ({status}): {command}"),
            None => bail!("the service was not restarted within {} s: {command}", self.patience.as_secs()),
        }
        Ok(())
    }

    fn wait_for(&mut self, sha256: &str, frames: u64) -> Result<u64> {
        let until = Instant::now() + self.patience;
        let mut best = vec![0; self.sockets.len()];
        loop {
            let seen: Vec<Seen> = self.sockets.iter().map(|socket| look(socket, sha256)).collect();
            let mut missing = None;
            for ((seen, best), socket) in seen.into_iter().zip(&mut best).zip(&self.sockets) {
                let missed = match seen {
                    Seen::Frames(now) if now < *best => {
                        bail!("the loop at {} ended after {best} frames", socket.display())
                    }
                    Seen::Frames(now) => {
                        *best = now;
                        (now < frames)
                            .then(|| format!("the loop at {} published {now} of {frames} frames", socket.display()))
                    }
                    Seen::Other(what) if *best > 0 => bail!("the loop ended after {best} frames: {what}"),
                    Seen::Other(what) => Some(what),
                };
                missing = missing.or(missed);
            }
            let Some(missing) = missing else { return Ok(best.into_iter().min().unwrap_or(0)) };
            ensure!(Instant::now() < until, "{missing}, within {} s", self.patience.as_secs());
            // Taken, so that the way back is not given up too.
            ensure!(!self.interrupted.swap(false, Ordering::Relaxed), "interrupted");
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Waits until the command has ended, and ends it at that time: then `None`. What it has started in the background goes on.
fn wait(child: &mut Child, until: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            if let Some(group) = Pid::from_raw(child.id() as i32) {
                // It is still there: it was not waited for.
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn look(socket: &Path, sha256: &str) -> Seen {
    match client::ask(socket, &json!({ "verb": "status" }), ANSWER) {
        Ok(mut response) => seen(&response["result"].take(), sha256),
        Err(error) => Seen::Other(format!("{error:#}")),
    }
}

fn seen(status: &Value, sha256: &str) -> Seen {
    let network = status["network"].as_str().unwrap_or("?");
    if status["sha256"] != sha256 {
        let there = status["sha256"].as_str().unwrap_or("?");
        return Seen::Other(format!(
            "the service runs another network: {network} with sha256 {there:.16}, instead of {sha256:.16}; its configuration must \
             have `bundles` and no `model`"
        ));
    }
    let of = |status: &Value| status["frames"].as_u64().unwrap_or(0);
    // One camera that is unplugged does not make a network bad.
    Seen::Frames(status["sources"].as_object().map_or_else(|| of(status), |sources| sources.values().map(of).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_for_the_right_network_only() {
        assert_eq!(seen(&json!({"sha256": "aa", "frames": 7}), "aa"), Seen::Frames(7));
        let several = json!({"sha256": "aa", "sources": {"a": {"frames": 3}, "b": {"frames": 0}, "c": {"frames": 4}}});
        assert_eq!(seen(&several, "aa"), Seen::Frames(7));
        assert_eq!(seen(&json!({"sha256": "aa"}), "aa"), Seen::Frames(0));
        for other in [json!({"sha256": "bb", "frames": 7}), json!({}), json!(null), json!([1])] {
            let Seen::Other(what) = seen(&other, "aa") else { panic!("{other}") };
            assert!(what.contains("runs another network"), "{what}");
        }
    }

    fn service(restart: &str, patience_ms: u64) -> SystemService {
        SystemService {
            restart: restart.to_owned(),
            sockets: vec!["/nonexistent/s".into()],
            patience: Duration::from_millis(patience_ms),
            interrupted: Arc::default(),
        }
    }

    #[test]
    fn a_command_that_fails_or_never_ends_is_an_error() {
        assert!(service("exit 0", 60_000).restart().is_ok());
        let failed = service("exit 3", 60_000).restart().expect_err("fails").to_string();
        assert!(failed.contains("exit status: 3") && failed.ends_with("exit 3"), "{failed}");
        let absent = service("no-such-program 2>/dev/null", 60_000).restart().expect_err("fails").to_string();
        assert!(absent.contains("exit status: 127"), "{absent}");
        let endless = service("sleep 600", 1).restart().expect_err("it never ends").to_string();
        assert!(endless.contains("within 0 s"), "{endless}");
    }

    #[test]
    fn a_service_that_never_answers_is_an_error_and_so_is_a_signal() {
        let silent = service("", 1).wait_for("aa", 1).expect_err("nothing listens").to_string();
        assert!(silent.contains("nothing listens at /nonexistent/s"), "{silent}");
        let mut interrupted = service("", 600_000);
        interrupted.interrupted.store(true, Ordering::Relaxed);
        assert_eq!(interrupted.wait_for("aa", 1).expect_err("given up").to_string(), "interrupted");
    }
}
