//! Checks real-time priority, locked memory, timers, wake-up latency and the control socket.

use std::thread;
use std::time::Duration;

use crate::control::{socket, socket_paths};
use crate::doctor::check::{Check, Root};
use crate::lab::timer_latency::{self, Lateness};
use crate::platform::clock;
use crate::platform::memory_lock::Locked;
use crate::platform::scheduling::{Priority, RealtimeArguments, RealtimeGrants, ThreadRole};

/// Number of sleeps that are measured, 1 ms each.
const SLEEPS: u32 = 500;
/// Acceptable wake-up latency of the publisher at the 99th percentile.
const LATE_US: u64 = 1000;
/// Coarsest resolution of a kernel with high resolution timers.
const COARSE_NS: u64 = 1000;

/// Requests what `run` requests, and measures the wake-up latency with what was granted.
pub(crate) fn checks(root: &Root) -> Vec<Check> {
    let arguments = RealtimeArguments { rt: Priority::Auto, cpu: None };
    let mut obtained = arguments.process();
    let work = move || {
        arguments.thread(ThreadRole::Loop, &mut obtained);
        (obtained, timer_latency::measure(SLEEPS, Duration::from_millis(1)))
    };
    // The thread alone gets real-time priority, not the other checks.
    match thread::spawn(work).join() {
        Ok((obtained, late)) => {
            vec![priority(root, &obtained), locked(&obtained), timer(root), wake_up(&obtained, &late)]
        }
        Err(_) => vec![Check::fail("wake-up", "the measurement panicked", "report this with the lines above")],
    }
}

fn missing<'a>(obtained: &'a RealtimeGrants, what: &str) -> Option<&'a str> {
    obtained.missing.iter().find(|note| note.starts_with(what)).map(String::as_str)
}

fn priority(root: &Root, obtained: &RealtimeGrants) -> Check {
    if let Some(priority) = obtained.fifo_priority {
        return Check::ok("priority", format!("SCHED_FIFO {priority} is permitted"));
    }
    let note = missing(obtained, "SCHED_FIFO").unwrap_or("SCHED_FIFO is not permitted");
    let (found, advice) = note.split_once("; ").unwrap_or((note, "permit it by LimitRTPRIO= in the unit"));
    // Kernels with group scheduling (JetPack) refuse real-time priority even to root.
    let groups = ["cpu", "cpu,cpuacct"].map(|name| root.path(&format!("sys/fs/cgroup/{name}/cpu.rt_runtime_us")));
    let advice = match groups.iter().any(|file| file.exists()) {
        true => format!(
            "{advice}; if that is not enough, this kernel limits real-time scheduling by groups: `sudo sysctl -w kernel.sched_rt_runtime_us=-1`"
        ),
        false => advice.to_owned(),
    };
    Check::warn("priority", found, advice)
}

fn locked(obtained: &RealtimeGrants) -> Check {
    match obtained.memory_locked {
        Locked::PresentAndFuture => Check::ok("locking", "all memory can be locked"),
        Locked::Present => Check::warn(
            "locking",
            "memory present at the start can be locked, later memory only up to the limit",
            "LimitMEMLOCK=infinity in the unit or `ulimit -l unlimited` permits locking all memory",
        ),
        Locked::Nothing => {
            let note = missing(obtained, "locked memory").unwrap_or("locked memory: not permitted");
            let (found, advice) = note.split_once("; ").unwrap_or((note, "LimitMEMLOCK=infinity in the unit"));
            Check::warn("locking", found.trim_start_matches("locked memory: "), advice)
        }
    }
}

fn timer(root: &Root) -> Check {
    let ns = clock::resolution_ns();
    let source = root.text("sys/devices/system/clocksource/clocksource0/current_clocksource");
    let found = format!("resolution {ns} ns, clock source {}", source.as_deref().unwrap_or("unknown"));
    match ns {
        ..=COARSE_NS => Check::ok("timer", found),
        _ => Check::warn(
            "timer",
            found,
            "the kernel has no high resolution timers (CONFIG_HIGH_RES_TIMERS, or highres=off)",
        ),
    }
}

fn wake_up(obtained: &RealtimeGrants, late: &Lateness) -> Check {
    let class = obtained.fifo_priority.map_or("ordinary scheduling".to_owned(), |p| format!("SCHED_FIFO {p}"));
    let found = format!(
        "latency {} us p50, {} us p99, {} us at most, in {} sleeps with {class}",
        late.p50_us, late.p99_us, late.max_us, late.sleeps
    );
    match late.p99_us {
        ..=LATE_US => Check::ok("wake-up", found),
        _ => Check::warn(
            "wake-up",
            found,
            "results are published with this delay: end other programs, permit SCHED_FIFO, or use a real-time kernel",
        ),
    }
}

/// Checks whether the default control socket can be created.
pub(crate) fn control() -> Check {
    let made = socket_paths::path_to_listen_at().and_then(|path| socket::bind(&path).map(|_| path));
    match made {
        Ok(path) => Check::ok("control", format!("the default socket {} can be created", path.display())),
        Err(socket::SocketError::InUse(path)) => {
            Check::ok("control", format!("a running loop listens at {}", path.display()))
        }
        Err(reason) => Check::warn("control", reason.to_string(), "give `run` and `ctl` a path with --control"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::State;
    use crate::doctor::check::samples::Tree;

    #[test]
    fn refused_priority_and_locking_have_advice() {
        let tree = Tree::new(&[]);
        let note = "SCHED_FIFO 40: Operation not permitted (os error 1); permit it by LimitRTPRIO= in the unit";
        let refused = RealtimeGrants { missing: vec![note.to_owned()], ..RealtimeGrants::default() };
        let check = priority(&tree.root(), &refused);
        assert_eq!(
            (check.state, check.found.as_str()),
            (State::Warn, "SCHED_FIFO 40: Operation not permitted (os error 1)")
        );
        assert!(check.advice.is_some_and(|advice| advice == "permit it by LimitRTPRIO= in the unit"));
        tree.set("sys/fs/cgroup/cpu/cpu.rt_runtime_us", "0");
        assert!(priority(&tree.root(), &refused).advice.is_some_and(|advice| advice.contains("sched_rt_runtime_us")));
        assert_eq!(locked(&refused).state, State::Warn);
        let granted = RealtimeGrants {
            fifo_priority: Some(40),
            memory_locked: Locked::PresentAndFuture,
            ..RealtimeGrants::default()
        };
        assert_eq!((priority(&tree.root(), &granted).state, locked(&granted).state), (State::Ok, State::Ok));
    }

    #[test]
    fn long_wake_up_latency_is_a_warning() {
        let late = |p99_us| Lateness { sleeps: 500, p50_us: 60, p99_us, max_us: 5000 };
        assert_eq!(wake_up(&RealtimeGrants::default(), &late(200)).state, State::Ok);
        let check = wake_up(&RealtimeGrants::default(), &late(1500));
        assert_eq!(check.state, State::Warn);
        assert!(check.found.contains("1500 us p99") && check.found.contains("ordinary scheduling"), "{check:?}");
    }
}
