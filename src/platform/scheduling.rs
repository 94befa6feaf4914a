//! Real-time settings of threads: scheduling class, locked memory, affinity, timer slack.
//!
//! The runtime requests each of them. A setting that is not permitted costs a note that names what would permit it, and
//! never the run: a loop without it works with more jitter.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use crate::platform::memory_lock;

/// The priority of `--rt auto`: below 50, at which a PREEMPT_RT kernel handles interrupts, because the camera's interrupt
/// has to be handled before the loop has a frame.
const AUTO_PRIORITY: i32 = 40;
/// The nice value of threads that must not take a CPU from the loop.
const YIELDING_NICE: c_int = 10;
/// Timer slack in nanoseconds; the default of 50 000 lets a thread wake up to 50 us late.
const TIMER_SLACK_NS: libc::c_ulong = 1;

/// Real-time settings of a command.
#[derive(Args, Clone, Debug)]
pub struct RealtimeArguments {
    /// Real-time scheduling: `off`, `auto` (where it is permitted), or a SCHED_FIFO priority from 1 to 98.
    #[arg(long, value_name = "off|auto|PRIO", default_value = "auto")]
    pub rt: Priority,
    /// The CPU that the loop stays on, counted from 0 [default: any].
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
}

/// The requested real-time priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Off,
    Auto,
    Fixed(i32),
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Priority, String> {
        match text {
            "off" => Ok(Priority::Off),
            "auto" => Ok(Priority::Auto),
            // The publisher runs one above, and 99 belongs to the kernel's watchdogs.
            _ => match text.parse() {
                Ok(priority @ 1..=98) => Ok(Priority::Fixed(priority)),
                _ => Err("neither `off` nor `auto` nor a priority from 1 to 98".to_owned()),
            },
        }
    }
}

/// The role of a thread in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadRole {
    /// Reads frames and runs the network.
    Loop,
    /// Waits for the frames of one of several sources: the priority of the loop, on any CPU.
    Reader,
    /// Publishes results at their time: one priority above the loop, so that it can interrupt the loop.
    Publisher,
}

/// The real-time settings that were granted; part of `status` and `doctor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RealtimeGrants {
    /// SCHED_FIFO priority of the loop; absent for the ordinary class.
    pub fifo_priority: Option<i32>,
    /// The memory that is locked.
    pub memory_locked: memory_lock::Locked,
    /// The CPU that the loop stays on.
    pub cpu: Option<usize>,
    pub timer_slack_ns: Option<u64>,
    /// Notes on what is not permitted, each with what would permit it.
    pub missing: Vec<String>,
}

impl RealtimeArguments {
    /// Applies the settings of the process: locks its memory, unless `--rt off`. Called before threads are started and
    /// frames are allocated; [`RealtimeArguments::thread`] follows in each thread of the loop.
    pub fn process(&self) -> RealtimeGrants {
        let mut grants = RealtimeGrants::default();
        if self.rt != Priority::Off {
            memory_lock::keep_heap();
            match memory_lock::lock() {
                Ok(locked) => grants.memory_locked = locked,
                Err(reason) => grants.missing.push(reason),
            }
        }
        grants
    }

    /// Returns the SCHED_FIFO priority that the loop requests; `None` for the ordinary class.
    pub fn priority(&self) -> Option<i32> {
        match self.rt {
            Priority::Off => None,
            Priority::Auto => Some(AUTO_PRIORITY),
            Priority::Fixed(priority) => Some(priority),
        }
    }

    /// Applies the settings of the calling thread: scheduling class, affinity, timer slack, a touched stack. Threads that
    /// it starts afterwards have the ordinary class again, on the same CPU.
    pub fn thread(&self, role: ThreadRole, grants: &mut RealtimeGrants) {
        if let (Some(cpu), ThreadRole::Loop) = (self.cpu, role) {
            match stay_on(cpu) {
                Ok(()) => grants.cpu = Some(cpu),
                Err(error) => grants.missing.push(format!("CPU {cpu}: {error}; --cpu takes one that may be used")),
            }
        }
        let Some(priority) = self.priority() else { return };
        let raised = priority + c_int::from(role == ThreadRole::Publisher);
        match become_fifo(raised) {
            Ok(()) if role == ThreadRole::Loop => grants.fifo_priority = Some(raised),
            Ok(()) => {}
            Err(error) => grants.note(format!(
                "SCHED_FIFO {priority}: {error}; permit it by LimitRTPRIO= in the unit, `ulimit -r`, or CAP_SYS_NICE"
            )),
        }
        match set_timer_slack() {
            Ok(()) => grants.timer_slack_ns = Some(TIMER_SLACK_NS),
            Err(error) => grants.note(format!("timer slack: {error}")),
        }
        memory_lock::prefault_stack();
    }
}

impl RealtimeGrants {
    fn note(&mut self, reason: String) {
        // The publisher lacks the same as the loop; one note is enough.
        if !self.missing.contains(&reason) {
            self.missing.push(reason);
        }
    }

    /// Returns one line for people.
    pub fn summary(&self) -> String {
        let class = self.fifo_priority.map_or("ordinary scheduling".to_owned(), |p| format!("SCHED_FIFO {p}"));
        let cpu = self.cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        let slack = self.timer_slack_ns.map_or("default timer slack".to_owned(), |ns| format!("timer slack {ns} ns"));
        format!("{class}, {}, {cpu}, {slack}", self.memory_locked.describe())
    }
}

/// Lowers the priority of the calling thread below the loop's, by its nice value.
pub fn yield_to_others() {
    // SAFETY: no pointers. On Linux the call concerns only the calling thread; if it is refused, nothing changes.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, YIELDING_NICE) };
}

/// Gives the calling thread the class SCHED_FIFO; threads that it starts have the ordinary class again.
///
/// # Errors
/// The kernel's, when the process lacks the permission.
pub fn become_fifo(priority: i32) -> io::Result<()> {
    // SAFETY: all zeros is a valid sched_param: integers, with more fields in some C libraries.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = priority;
    // The system call itself, because musl's function only returns ENOSYS.
    // SAFETY: the kernel reads one sched_param at the pointer, whose first field is the priority.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameters,
        )
    };
    check(result)
}

/// Keeps the calling thread on one CPU, counted from 0.
///
/// # Errors
/// The kernel's, or a number beyond the CPUs that a set can hold.
pub(crate) fn stay_on(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeros is an empty set, and `cpu` is below the number of its bits.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the kernel reads a set of the given size.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }.into())
}

fn set_timer_slack() -> io::Result<()> {
    // SAFETY: no pointers; the call concerns only the calling thread.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0) }.into())
}

/// Turns the result of a system call into the error that it left.
pub(crate) fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn reads_priorities() {
        assert_eq!("off".parse(), Ok(Priority::Off));
        assert_eq!("auto".parse(), Ok(Priority::Auto));
        assert_eq!("98".parse(), Ok(Priority::Fixed(98)));
        for wrong in ["0", "99", "-1", "high", ""] {
            assert!(wrong.parse::<Priority>().is_err(), "{wrong}");
        }
    }

    /// Reads policy, priority and timer slack of the calling thread from the kernel.
    fn as_seen_by_the_kernel() -> (c_int, i32, String) {
        // SAFETY: all zeros is a valid sched_param.
        let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
        // SAFETY: both calls concern the calling thread; the second writes one sched_param.
        let policy = unsafe {
            assert_eq!(libc::sched_getparam(0, &mut parameters), 0);
            libc::sched_getscheduler(0)
        };
        let slack = fs::read_to_string("/proc/thread-self/timerslack_ns").unwrap_or_default();
        (policy & !libc::SCHED_RESET_ON_FORK, parameters.sched_priority, slack.trim().to_owned())
    }

    #[test]
    fn grants_match_the_kernel_and_refusals_have_a_note() {
        let arguments = RealtimeArguments { rt: Priority::Fixed(7), cpu: Some(0) };
        let work = move || {
            let mut grants = RealtimeGrants::default();
            arguments.thread(ThreadRole::Loop, &mut grants);
            let child = thread::spawn(as_seen_by_the_kernel).join().expect("no panic");
            (grants, as_seen_by_the_kernel(), child)
        };
        let (grants, (policy, priority, slack), child) = thread::spawn(work).join().expect("no panic");
        match grants.fifo_priority {
            Some(_) => assert_eq!((policy, priority, child.0), (libc::SCHED_FIFO, 7, libc::SCHED_OTHER)),
            None => {
                assert_eq!((policy, priority), (libc::SCHED_OTHER, 0));
                assert!(grants.missing.iter().any(|note| note.contains("LimitRTPRIO")), "{grants:?}");
            }
        }
        assert_eq!(grants.timer_slack_ns, Some(1));
        assert!(slack == "1" || slack == "0" || slack.is_empty(), "a real-time thread has none: {slack}");
        assert!(grants.cpu == Some(0) || !grants.missing.is_empty());
    }

    #[test]
    fn notes_a_cpu_that_does_not_exist() {
        for cpu in [100_000, 1000] {
            let mut grants = RealtimeGrants::default();
            RealtimeArguments { rt: Priority::Off, cpu: Some(cpu) }.thread(ThreadRole::Loop, &mut grants);
            assert!(grants.missing[0].starts_with(&format!("CPU {cpu}: ")), "{grants:?}");
            assert_eq!((grants.cpu, grants.timer_slack_ns), (None, None));
        }
    }

    #[test]
    fn a_note_is_not_repeated() {
        let mut grants = RealtimeGrants::default();
        grants.note("a".to_owned());
        grants.note("a".to_owned());
        assert_eq!(grants.missing, ["a"]);
        assert_eq!(grants.summary(), "ordinary scheduling, memory not locked, any CPU, default timer slack");
    }
}
