//! Threads that help the caller with one step at a time.
//!
//! They are started once. A step is handed out through two counters: helpers watch one rise, the caller watches the other
//! fall to zero. Nothing is allocated and no lock is taken. Between the steps of a face helpers spin; after a while without
//! work they sleep, and the next step wakes them.
//!
//! `unsafe` code lives here and in [`crate::cpu`] only. Here it lends work on the caller's stack to the helpers, which Rust's
//! lifetimes cannot express: `Pool::each` returns, by a panic too, only after every helper is done with it.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// The most threads of an engine.
pub const MAX_THREADS: usize = 8;

/// Time without work after which a helper goes to sleep; the steps of a face that are not shared are shorter.
const PATIENCE: Duration = Duration::from_micros(300);
/// Looks at a counter between two looks at the clock.
const LOOKS: u32 = 64;
/// The caller yields its CPU when a helper needs longer than the first time, and sleeps between looks after the second: the
/// helper may be waiting for this very CPU.
const OVERDUE: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(2)];

/// The threads of an engine.
#[derive(Clone)]
pub struct Threads {
    /// Number of threads, the caller's included: 1 to [`MAX_THREADS`].
    pub count: usize,
    /// Called by each helper before its first step with its number, from 1 on; it may choose the helper's CPU.
    pub prepare: Arc<dyn Fn(usize) + Send + Sync>,
}

impl Default for Threads {
    /// Returns the caller's thread alone.
    fn default() -> Threads {
        Threads { count: 1, prepare: Arc::new(|_| {}) }
    }
}

/// The helpers of one engine.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// The work of one step, called with the number of the thread. It lives on the caller's stack.
type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Rises with each job.
    ticket: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// Helpers that are not done with the job.
    open: AtomicUsize,
    asleep: [AtomicBool; MAX_THREADS],
    failed: AtomicBool,
    over: AtomicBool,
}

// SAFETY: `job` is the only field that threads may not share by itself. The one caller writes it while no helper works
// (`open` is zero); helpers read it after `ticket` has risen and before they lower `open`. Release and acquire order both. The
// job itself is `Sync`, so helpers may call it at once.
unsafe impl Send for Shared {}
// SAFETY: as for `Send`.
unsafe impl Sync for Shared {}

impl Pool {
    /// Starts the helpers; returns none for one thread.
    ///
    /// # Errors
    /// [`ErrorKind::Threads`] if the number is not in 1 to [`MAX_THREADS`], or the system starts no more threads.
    pub(crate) fn start(threads: &Threads) -> Result<Option<Pool>, Error> {
        let count = threads.count;
        if !(1..=MAX_THREADS).contains(&count) {
            let message = format!("{count} threads: from 1 to {MAX_THREADS} are possible");
            return Err(Error::new(ErrorKind::Threads, message));
        }
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
                if catch_unwind(AssertUnwindSafe(|| prepare(number))).is_err() {
                    shared.failed.store(true, Ordering::Relaxed);
                }
                shared.help(number);
            };
            let started = thread::Builder::new().name(format!("engine {number}")).spawn(helper);
            let refused = |error| Error::caused_by(ErrorKind::Threads, "the system starts no more threads", error);
            pool.helpers.push(started.map_err(refused)?);
        }
        Ok(Some(pool))
    }

    /// Returns the number of threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs `work` on every item, each on a thread of its own, and returns after all are done.
    ///
    /// # Panics
    /// If there are more items than threads, or `work` panics on any of them.
    pub(crate) fn each<T: Send>(&mut self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        assert!(items.len() <= self.threads(), "more items than threads");
        let (first, len) = (Items(items.as_mut_ptr()), items.len());
        let job = |number: usize| {
            if number < len {
                // SAFETY: the item lies within `items`, which stay borrowed until all helpers are done. The caller takes
                // item 0 and the helper `number` its own, once a job, so no two threads take the same item.
                work(unsafe { &mut *first.at(number) });
            }
        };
        let job: &(dyn Fn(usize) + Sync) = &job;
        // SAFETY: only the lifetime changes. Helpers use the job while `open` is above zero, and `AllDone` waits for zero
        // before this call ends, by a panic too: `job` and all that it borrows are alive until then.
        let job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &(dyn Fn(usize) + Sync)>(job) };
        // SAFETY: no helper reads the job now: the last call has waited until all were done, and `&mut self` excludes a
        // second caller.
        unsafe { *self.shared.job.get() = Some(job) };
        self.shared.open.store(self.helpers.len(), Ordering::Relaxed);
        self.shared.ticket.fetch_add(1, Ordering::SeqCst);
        for (helper, asleep) in self.helpers.iter().zip(&self.shared.asleep[1..]) {
            if asleep.load(Ordering::SeqCst) {
                helper.thread().unpark();
            }
        }
        let all_done = AllDone(&self.shared);
        // SAFETY: the job was made above and is alive.
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
            // `each` has already reported a panic of the helper.
            let _ = helper.join();
        }
    }
}

/// A pointer to items of which each thread takes another.
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
    /// Runs jobs until the pool is dropped.
    fn help(&self, number: usize) {
        let mut seen = 0;
        while self.wait(number, seen) {
            seen = self.ticket.load(Ordering::Acquire);
            // SAFETY: the ticket has risen, so the caller has written the job and does not write another before this helper
            // lowers `open`.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job {
                // SAFETY: the caller keeps the job alive until this helper lowers `open`.
                let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(number) }));
                if done.is_err() {
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
            self.open.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for another ticket than `seen`; returns `false` when the pool is dropped.
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
                // Stored before the last look at the ticket: a caller that raises it after that look sees that the helper
                // must be woken.
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
    fn every_item_is_worked_on_once_a_call() {
        // Few turns with many threads: on a busy machine each turn may have to wait for all of them.
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
    fn a_panic_of_a_helper_reaches_the_caller_and_no_thread_hangs() {
        let mut pool = pool(2);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.each(&mut [0, 1], |item| assert!(*item == 0, "on purpose"));
        }));
        assert!(failed.is_err());
        drop(pool);
    }

    #[test]
    fn a_panic_while_a_helper_is_prepared_reaches_the_caller_and_no_thread_hangs() {
        let threads = Threads { count: 2, prepare: Arc::new(|_| panic!("on purpose")) };
        let mut pool = Pool::start(&threads).expect("threads").expect("helpers");
        let failed = catch_unwind(AssertUnwindSafe(|| pool.each(&mut [0, 1], |item| *item += 1)));
        assert!(failed.is_err());
        drop(pool);
    }

    #[test]
    fn the_callers_panic_waits_for_the_helpers_that_use_its_stack() {
        let mut pool = pool(2);
        let helped = AtomicBool::new(false);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            pool.each(&mut [0, 1], |item| {
                assert!(*item == 1, "on purpose");
                thread::sleep(Duration::from_millis(20));
                helped.store(true, Ordering::SeqCst);
            });
        }));
        assert!(failed.is_err() && helped.load(Ordering::SeqCst));
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
