//! What makes a thread wake in time: scheduling class, locked memory, affinity, timer slack.
//!
//! Each is asked for where it is permitted. What is not permitted costs a note that says what would permit it, never
//! the run: a loop without it works, with more jitter.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use crate::platform::memory_lock;

/// The priority of `--rt auto`: below 50, at which a PREEMPT_RT kernel handles interrupts, because the camera's have to be
/// handled before the loop has a frame.
const AUTO_PRIORITY: i32 = 40;
/// The nice value of threads that must never take a CPU from the loop.
const YIELDING_NICE: c_int = 10;
/// In nanoseconds; the default of 50 000 lets a sleeper wake up to 50 us late.
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

/// Which real-time priority.
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

/// A thread's part in the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadRole {
    /// Reads frames and runs the network.
    Loop,
    /// Hands results over at their time: one priority above the loop, so that it can interrupt it.
    Publisher,
}

/// What of it was obtained; part of `status`, bench reports and `doctor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RealtimeGrants {
    /// SCHED_FIFO priority of the loop; absent for the ordinary class.
    pub fifo_priority: Option<i32>,
    pub memory_locked: memory_lock::Locked,
    /// The CPU that the loop stays on.
    pub cpu: Option<usize>,
    pub timer_slack_ns: Option<u64>,
    /// What was wanted and is not permitted, each with what would permit it.
    pub missing: Vec<String>,
}

impl RealtimeArguments {
    /// What concerns the whole process: locks its memory, unless `--rt off`. Call it before threads are started and
    /// frames are allocated, then [`RealtimeArguments::thread`] in each thread of the loop.
    pub fn process(&self) -> RealtimeGrants {
        let mut obtained = RealtimeGrants::default();
        if self.rt != Priority::Off {
            memory_lock::keep_heap();
            match memory_lock::lock() {
                Ok(locked) => obtained.memory_locked = locked,
                Err(reason) => obtained.missing.push(reason),
            }
        }
        obtained
    }

    /// The SCHED_FIFO priority that the loop asks for, if it asks.
    pub fn priority(&self) -> Option<i32> {
        match self.rt {
            Priority::Off => None,
            Priority::Auto => Some(AUTO_PRIORITY),
            Priority::Fixed(priority) => Some(priority),
        }
    }

    /// What concerns the calling thread: scheduling class, affinity, timer slack, a stack without page faults to come.
    /// Threads that it starts afterwards are ordinary ones again, but on the same CPU.
    pub fn thread(&self, role: ThreadRole, obtained: &mut RealtimeGrants) {
        if let (Some(cpu), ThreadRole::Loop) = (self.cpu, role) {
            match stay_on(cpu) {
                Ok(()) => obtained.cpu = Some(cpu),
                Err(error) => obtained.missing.push(format!("CPU {cpu}: {error}; --cpu takes one that may be used")),
            }
        }
        let Some(priority) = self.priority() else { return };
        let raised = priority + c_int::from(role == ThreadRole::Publisher);
        match become_fifo(raised) {
            Ok(()) if role == ThreadRole::Loop => obtained.fifo_priority = Some(raised),
            Ok(()) => {}
            Err(error) => obtained.note(format!(
                "SCHED_FIFO {priority}: {error}; permit it by LimitRTPRIO= in the unit, `ulimit -r`, or CAP_SYS_NICE"
            )),
        }
        match set_timer_slack() {
            Ok(()) => obtained.timer_slack_ns = Some(TIMER_SLACK_NS),
            Err(error) => obtained.note(format!("timer slack: {error}")),
        }
        memory_lock::prefault_stack();
    }
}

impl RealtimeGrants {
    fn note(&mut self, reason: String) {
        // The publisher lacks what the loop lacks.
        if !self.missing.contains(&reason) {
            self.missing.push(reason);
        }
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let class = self.fifo_priority.map_or("ordinary scheduling".to_owned(), |p| format!("SCHED_FIFO {p}"));
        let cpu = self.cpu.map_or("any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        let slack = self.timer_slack_ns.map_or("default timer slack".to_owned(), |ns| format!("timer slack {ns} ns"));
        format!("{class}, {}, {cpu}, {slack}", self.memory_locked.describe())
    }
}

/// Makes the calling thread one that gives way to the loop: an ordinary one, and a nice one among those.
pub fn yield_to_others() {
    // SAFETY: no pointers. On Linux the calling thread alone is meant; refused, the thread stays as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, YIELDING_NICE) };
}

/// SCHED_FIFO for the calling thread, and ordinary scheduling again for the threads that it starts.
pub fn become_fifo(priority: i32) -> io::Result<()> {
    // SAFETY: all zeros is a valid sched_param: integers, with more fields in some C libraries.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = priority;
    // The system call itself, because musl's function only says that it is not there.
    // SAFETY: the kernel reads one sched_param behind the pointer, whose first field is the priority.
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

/// Keeps the calling thread on one CPU.
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
    // SAFETY: the kernel reads a set of the size that it is told.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }.into())
}

fn set_timer_slack() -> io::Result<()> {
    // SAFETY: no pointers; concerns the calling thread alone.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0) }.into())
}

pub(crate) fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn priorities_are_read() {
        assert_eq!("off".parse(), Ok(Priority::Off));
        assert_eq!("auto".parse(), Ok(Priority::Auto));
        assert_eq!("98".parse(), Ok(Priority::Fixed(98)));
        for wrong in ["0", "99", "-1", "high", ""] {
            assert!(wrong.parse::<Priority>().is_err(), "{wrong}");
        }
    }

    /// Policy, priority and timer slack of the calling thread, as the kernel has them.
    fn as_seen_by_the_kernel() -> (c_int, i32, String) {
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
    fn what_is_said_to_be_obtained_is_so_and_the_rest_has_a_note() {
        let arguments = RealtimeArguments { rt: Priority::Fixed(7), cpu: Some(0) };
        let work = move || {
            let mut obtained = RealtimeGrants::default();
            arguments.thread(ThreadRole::Loop, &mut obtained);
            let child = thread::spawn(as_seen_by_the_kernel).join().expect("no panic");
            (obtained, as_seen_by_the_kernel(), child)
        };
        let (obtained, (policy, priority, slack), child) = thread::spawn(work).join().expect("no panic");
        match obtained.fifo_priority {
            Some(_) => assert_eq!((policy, priority, child.0), (libc::SCHED_FIFO, 7, libc::SCHED_OTHER)),
            None => {
                assert_eq!((policy, priority), (libc::SCHED_OTHER, 0));
                assert!(obtained.missing.iter().any(|note| note.contains("LimitRTPRIO")), "{obtained:?}");
            }
        }
        assert_eq!(obtained.timer_slack_ns, Some(1));
        assert!(slack == "1" || slack == "0" || slack.is_empty(), "a real-time thread has none: {slack}");
        assert!(obtained.cpu == Some(0) || !obtained.missing.is_empty());
    }

    #[test]
    fn a_cpu_that_is_not_there_is_noted() {
        for cpu in [100_000, 1000] {
            let mut obtained = RealtimeGrants::default();
            RealtimeArguments { rt: Priority::Off, cpu: Some(cpu) }.thread(ThreadRole::Loop, &mut obtained);
            assert!(obtained.missing[0].starts_with(&format!("CPU {cpu}: ")), "{obtained:?}");
            assert_eq!((obtained.cpu, obtained.timer_slack_ns), (None, None));
        }
    }

    #[test]
    fn the_publisher_repeats_no_note() {
        let mut obtained = RealtimeGrants::default();
        obtained.note("a".to_owned());
        obtained.note("a".to_owned());
        assert_eq!(obtained.missing, ["a"]);
        assert_eq!(obtained.summary(), "ordinary scheduling, memory not locked, any CPU, default timer slack");
    }
}
