//! Several sources that share the loop: the newest frame of the one that has waited longest comes next.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::capture::feed::{Arrival, Feed};
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::capture::source_names::{MAX_SOURCES, NamedSource};
use crate::capture::source_reader::{Lent, Opening, SourceReader};
use crate::platform::clock;

/// A live frame that is older than so many quarters of its period is passed over: a newer one is there.
const STALE_QUARTERS: u64 = 5;
/// Time at the end of the run for the reading threads: they end the programs that they have started.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The sources of a run. Each has a reading thread.
pub(crate) struct SeveralSources {
    seats: heapless::Vec<Seat, MAX_SOURCES>,
    /// The place of the source that the loop has now.
    turn: Option<usize>,
}

/// A source as the loop sees it.
struct Seat {
    reader: SourceReader,
    /// What the reader has lent.
    held: Option<Lent>,
    /// When the source had its last turn with a frame.
    served_us: u64,
    is_retired: bool,
    /// Frames that were passed over after the source had counted them as delivered.
    passed_over: u64,
    counters: SourceCounters,
}

impl SeveralSources {
    /// Starts the reading threads. The calling thread is the loop's.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(sources: &[NamedSource], opening: &Opening) -> Result<SeveralSources> {
        let mut seats = heapless::Vec::new();
        for source in sources {
            let reader = SourceReader::start(source.clone(), opening.clone(), thread::current())?;
            let counters = SourceCounters::default();
            let seat = Seat { reader, held: None, served_us: 0, is_retired: false, passed_over: 0, counters };
            // It has room for every source.
            let _ = seats.push(seat);
        }
        Ok(SeveralSources { seats, turn: None })
    }

    /// Gives the source of the last turn back to its reader.
    fn end_turn(&mut self) {
        let Some(seat) = self.turn.take().and_then(|place| self.seats.get_mut(place)) else { return };
        match seat.held.take() {
            Some(Lent::Source(source, _)) if !seat.is_retired => seat.reader.give_back(source),
            _ => {}
        }
    }

    /// Takes what the readers have lent, and returns the place that has waited longest.
    fn longest_waiting(&mut self) -> Option<usize> {
        let open = self.seats.iter_mut().enumerate().filter(|(_, seat)| !seat.is_retired);
        let ready = open.filter_map(|(place, seat)| {
            if seat.held.is_none() {
                seat.held = seat.reader.take();
            }
            seat.held.is_some().then_some((seat.served_us, place))
        });
        ready.min().map(|(_, place)| place)
    }
}

impl Seat {
    /// Begins the turn of the source: returns the newest of its frames, or what else it has.
    fn begin_turn(&mut self) -> Arrival {
        let now_us = clock::now_us();
        let arrival = match &mut self.held {
            Some(Lent::Source(source, polled)) => {
                // The error is handed on; the source stays.
                let mut polled = std::mem::replace(polled, Ok(Poll::Nothing));
                if let (Ok(Poll::Frame(stamp)), Some(period_us)) = (&polled, source.period_us())
                    && is_stale(stamp, now_us, period_us)
                {
                    let older = stamp.stale_dropped;
                    self.passed_over += 1;
                    polled = source.poll(now_us);
                    if let Ok(Poll::Frame(newer)) = &mut polled {
                        newer.stale_dropped += older + 1;
                    }
                }
                let counted = source.counters();
                self.counters = SourceCounters {
                    frames: counted.frames.saturating_sub(self.passed_over),
                    stale_dropped: counted.stale_dropped + self.passed_over,
                    ..counted
                };
                Arrival::Polled(polled)
            }
            Some(Lent::Unopened { reason, is_final }) => {
                Arrival::Unopened { reason: std::mem::take(reason), is_final: *is_final }
            }
            None => Arrival::Polled(Ok(Poll::Nothing)),
        };
        if matches!(&arrival, Arrival::Polled(Ok(Poll::Frame(_)))) {
            self.served_us = now_us;
        }
        if matches!(&arrival, Arrival::Polled(Err(SourceError::Lost { .. })) | Arrival::Unopened { is_final: true, .. })
        {
            self.is_retired = true;
        }
        arrival
    }
}

/// Reports whether a live source has a newer frame than this one.
fn is_stale(stamp: &Stamp, now_us: u64, period_us: u64) -> bool {
    4 * now_us.saturating_sub(stamp.captured_us) > STALE_QUARTERS * period_us
}

impl Feed for SeveralSources {
    fn next(&mut self, until_us: u64) -> Option<(usize, Arrival)> {
        self.end_turn();
        loop {
            if let Some(place) = self.longest_waiting() {
                self.turn = Some(place);
                return Some((place, self.seats[place].begin_turn()));
            }
            let left_us = until_us.saturating_sub(clock::now_us());
            if left_us == 0 {
                return None;
            }
            // A reader that lends something wakes this thread.
            thread::park_timeout(Duration::from_micros(left_us));
        }
    }

    fn source(&mut self, place: usize) -> Option<&mut dyn Source> {
        match &mut self.seats.get_mut(place)?.held {
            Some(Lent::Source(source, _)) => Some(&mut **source),
            _ => None,
        }
    }

    fn counters(&self, place: usize) -> SourceCounters {
        self.seats.get(place).map(|seat| seat.counters).unwrap_or_default()
    }

    fn retire(&mut self, place: usize) {
        if let Some(seat) = self.seats.get_mut(place) {
            seat.is_retired = true;
            seat.reader.close();
        }
    }
}

impl Drop for SeveralSources {
    fn drop(&mut self) {
        self.seats.iter_mut().for_each(|seat| {
            seat.reader.close();
            seat.held = None;
        });
        let until = Instant::now() + END_PATIENCE;
        // A thread that is opening a network camera may take longer: the kernel ends its program with this one.
        while self.seats.iter().any(|seat| !seat.reader.has_ended()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::source::SourceRequest;
    use std::sync::Arc;

    fn several(places: &[&str]) -> SeveralSources {
        let named = places.iter().enumerate();
        let named: Vec<NamedSource> = named
            .map(|(number, place)| NamedSource { name: format!("{number}"), place: (*place).to_owned() })
            .collect();
        let opening = Opening { request: SourceRequest::default(), prepare: Arc::new(|| {}) };
        SeveralSources::start(&named, &opening).expect("threads")
    }

    /// Waits until every source that is not retired has something.
    fn wait_for_all(sources: &mut SeveralSources) {
        sources.end_turn();
        while sources.seats.iter().any(|seat| seat.held.is_none() && !seat.is_retired) {
            sources.longest_waiting();
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn place(sources: &mut SeveralSources) -> Option<usize> {
        match sources.next(0) {
            Some((place, Arrival::Polled(Ok(Poll::Frame(_))))) => Some(place),
            Some((_, other)) => panic!("{other:?}"),
            None => None,
        }
    }

    #[test]
    fn the_source_that_has_waited_longest_comes_next() {
        let mut sources = several(&["demo"; 3]);
        wait_for_all(&mut sources);
        let first: Vec<_> = (0..3).map(|_| place(&mut sources)).collect();
        assert_eq!(first, [Some(0), Some(1), Some(2)]);
        for turn in 0..9 {
            wait_for_all(&mut sources);
            assert_eq!(place(&mut sources), Some(turn % 3));
        }
        // One that has been served is not ready at once; the others go on.
        sources.retire(1);
        for turn in [0, 2, 0, 2] {
            wait_for_all(&mut sources);
            assert_eq!(place(&mut sources), Some(turn));
        }
        assert_eq!(sources.counters(0).frames, 6);
        let view = sources.source(2).map(|source| source.view().width());
        assert_eq!((view, sources.source(0).is_some()), (Some(640), true), "the others wait with their frames");
    }

    #[test]
    fn a_source_that_cannot_be_opened_says_why_once() {
        let mut sources = several(&["/nonexistent.y4m", "demo"]);
        wait_for_all(&mut sources);
        let Some((0, Arrival::Unopened { reason, is_final: true })) = sources.next(0) else { panic!("it is missing") };
        assert!(reason.contains("/nonexistent.y4m: it does not exist"), "{reason}");
        for _ in 0..3 {
            wait_for_all(&mut sources);
            assert_eq!(place(&mut sources), Some(1));
        }
    }

    #[test]
    fn frames_that_are_older_than_a_period_are_stale() {
        let stamp = Stamp { captured_us: 1_000_000, ..Stamp::default() };
        assert!(!is_stale(&stamp, 1_050_000, 40_000) && is_stale(&stamp, 1_050_001, 40_000));
        assert!(!is_stale(&stamp, 0, 40_000), "a clock that lags");
    }
}
