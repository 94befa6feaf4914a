//! Sinks: where results go, each on a thread of its own.
//!
//! A [`SinkThread`] is the publisher's end of a bounded queue. The publisher takes a spare buffer, fills it and sends it
//! to the thread; the thread sends it back when its [`Sink`] has taken the item. When no buffer is spare, this sink loses
//! the frame and the loss is counted. A slow sink therefore never holds up the publisher.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use log::Level;

use crate::platform::scheduling;
use crate::platform::shutdown::Shutdown;

/// Time between two calls of [`Sink::tick`] without work.
const TICK: Duration = Duration::from_millis(250);
/// Time between two checks of the shutdown state during a wait.
const CHECK_EVERY: Duration = Duration::from_millis(50);
/// Frames without a loss after which a sink counts as keeping up again.
const RECOVERED_AFTER: u64 = 100;
/// Stack of a sink's thread: drawing and encoding are shallow.
const STACK_BYTES: usize = 512 << 10;

/// The severity of a lost frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The output is incomplete: worth a warning.
    Matters,
    /// Pictures for people, who do not see each one. The thread also runs at low priority.
    Expected,
}

/// Gives results out. All methods run on the sink's own thread.
pub trait Sink<T>: Send {
    /// Gives one item out; `Break` when nothing more can ever be given out here. The buffer goes back to the publisher,
    /// so it should keep its memory.
    fn take(&mut self, item: &mut T) -> ControlFlow<()>;

    /// Does periodic work: called after every item, and about four times a second without one.
    fn tick(&mut self) {}

    /// Ends the output. Called once.
    fn finish(&mut self) {}
}

/// Frames that a sink gave out and lost. Every thread may read them.
#[derive(Debug, Default)]
pub struct SinkCounters {
    given: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
}

impl SinkCounters {
    /// Returns how many frames went out.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Returns how many frames were lost because the sink was busy.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns whether the sink takes nothing more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The publisher's end of a sink's queue.
pub struct SinkThread<T> {
    name: &'static str,
    loss: Loss,
    filled: SyncSender<T>,
    spare: Receiver<T>,
    done: Receiver<()>,
    counters: Arc<SinkCounters>,
}

impl<T: Send + 'static> SinkThread<T> {
    /// Starts the thread. Allocates `depth` buffers, and none later.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &'static str,
        depth: usize,
        loss: Loss,
        buffer: impl Fn() -> T,
        sink: impl Sink<T> + 'static,
    ) -> Result<SinkThread<T>> {
        let depth = depth.max(1);
        let (filled, incoming) = sync_channel(depth);
        let (outgoing, spare) = sync_channel(depth);
        let (finished, done) = sync_channel(1);
        for _ in 0..depth {
            // The queue has room for all of them.
            let _ = outgoing.try_send(buffer());
        }
        let counters = Arc::new(SinkCounters::default());
        let mut worker = Worker { name, incoming, outgoing, sink, counters: counters.clone(), loss, losing: false };
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
            if loss == Loss::Expected {
                scheduling::yield_to_others();
            }
            worker.work();
            let _ = finished.try_send(());
        });
        thread.with_context(|| format!("cannot start the thread for {name}"))?;
        Ok(SinkThread { name, loss, filled, spare, done, counters })
    }

    /// Sends what `fill` puts into a buffer, or counts a loss when no buffer is spare. Never waits.
    /// Returns whether the frame was sent.
    pub fn offer(&mut self, fill: impl FnOnce(&mut T)) -> bool {
        if self.counters.has_ended() {
            return false;
        }
        let sent = match self.spare.try_recv() {
            Ok(buffer) => self.send(buffer, fill),
            Err(_) => false,
        };
        if !sent {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    /// Sends what `fill` puts into a buffer, and waits for a spare one until the end is requested: for sources that wait
    /// too. Returns whether the frame was sent; it is not when the sink has ended or the wait was cut short.
    pub fn push(&mut self, shutdown: &Shutdown, fill: impl FnOnce(&mut T)) -> bool {
        while !self.counters.has_ended() {
            match self.spare.recv_timeout(CHECK_EVERY) {
                Ok(buffer) => return self.send(buffer, fill),
                Err(RecvTimeoutError::Timeout) if shutdown.is_requested() => {
                    self.counters.lost.fetch_add(1, Ordering::Relaxed);
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

    /// Returns the counters, to be read by other threads.
    pub fn counters(&self) -> &Arc<SinkCounters> {
        &self.counters
    }

    /// Lets everything that was sent go out, for as long as that takes; once the end is requested, for at most `limit`
    /// longer. Returns like [`SinkThread::finish_within`].
    pub fn finish(self, shutdown: &Shutdown, limit: Duration) -> bool {
        let SinkThread { name, loss, filled, spare, done, counters } = self;
        drop((filled, spare));
        let mut waited = done.recv_timeout(CHECK_EVERY);
        while waited == Err(RecvTimeoutError::Timeout) && !shutdown.is_requested() {
            waited = done.recv_timeout(CHECK_EVERY);
        }
        if waited == Err(RecvTimeoutError::Timeout) {
            waited = done.recv_timeout(limit);
        }
        report_end(name, loss, waited, limit, &counters)
    }

    /// Lets everything that was sent go out, for at most `limit`. Returns whether that was enough; otherwise the thread is
    /// abandoned with what it holds.
    pub fn finish_within(self, limit: Duration) -> bool {
        let SinkThread { name, loss, filled, spare, done, counters } = self;
        drop((filled, spare));
        report_end(name, loss, done.recv_timeout(limit), limit, &counters)
    }
}

/// Logs what was lost, and returns whether the thread has ended.
fn report_end(
    name: &str,
    loss: Loss,
    waited: Result<(), RecvTimeoutError>,
    limit: Duration,
    counters: &SinkCounters,
) -> bool {
    // A thread that panicked has nothing left to wait for either.
    let finished = waited != Err(RecvTimeoutError::Timeout);
    if !finished {
        log::warn!("{name}: still busy after {} ms, what it holds is lost", limit.as_millis());
    }
    if counters.lost() > 0 {
        let (given, lost) = (counters.given(), counters.lost());
        log::log!(loss.level(), "{name}: {given} frames given out, {lost} lost because it was busy");
    }
    finished
}

impl Loss {
    fn level(self) -> Level {
        match self {
            Loss::Matters => Level::Warn,
            Loss::Expected => Level::Debug,
        }
    }
}

/// The state of a sink's thread.
struct Worker<T, S> {
    name: &'static str,
    incoming: Receiver<T>,
    outgoing: SyncSender<T>,
    sink: S,
    counters: Arc<SinkCounters>,
    loss: Loss,
    losing: bool,
}

impl<T, S: Sink<T>> Worker<T, S> {
    fn work(&mut self) {
        let (mut lost, mut kept_up) = (0, 0);
        loop {
            match self.incoming.recv_timeout(TICK) {
                Ok(mut item) => {
                    if self.sink.take(&mut item) == ControlFlow::Break(()) {
                        break;
                    }
                    self.counters.given.fetch_add(1, Ordering::Relaxed);
                    kept_up += 1;
                    // This fails when the publisher has ended; what is queued is still given out.
                    let _ = self.outgoing.try_send(item);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.sink.tick();
            let now = self.counters.lost();
            if now > lost {
                (lost, kept_up) = (now, 0);
            }
            self.report_losses(lost, kept_up);
        }
        self.counters.ended.store(true, Ordering::Release);
        self.sink.finish();
    }

    /// Logs once when frames are being lost, and once when they no longer are. `kept_up`: frames since the last loss.
    fn report_losses(&mut self, lost: u64, kept_up: u64) {
        if !self.losing && lost > 0 && kept_up == 0 {
            self.losing = true;
            log::log!(self.loss.level(), "{}: cannot keep up, frames are lost there (not in the loop)", self.name);
        } else if self.losing && kept_up >= RECOVERED_AFTER {
            self.losing = false;
            log::log!(self.loss.level().max(Level::Info), "{}: keeps up again, {lost} frames lost so far", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn requested() -> Shutdown {
        let shutdown = Shutdown::default();
        shutdown.drain_now();
        shutdown
    }

    /// Takes an item when the test allows it.
    struct Gated {
        gate: mpsc::Receiver<ControlFlow<()>>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Sink<Vec<u8>> for Gated {
        fn take(&mut self, item: &mut Vec<u8>) -> ControlFlow<()> {
            let _ = self.taken.send(item.clone());
            self.gate.recv().unwrap_or(ControlFlow::Continue(()))
        }

        fn finish(&mut self) {
            let _ = self.taken.send(b"end".to_vec());
        }
    }

    type GatedThread = (SinkThread<Vec<u8>>, mpsc::Sender<ControlFlow<()>>, mpsc::Receiver<Vec<u8>>);

    fn gated(depth: usize) -> GatedThread {
        let ((open, gate), (taken, seen)) = (mpsc::channel(), mpsc::channel());
        let sink = SinkThread::start("test", depth, Loss::Matters, Vec::new, Gated { gate, taken }).expect("a thread");
        (sink, open, seen)
    }

    fn fill(number: u8) -> impl FnOnce(&mut Vec<u8>) {
        move |buffer| {
            buffer.clear();
            buffer.push(number);
        }
    }

    #[test]
    fn busy_sink_loses_frames_without_delay() {
        let (mut sink, open, seen) = gated(2);
        // The gate is closed: an offer that waited would not return.
        let sent: Vec<bool> = (0..100).map(|number| sink.offer(fill(number))).collect();
        assert_eq!(sent.iter().filter(|&&sent| sent).count(), 2);
        assert_eq!((sink.counters().lost(), sink.counters().given()), (98, 0));
        let go = ControlFlow::Continue(());
        let (counters, _) = (sink.counters().clone(), [open.send(go), open.send(go)]);
        assert!(sink.finish_within(Duration::from_secs(10)));
        // What was taken first goes out first, then the thread ends by itself.
        assert_eq!(seen.iter().collect::<Vec<_>>(), [vec![0], vec![1], b"end".to_vec()]);
        assert_eq!((counters.given(), counters.has_ended()), (2, true));
    }

    #[test]
    fn waiting_source_loses_nothing() {
        let (mut sink, open, seen) = gated(2);
        drop(open);
        let running = Shutdown::default();
        assert!((0..200).all(|number| sink.push(&running, fill(number))));
        assert!(sink.finish(&running, Duration::ZERO));
        assert_eq!(seen.iter().take(200).map(|item| item[0]).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn ended_sink_refuses_without_delay() {
        let (mut sink, open, _seen) = gated(1);
        assert!(sink.offer(fill(1)));
        open.send(ControlFlow::Break(())).expect("it waits");
        // Waits for a buffer until the worker has ended.
        assert!(!sink.push(&Shutdown::default(), fill(2)));
        assert!(sink.counters().has_ended() && !sink.offer(fill(3)));
        assert_eq!(sink.counters().lost(), 0, "an ended sink counts no losses");
        assert!(sink.finish(&requested(), Duration::from_secs(10)));
    }

    #[test]
    fn request_to_end_bounds_every_wait() {
        let (mut sink, open, _seen) = gated(1);
        assert!(sink.offer(fill(1)));
        assert!(!sink.push(&requested(), fill(2)), "no wait once the end is requested");
        assert!(!sink.finish(&requested(), Duration::from_millis(50)));
        drop(open);
        let (mut sink, open, _seen) = gated(1);
        assert!(sink.offer(fill(1)));
        assert!(!sink.finish_within(Duration::from_millis(50)));
        drop(open);
    }

    #[test]
    fn end_of_the_publisher_bounds_no_wait() {
        let (mut sink, open, seen) = gated(1);
        let shutdown = Shutdown::default();
        shutdown.drain();
        assert!(sink.offer(fill(1)));
        let waiting = thread::spawn(move || sink.push(&shutdown, fill(2)) && sink.finish(&shutdown, Duration::ZERO));
        // Longer than a wait that a request has bounded would last.
        thread::sleep(4 * CHECK_EVERY);
        assert!(!waiting.is_finished(), "it waits for its reader");
        drop(open);
        assert!(waiting.join().expect("no panic"), "and then everything goes out");
        assert_eq!(seen.iter().count(), 3);
    }
}
