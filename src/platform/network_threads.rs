//! The threads that run the network: their number, their CPUs and their priority.

use std::mem;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;

use crate::platform::memory_lock;
use crate::platform::scheduling::{self, RealtimeArguments};
use faceptor_nn::thread_pool::MAX_THREADS;
use faceptor_nn::thread_pool::Threads;

/// The argument that sets the number of threads that run the network.
#[derive(Args, Clone, Debug)]
pub struct ThreadArguments {
    /// Threads that run the network. More than one share the large steps: each keeps a CPU to itself while frames come.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_THREADS as i64))]
    pub threads: u8,
}

impl ThreadArguments {
    /// Returns the threads of a command without a deadline: each helper stays on a CPU.
    ///
    /// # Errors
    /// Fewer CPUs than threads.
    pub fn threads(&self) -> Result<Threads> {
        self.with(None)
    }

    /// Returns the threads of the live loop: the helpers also get the loop's priority, where that is permitted.
    ///
    /// # Errors
    /// Fewer CPUs than threads.
    pub fn live(&self, realtime: &RealtimeArguments) -> Result<Threads> {
        self.with(Some(realtime.clone()))
    }

    fn with(&self, realtime: Option<RealtimeArguments>) -> Result<Threads> {
        let count = usize::from(self.threads);
        if count == 1 {
            return Ok(Threads::default());
        }
        let mut cpus = allowed_cpus();
        ensure!(
            cpus.len() >= count,
            "--threads {count}: this process may use {} CPUs, and threads that share one are slower than one alone",
            cpus.len()
        );
        // The last CPUs: interrupts, other programs and the loop mostly run on the first one.
        if let Some(own) = realtime.as_ref().and_then(|realtime| realtime.cpu) {
            cpus.retain(|cpu| *cpu != own);
        }
        let prepare = move |number: usize| {
            if let Some(cpu) = cpus.len().checked_sub(number).and_then(|place| cpus.get(place))
                && let Err(error) = scheduling::stay_on(*cpu)
            {
                log::warn!("thread {number} of the network stays on no CPU: {error}");
            }
            if let Some(realtime) = &realtime {
                // A refusal concerns the loop too, which reports it.
                let _ = realtime.priority().map(scheduling::become_fifo);
                memory_lock::prefault_stack();
            }
        };
        Ok(Threads { count, prepare: Arc::new(prepare) })
    }
}

/// Returns the CPUs that the calling thread may run on, in rising order.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: all zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes a set of the given size.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: `cpu` is below the number of the set's bits.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    #[test]
    fn two_threads_on_one_cpu_are_refused() {
        let alone = || {
            scheduling::stay_on(allowed_cpus()[0]).expect("a CPU that may be used");
            ThreadArguments { threads: 2 }.threads().map(|threads| threads.count)
        };
        let refused = thread::spawn(alone).join().expect("no panic").expect_err("one CPU");
        assert!(refused.to_string().contains("--threads 2"), "{refused}");
    }

    #[test]
    fn each_helper_stays_on_its_own_cpu() {
        let cpus = allowed_cpus();
        assert!(!cpus.is_empty());
        if cpus.len() < 2 {
            return faceptor_test_support::skip("two CPUs are needed");
        }
        let threads = ThreadArguments { threads: 2 }.threads().expect("enough CPUs");
        assert_eq!(threads.count, 2);
        let seen = Mutex::new(Vec::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                (threads.prepare)(1);
                *seen.lock().expect("no panic") = allowed_cpus();
            });
        });
        assert_eq!(seen.into_inner().expect("no panic"), [cpus[cpus.len() - 1]]);
        assert_eq!(allowed_cpus(), cpus, "the caller may run on the same CPUs as before");
    }

    #[test]
    fn refuses_more_threads_than_cpus() {
        if allowed_cpus().len() < MAX_THREADS {
            let refused = ThreadArguments { threads: MAX_THREADS as u8 }.threads();
            assert!(refused.is_err_and(|error| error.to_string().contains("this process may use")));
        }
        assert_eq!(ThreadArguments { threads: 1 }.threads().expect("always").count, 1);
    }
}
