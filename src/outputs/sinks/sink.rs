//! A way out of the program that may be slow without anybody waiting for it.
//!
//! An outlet has a thread of its own behind a bounded queue of buffers that go round and round. Whoever publishes takes
//! a spare buffer, fills it and sends it off; when none is spare, this outlet loses the frame, and the loss is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use log::Level;

/// How often a sink without work may look after itself.
const TICK: Duration = Duration::from_millis(250);
/// How often who waits for a spare buffer looks whether somebody is in a hurry.
const GLANCE: Duration = Duration::from_millis(50);
/// So many frames without a loss end the state in which frames are lost.
const CALM: u64 = 100;
/// How far threads that draw step back; 19 is the farthest.
const NICE: libc::c_int = 10;
/// Stack of an outlet's thread: drawing and encoding are shallow.
const STACK_BYTES: usize = 512 << 10;

/// Whether a sink takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Go,
    /// Nothing more can ever be given out here.
    End,
}

/// What it means when an outlet loses frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Somebody misses them: it is worth a warning.
    Matters,
    /// Pictures: people do not see each one anyhow. The thread steps back behind others too.
    Expected,
}

/// The slow end of an outlet. All of it runs on the outlet's own thread.
pub trait Sink<T>: Send {
    /// Gives one item out. The buffer goes back to the publisher, so it should keep its memory.
    fn take(&mut self, item: &mut T) -> Flow;

    /// Called after every item, and about four times a second without one.
    fn tick(&mut self) {}

    /// Called once at the end.
    fn finish(&mut self) {}
}

/// What became of the frames, readable by every thread.
#[derive(Debug, Default)]
pub struct Tally {
    given: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
}

impl Tally {
    /// Frames that went out.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Frames that were lost because this outlet was busy.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the sink takes nothing more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The publisher's end of an outlet.
pub struct Outlet<T> {
    name: &'static str,
    loss: Loss,
    filled: SyncSender<T>,
    spare: Receiver<T>,
    done: Receiver<()>,
    tally: Arc<Tally>,
}

impl<T: Send + 'static> Outlet<T> {
    /// Starts the thread. `depth` buffers are made here, and no more later.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &'static str,
        depth: usize,
        loss: Loss,
        buffer: impl Fn() -> T,
        sink: impl Sink<T> + 'static,
    ) -> Result<Outlet<T>> {
        let depth = depth.max(1);
        let (filled, incoming) = sync_channel(depth);
        let (outgoing, spare) = sync_channel(depth);
        let (farewell, done) = sync_channel(1);
        for _ in 0..depth {
            // The queue has room for all of them.
            let _ = outgoing.try_send(buffer());
        }
        let tally = Arc::new(Tally::default());
        let mut worker = Worker { name, incoming, outgoing, sink, tally: tally.clone(), loss, losing: false };
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
            if loss == Loss::Expected {
                step_back();
            }
            worker.work();
            let _ = farewell.try_send(());
        });
        thread.with_context(|| format!("cannot start the thread for {name}"))?;
        Ok(Outlet { name, loss, filled, spare, done, tally })
    }

    /// Hands over what `fill` puts into a buffer, or counts a loss when no buffer is spare. Never waits.
    /// Returns whether the frame will go out.
    pub fn offer(&mut self, fill: impl FnOnce(&mut T)) -> bool {
        if self.tally.has_ended() {
            return false;
        }
        let sent = match self.spare.try_recv() {
            Ok(buffer) => self.send(buffer, fill),
            Err(_) => false,
        };
        if !sent {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Hands over what `fill` puts into a buffer, and waits for a spare one until `hurry` is set: for sources that wait
    /// too. Returns whether it will go out: not when the sink has ended or somebody is in a hurry.
    pub fn push(&mut self, hurry: &AtomicBool, fill: impl FnOnce(&mut T)) -> bool {
        while !self.tally.has_ended() {
            match self.spare.recv_timeout(GLANCE) {
                Ok(buffer) => return self.send(buffer, fill),
                Err(RecvTimeoutError::Timeout) if hurry.load(Ordering::Relaxed) => {
                    self.tally.lost.fetch_add(1, Ordering::Relaxed);
                    return false;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The worker lives as long as it takes more; then its end of the queue is gone.
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    fn send(&self, mut buffer: T, fill: impl FnOnce(&mut T)) -> bool {
        fill(&mut buffer);
        self.filled.try_send(buffer).is_ok()
    }

    /// The counters, for other threads.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Lets everything that was handed over go out, but waits no longer than `limit` once `hurry` is set. Returns whether
    /// that was enough; otherwise the thread is left behind with what it holds.
    pub fn finish(self, hurry: &AtomicBool, limit: Duration) -> bool {
        let Outlet { name, loss, filled, spare, done, tally } = self;
        drop((filled, spare));
        let mut waited = done.recv_timeout(GLANCE);
        while waited == Err(RecvTimeoutError::Timeout) && !hurry.load(Ordering::Relaxed) {
            waited = done.recv_timeout(GLANCE);
        }
        if waited == Err(RecvTimeoutError::Timeout) {
            waited = done.recv_timeout(limit);
        }
        // A thread that is gone without a farewell has nothing left to wait for either.
        let finished = waited != Err(RecvTimeoutError::Timeout);
        if !finished {
            log::warn!("{name}: still busy after {} ms, what it holds is lost", limit.as_millis());
        }
        if tally.lost() > 0 {
            let (given, lost) = (tally.given(), tally.lost());
            log::log!(loss.level(), "{name}: {given} frames given out, {lost} lost because it was busy");
        }
        finished
    }
}

impl Loss {
    fn level(self) -> Level {
        match self {
            Loss::Matters => Level::Warn,
            Loss::Expected => Level::Debug,
        }
    }
}

/// Lets the loop and the publisher go first where they have no real-time priority.
pub fn step_back() {
    // SAFETY: no memory is involved. On Linux this is about the calling thread; where it is refused, nothing is lost.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// The outlet's thread.
struct Worker<T, S> {
    name: &'static str,
    incoming: Receiver<T>,
    outgoing: SyncSender<T>,
    sink: S,
    tally: Arc<Tally>,
    loss: Loss,
    losing: bool,
}

impl<T, S: Sink<T>> Worker<T, S> {
    fn work(&mut self) {
        let (mut lost, mut calm) = (0, 0);
        loop {
            match self.incoming.recv_timeout(TICK) {
                Ok(mut item) => {
                    if self.sink.take(&mut item) == Flow::End {
                        break;
                    }
                    self.tally.given.fetch_add(1, Ordering::Relaxed);
                    calm += 1;
                    // It fails when the publisher has gone; what is queued is still given out.
                    let _ = self.outgoing.try_send(item);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.sink.tick();
            let now = self.tally.lost();
            if now > lost {
                (lost, calm) = (now, 0);
            }
            self.tell(lost, calm);
        }
        self.tally.ended.store(true, Ordering::Release);
        self.sink.finish();
    }

    /// Says once that frames are being lost, and once that they are not any more.
    fn tell(&mut self, lost: u64, calm: u64) {
        if !self.losing && lost > 0 && calm == 0 {
            self.losing = true;
            log::log!(self.loss.level(), "{}: cannot keep up, frames are lost there (not in the loop)", self.name);
        } else if self.losing && calm >= CALM {
            self.losing = false;
            log::log!(self.loss.level().max(Level::Info), "{}: keeps up again, {lost} frames lost so far", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    static PATIENT: AtomicBool = AtomicBool::new(false);
    static HURRY: AtomicBool = AtomicBool::new(true);

    /// Takes an item when the test allows it.
    struct Gated {
        gate: mpsc::Receiver<Flow>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Sink<Vec<u8>> for Gated {
        fn take(&mut self, item: &mut Vec<u8>) -> Flow {
            let _ = self.taken.send(item.clone());
            self.gate.recv().unwrap_or(Flow::Go)
        }

        fn finish(&mut self) {
            let _ = self.taken.send(b"end".to_vec());
        }
    }

    fn gated(depth: usize) -> (Outlet<Vec<u8>>, mpsc::Sender<Flow>, mpsc::Receiver<Vec<u8>>) {
        let ((open, gate), (taken, seen)) = (mpsc::channel(), mpsc::channel());
        let outlet = Outlet::start("test", depth, Loss::Matters, Vec::new, Gated { gate, taken }).expect("a thread");
        (outlet, open, seen)
    }

    fn fill(number: u8) -> impl FnOnce(&mut Vec<u8>) {
        move |buffer| {
            buffer.clear();
            buffer.push(number);
        }
    }

    #[test]
    fn a_busy_outlet_loses_frames_and_nobody_waits() {
        let (mut outlet, open, seen) = gated(2);
        let before = Instant::now();
        let sent: Vec<bool> = (0..100).map(|number| outlet.offer(fill(number))).collect();
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        assert_eq!(sent.iter().filter(|&&sent| sent).count(), 2);
        assert_eq!((outlet.tally().lost(), outlet.tally().given()), (98, 0));
        let (tally, _) = (outlet.tally().clone(), [open.send(Flow::Go), open.send(Flow::Go)]);
        assert!(outlet.finish(&HURRY, Duration::from_secs(10)));
        // What was taken first goes out first, then the thread ends by itself.
        assert_eq!(seen.iter().collect::<Vec<_>>(), [vec![0], vec![1], b"end".to_vec()]);
        assert_eq!((tally.given(), tally.has_ended()), (2, true));
    }

    #[test]
    fn who_can_wait_loses_nothing() {
        let (mut outlet, open, seen) = gated(2);
        drop(open);
        assert!((0..200).all(|number| outlet.push(&PATIENT, fill(number))));
        assert!(outlet.finish(&HURRY, Duration::from_secs(10)));
        assert_eq!(seen.iter().take(200).map(|item| item[0]).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn an_ended_sink_refuses_and_keeps_nobody_waiting() {
        let (mut outlet, open, _seen) = gated(1);
        assert!(outlet.offer(fill(1)));
        open.send(Flow::End).expect("it waits");
        // Waits for a buffer until the worker has gone.
        assert!(!outlet.push(&PATIENT, fill(2)));
        assert!(outlet.tally().has_ended() && !outlet.offer(fill(3)));
        assert_eq!(outlet.tally().lost(), 0, "nothing was to be given out any more");
        assert!(outlet.finish(&HURRY, Duration::from_secs(10)));
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (mut outlet, open, _seen) = gated(1);
        assert!(outlet.offer(fill(1)));
        assert!(!outlet.push(&HURRY, fill(2)), "nobody waits in a hurry");
        let before = Instant::now();
        assert!(!outlet.finish(&HURRY, Duration::from_millis(50)));
        assert!(before.elapsed() < Duration::from_secs(5));
        drop(open);
    }
}
