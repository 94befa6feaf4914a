//! Work on many photos at once, whose results come in the order of the photos.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use anyhow::Result;

/// Results that wait for an earlier one, for each job: enough that a large photo does not stop the others.
const MOST_WAITING: usize = 16;

/// State shared by all jobs.
struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    /// The first photo whose result was not taken yet.
    next: usize,
    /// Results that came before their turn.
    ready: BTreeMap<usize, R>,
    /// A result could not be taken, or a job panicked.
    stopped: bool,
}

impl<R> Shared<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_due` of the state, or the end. Reports whether it became due.
    fn wait(&self, is_due: impl Fn(&State<R>) -> bool) -> bool {
        let waiting = |state: &mut State<R>| !state.stopped && !is_due(state);
        let state = self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }
}

/// Ends all jobs when one of them panics.
struct Watch<'a, R>(&'a Shared<R>);

impl<R> Drop for Watch<'_, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state().stopped = true;
            self.0.changed.notify_all();
        }
    }
}

/// Lets the jobs do something one after the other, in the order of the photos.
pub(crate) struct Turn<'a>(&'a dyn Fn());

impl Turn<'_> {
    /// Waits until every earlier photo is done.
    pub fn wait(&self) {
        (self.0)();
    }
}

/// The memory for photos: many small ones, or a large one alone, so that several jobs need little more than one.
#[derive(Default)]
pub(crate) struct Room(RwLock<()>);

/// Room in memory for a photo, freed when it is dropped.
pub(crate) enum Held<'a> {
    /// Room for a small photo beside others.
    Shared { _guard: RwLockReadGuard<'a, ()> },
    /// All room, for a large photo.
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl Room {
    /// Takes room for a small photo.
    pub fn share(&self) -> Held<'_> {
        Held::Shared { _guard: self.0.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Takes all room, once every earlier photo is done: no job may hold room while it waits for its turn.
    pub fn take(&self, turn: &Turn<'_>) -> Held<'_> {
        turn.wait();
        Held::Alone { _guard: self.0.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// Calls `work` for each of `count` photos, by number, on one thread for each of `jobs`. Calls `take` with the results, in the
/// photos' order. A job may wait for its [`Turn`], the end of every earlier photo.
///
/// # Errors
/// An error of `take`: no further photo is begun then.
pub(crate) fn in_order<J: Send, R: Send>(
    count: usize,
    jobs: Vec<J>,
    work: impl Fn(&mut J, usize, &Turn<'_>) -> R + Sync,
    take: impl FnMut(R) -> Result<()> + Send,
) -> Result<()> {
    let most_waiting = MOST_WAITING * jobs.len().max(1);
    let shared = Shared {
        state: Mutex::new(State { next: 0, ready: BTreeMap::new(), stopped: false }),
        changed: Condvar::new(),
    };
    let (begun, taker) = (AtomicUsize::new(0), Mutex::new((take, Ok(()))));
    let run = |mut job: J| {
        let _watch = Watch(&shared);
        loop {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            if number >= count || !shared.wait(|state| number < state.next + most_waiting) {
                break;
            }
            let turn = || {
                shared.wait(|state| state.next == number);
            };
            let result = work(&mut job, number, &Turn(&turn));
            put(&shared, &taker, number, result);
        }
    };
    match jobs.len() {
        // No thread for a single job.
        0 | 1 => jobs.into_iter().for_each(run),
        _ => thread::scope(|scope| {
            let run = &run;
            let mut jobs = jobs.into_iter();
            // This thread works too.
            let own = jobs.next();
            for job in jobs {
                if let Err(reason) = thread::Builder::new().spawn_scoped(scope, move || run(job)) {
                    log::warn!("fewer photos at once: a thread cannot be started: {reason}");
                    break;
                }
            }
            own.into_iter().for_each(run);
        }),
    }
    taker.into_inner().unwrap_or_else(PoisonError::into_inner).1
}

/// Keeps a result until its turn, and takes those whose turn it is.
fn put<R, T: FnMut(R) -> Result<()>>(shared: &Shared<R>, taker: &Mutex<(T, Result<()>)>, number: usize, result: R) {
    shared.state().ready.insert(number, result);
    // One job takes; the state stays free for the others meanwhile.
    let mut taker = taker.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let mut state = shared.state();
        let next = state.next;
        let Some(result) = state.ready.remove(&next).filter(|_| !state.stopped) else { break };
        drop(state);
        let (take, outcome) = &mut *taker;
        let taken = take(result);
        let mut state = shared.state();
        state.next += 1;
        if taken.is_err() {
            state.stopped = true;
            *outcome = taken;
        }
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Some photos take longer than others; the work is a count and no time.
    fn labour(number: usize) -> u64 {
        (0..(number as u64 * 7919 % 13) * 2000).fold(number as u64, |sum, step| sum.wrapping_mul(31).wrapping_add(step))
    }

    #[test]
    fn results_come_in_the_order_of_the_photos() -> Result<()> {
        for jobs in [1, 2, 3, 8] {
            for count in [0, 1, 2, 200] {
                let mut taken = Vec::new();
                let work = |(): &mut (), number, _: &Turn<'_>| (number, labour(number));
                in_order(count, vec![(); jobs], work, |result| {
                    taken.push(result);
                    Ok(())
                })?;
                assert_eq!(taken, (0..count).map(|number| (number, labour(number))).collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    #[test]
    fn turns_come_one_after_the_other() -> Result<()> {
        let (busy, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let work = |(): &mut (), number, turn: &Turn<'_>| {
            std::hint::black_box(labour(number));
            turn.wait();
            assert!(!busy.swap(true, Ordering::SeqCst), "another job works");
            seen.lock().expect("no panic").push(number);
            busy.store(false, Ordering::SeqCst);
        };
        in_order(100, vec![(); 4], work, |()| Ok(()))?;
        assert_eq!(*seen.lock().expect("no panic"), (0..100).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn a_large_photo_has_all_room() -> Result<()> {
        let (room, inside) = (Room::default(), AtomicUsize::new(0));
        let work = |(): &mut (), number: usize, turn: &Turn<'_>| {
            let held = if number % 5 == 3 { room.take(turn) } else { room.share() };
            let others = inside.fetch_add(1, Ordering::SeqCst);
            assert!(others == 0 || matches!(held, Held::Shared { .. }), "a large photo is not alone");
            std::hint::black_box(labour(number));
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(held);
            // As where files are written.
            turn.wait();
        };
        in_order(200, vec![(); 4], work, |()| Ok(()))
    }

    #[test]
    fn an_error_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let work = |(): &mut (), number, _: &Turn<'_>| {
            begun.fetch_add(1, Ordering::SeqCst);
            number
        };
        let mut taken = 0;
        let outcome = in_order(100_000, vec![(); 4], work, |number| {
            taken += 1;
            anyhow::ensure!(number < 5, "full");
            Ok(())
        });
        assert_eq!(outcome.expect_err("an error").to_string(), "full");
        assert_eq!(taken, 6);
        assert!(begun.load(Ordering::SeqCst) <= 6 + 4 * MOST_WAITING + 4);
    }

    #[test]
    fn a_panic_of_a_job_hangs_no_other() {
        let work = |(): &mut (), number, turn: &Turn<'_>| {
            assert!(number != 7, "a defect");
            turn.wait();
        };
        let panicked = std::panic::catch_unwind(|| in_order(1000, vec![(); 3], work, |()| Ok(())));
        assert!(panicked.is_err());
    }
}
