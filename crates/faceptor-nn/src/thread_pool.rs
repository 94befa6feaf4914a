//! Threads that help with one step at a time.
//!
//! They are started once. A step is handed out through two counters: helpers watch one rise, the caller watches the other
//! fall to zero. Nothing is allocated and no lock is taken. Between the steps of a face helpers wait busily; when nothing
//! comes for a while they sleep, and the first step after that wakes them.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The most threads of an engine.
pub const MAX_THREADS: usize = 8;

/// A helper without work for so long goes to sleep; the steps of a face that nobody helps with are shorter.
const PATIENCE: Duration = Duration::from_micros(300);
/// Looks at a counter between two looks at the clock.
const LOOKS: u32 = 64;
/// The caller gives its CPU away when a helper needs longer than this, and then sleeps between looks: the helper may be
/// waiting for this very CPU.
const OVERDUE: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(2)];

/// How many threads an engine has, and what each helper does first, such as choosing its CPU; it is given its number,
/// from 1 on.
#[derive(Clone)]
pub struct Threads {
    /// The caller's included.
    pub count: usize,
    pub prepare: Arc<dyn Fn(usize) + Send + Sync>,
}

impl Default for Threads {
    /// The caller's alone.
    fn default() -> Threads {
        Threads { count: 1, prepare: Arc::new(|_| {}) }
    }
}

/// The helpers of one engine.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// One step's work, called with the number of the thread. It lives on the caller's stack.
type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Rises with each job.
    ticket: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// Helpers that are not done with it.
    open: AtomicUsize,
    asleep: [AtomicBool; MAX_THREADS],
    failed: AtomicBool,
    over: AtomicBool,
}

// SAFETY: `job` is written by the one caller while no helper works (`open` is zero), and read by helpers between the rise
// of `ticket` and the fall of `open`; both orders are those of release and acquire. What it points to is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

impl Pool {
    /// Starts the helpers; none for one thread.
    ///
    /// # Errors
    /// When more than [`MAX_THREADS`] are asked for, or the system gives none.
    pub fn start(threads: &Threads) -> Result<Option<Pool>> {
        let count = threads.count;
        ensure!((1..=MAX_THREADS).contains(&count), "{count} threads: from 1 to {MAX_THREADS} are possible");
        if count == 1 {
            return Ok(None);
        }
        let shared = Arc::new(Shared {
            ticket: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            open: AtomicUsize::new(0),
            asleep: [const { AtomicBool::new(false) }; MAX_THREADS],
            failed: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, helpers: Vec::with_capacity(count - 1) };
        for number in 1..count {
            let (shared, prepare) = (pool.shared.clone(), threads.prepare.clone());
            let helper = move || {
                prepare(number);
                shared.help(number);
            };
            let started = thread::Builder::new().name(format!("engine {number}")).spawn(helper);
            pool.helpers.push(started.context("the system starts no more threads")?);
        }
        Ok(Some(pool))
    }

    /// The caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Does `work` on every item, each on a thread of its own, and comes back when all is done. There are at most as many
    /// items as threads.
    pub fn each<T: Send>(&mut self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        assert!(items.len() <= self.threads(), "more items than threads");
        let (first, len) = (Items(items.as_mut_ptr()), items.len());
        let job = |number: usize| {
            if number < len {
                // SAFETY: within `items`, which is borrowed until all are done; each number is called by one thread, once.
                work(unsafe { &mut *first.at(number) });
            }
        };
        let job: &(dyn Fn(usize) + Sync) = &job;
        // SAFETY: only the lifetime is changed. Helpers are done with it when `open` is zero, which `AllDone` waits for before
        // this call ends, by a panic too.
        let job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &(dyn Fn(usize) + Sync)>(job) };
        // SAFETY: no helper works now: the last call has waited for all of them.
        unsafe { *self.shared.job.get() = Some(job) };
        self.shared.open.store(self.helpers.len(), Ordering::Relaxed);
        self.shared.ticket.fetch_add(1, Ordering::SeqCst);
        for (helper, asleep) in self.helpers.iter().zip(&self.shared.asleep[1..]) {
            if asleep.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        let all_done = AllDone(&self.shared);
        // SAFETY: it was made above and is alive.
        unsafe { (*job)(0) };
        drop(all_done);
        assert!(!self.shared.failed.load(Ordering::Relaxed), "a helper of the engine has panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // Its panic has been told of by `each`.
            let _ = helper.join();
        }
    }
}

/// A pointer that threads may share, because each takes another item.
struct Items<T>(*mut T);

// SAFETY: items are `Send`, and no two threads take the same one.
unsafe impl<T: Send> Sync for Items<T> {}

impl<T> Items<T> {
    fn at(&self, number: usize) -> *mut T {
        self.0.wrapping_add(number)
    }
}

/// Waits for the helpers when it is dropped.
struct AllDone<'a>(&'a Shared);

impl Drop for AllDone<'_> {
    fn drop(&mut self) {
        let mut since = None;
        let mut looks = 0;
        while self.0.open.load(Ordering::Acquire) > 0 {
            spin_loop();
            looks += 1;
            if looks % LOOKS == 0 {
                match since.get_or_insert_with(Instant::now).elapsed() {
                    waited if waited > OVERDUE[1] => thread::sleep(OVERDUE[0]),
                    waited if waited > OVERDUE[0] => thread::yield_now(),
                    _ => {}
                }
            }
        }
    }
}

impl Shared {
    /// A helper's life.
    fn help(&self, number: usize) {
        let mut seen = 0;
        while self.wait(number, seen) {
            seen = self.ticket.load(Ordering::Acquire);
            // SAFETY: the ticket has risen, so the job is written and stays until this helper says that it is done.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job {
                // SAFETY: the same.
                let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(number) }));
                if done.is_err() {
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
            self.open.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for another ticket than `seen`; `false` at the end.
    fn wait(&self, number: usize, seen: usize) -> bool {
        let mut since = None;
        let mut looks = 0;
        let over = || self.over.load(Ordering::SeqCst);
        while self.ticket.load(Ordering::Acquire) == seen {
            if over() {
                return false;
            }
            spin_loop();
            looks += 1;
            if looks % LOOKS == 0 && since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                // Said before the last look, so that a caller who raises the ticket after it sees that a call is needed.
                self.asleep[number].store(true, Ordering::SeqCst);
                while self.ticket.load(Ordering::SeqCst) == seen && !over() {
                    thread::park();
                }
                self.asleep[number].store(false, Ordering::SeqCst);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize) -> Pool {
        Pool::start(&Threads { count, ..Threads::default() }).expect("threads").expect("helpers")
    }

    #[test]
    fn every_item_is_worked_on_once_however_many_times() {
        // Few turns with many threads: on a busy machine each turn may have to wait for every one of them.
        for (count, turns) in [(2, 400), (3, 100), (MAX_THREADS, 20)] {
            let mut pool = pool(count);
            let mut items = vec![0u64; count];
            for turn in 0..turns {
                let some = 1 + turn % count;
                pool.each(&mut items[..some], |item| *item += 1);
                if turn % 50 == 0 {
                    // Long enough for the helpers to fall asleep.
                    thread::sleep(Duration::from_millis(2));
                }
            }
            let expected = |place: usize| (0..turns).filter(|turn| 1 + turn % count > place).count() as u64;
            assert!(items.iter().enumerate().all(|(place, item)| *item == expected(place)), "{count}: {items:?}");
        }
    }

    #[test]
    fn helpers_are_prepared_and_numbered() {
        let seen: Arc<[AtomicUsize; 4]> = Arc::default();
        let counted = seen.clone();
        let threads = Threads {
            count: 4,
            prepare: Arc::new(move |number| {
                counted[number].fetch_add(1, Ordering::Relaxed);
            }),
        };
        drop(Pool::start(&threads).expect("threads"));
        let seen: Vec<usize> = seen.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(seen, [0, 1, 1, 1], "the caller is not prepared");
    }

    #[test]
    fn a_panic_of_a_helper_reaches_the_caller_and_nobody_hangs() {
        let mut pool = pool(2);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.each(&mut [0, 1], |item| assert!(*item == 0, "on purpose"));
        }));
        assert!(failed.is_err());
        drop(pool);
    }

    #[test]
    fn one_thread_has_no_helpers_and_too_many_are_refused() {
        let start = |count| Pool::start(&Threads { count, ..Threads::default() });
        assert!(start(1).expect("one thread").is_none());
        for count in [0, MAX_THREADS + 1] {
            assert!(start(count).is_err_and(|error| error.to_string().contains("from 1 to 8")));
        }
    }
}
