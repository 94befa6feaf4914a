//! Passes preallocated items from one thread to another and back, without locks and allocations.
//!
//! There are two wait-free queues with one producer and one consumer each: one for filled items, one for spare ones.

use heapless::spsc::{Consumer, Producer, Queue};

/// Slots of each queue; the queue keeps one of them free.
const PLACES: usize = 65;
/// Number of items in circulation for one source.
pub const DEPTH: usize = 8;
/// Further items for each further source.
const MORE: usize = 4;

/// Returns how many items circulate where so many sources share a loop.
pub fn depth_for(sources: usize) -> usize {
    (DEPTH + MORE * sources.saturating_sub(1)).min(PLACES - 1)
}

/// The queues with all items, before they are split into their two ends.
pub struct Ring<T> {
    filled: Queue<Box<T>, PLACES>,
    spare: Queue<Box<T>, PLACES>,
}

/// The end that fills items.
pub struct RingWriter<'a, T> {
    filled: Producer<'a, Box<T>, PLACES>,
    spare: Consumer<'a, Box<T>, PLACES>,
}

/// The end that reads filled items.
pub struct RingReader<'a, T> {
    filled: Consumer<'a, Box<T>, PLACES>,
    spare: Producer<'a, Box<T>, PLACES>,
}

impl<T> Ring<T> {
    /// Makes the items for one source.
    pub fn new(item: impl FnMut() -> T) -> Ring<T> {
        Ring::with_depth(DEPTH, item)
    }

    /// Makes so many items, at most those of [`depth_for`].
    pub fn with_depth(depth: usize, mut item: impl FnMut() -> T) -> Ring<T> {
        let mut spare = Queue::new();
        for _ in 0..depth.min(PLACES - 1) {
            // The queue has room for all items.
            let _ = spare.enqueue(Box::new(item()));
        }
        Ring { filled: Queue::new(), spare }
    }

    /// Returns the two ends.
    pub fn split(&mut self) -> (RingWriter<'_, T>, RingReader<'_, T>) {
        let (filled, filled_out) = self.filled.split();
        let (spare, spare_out) = self.spare.split();
        (RingWriter { filled, spare: spare_out }, RingReader { filled: filled_out, spare })
    }
}

impl<T> RingWriter<'_, T> {
    /// Takes a spare item to fill; returns `None` if the reader has all of them.
    pub fn take(&mut self) -> Option<Box<T>> {
        self.spare.dequeue()
    }

    /// Sends a filled item to the reader.
    pub fn put(&mut self, item: Box<T>) {
        // The queue has room for all items.
        let _ = self.filled.enqueue(item);
    }
}

impl<T> RingReader<'_, T> {
    /// Takes the oldest filled item.
    pub fn take(&mut self) -> Option<Box<T>> {
        self.filled.dequeue()
    }

    /// Returns an item to the writer.
    pub fn put(&mut self, item: Box<T>) {
        // The queue has room for all items.
        let _ = self.spare.enqueue(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn items_arrive_in_order_and_come_back() {
        let mut made = 0;
        let mut ring = Ring::new(|| {
            made += 1;
            0u64
        });
        assert_eq!(made, DEPTH);
        let (mut writer, mut reader) = ring.split();
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..10_000 {
                    let mut item = loop {
                        match writer.take() {
                            Some(item) => break item,
                            None => thread::yield_now(),
                        }
                    };
                    *item = number;
                    writer.put(item);
                }
            });
            let mut expected = 0;
            while expected < 10_000 {
                let Some(item) = reader.take() else {
                    thread::yield_now();
                    continue;
                };
                assert_eq!(*item, expected);
                expected += 1;
                reader.put(item);
            }
        });
    }

    #[test]
    fn a_writer_without_a_reader_gets_none_and_does_not_wait() {
        let mut ring = Ring::new(|| 0u8);
        let (mut writer, _reader) = ring.split();
        for _ in 0..DEPTH {
            let item = writer.take().expect("spare");
            writer.put(item);
        }
        assert!(writer.take().is_none());
    }
}
