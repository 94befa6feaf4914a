//! Bytes of a file or a pipe, waited for no longer than the caller may wait: who writes into a pipe may stop.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::platform::clock;
use crate::platform::poll::{Events, PollEntry, poll};

/// What is read at once.
const BUFFER_BYTES: usize = 1 << 18;

/// What there is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// At least one byte.
    Bytes,
    /// None until the time was up.
    Nothing,
    /// No more.
    Ended,
}

/// A buffered reader with a time limit.
pub struct TimedReader<R> {
    reader: R,
    /// What to wait for; files always have bytes, or their end.
    pipe: Option<RawFd>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
}

impl TimedReader<File> {
    /// An open file or pipe.
    pub fn of_file(file: File) -> TimedReader<File> {
        let regular = file.metadata().is_ok_and(|data| data.file_type().is_file());
        let pipe = (!regular).then(|| file.as_raw_fd());
        TimedReader { pipe, ..TimedReader::new(file, BUFFER_BYTES) }
    }
}

impl<R: Read> TimedReader<R> {
    /// A reader that never has to be waited for, read in pieces of so many bytes.
    pub fn new(reader: R, piece: usize) -> TimedReader<R> {
        let buffer = vec![0; piece.max(1)].into_boxed_slice();
        TimedReader { reader, pipe: None, buffer, start: 0, end: 0, ended: false }
    }

    /// What has been read and not consumed yet.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes so many bytes of those.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Moves bytes to the end of `out`, at most so many of those that have been read.
    pub fn move_to(&mut self, out: &mut Vec<u8>, most: usize) {
        let count = self.bytes().len().min(most);
        out.extend_from_slice(&self.bytes()[..count]);
        self.consume(count);
    }

    /// Sees to it that there are bytes, waiting for them until then.
    ///
    /// # Errors
    /// The reader's.
    pub fn supply(&mut self, until_us: u64) -> io::Result<Supply> {
        while self.start == self.end {
            if self.ended {
                return Ok(Supply::Ended);
            }
            if !self.is_ready(until_us)? {
                return Ok(Supply::Nothing);
            }
            match self.reader.read(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => (self.start, self.end) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Supply::Bytes)
    }

    fn is_ready(&self, until_us: u64) -> io::Result<bool> {
        let Some(fd) = self.pipe else { return Ok(true) };
        loop {
            let left = Duration::from_micros(until_us.saturating_sub(clock::now_us()));
            match poll(&mut [PollEntry::new(fd, Events::READABLE)], Some(left))? {
                0 if clock::now_us() < until_us => {}
                ready => return Ok(ready > 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_pipe_is_waited_for_and_has_an_end() -> io::Result<()> {
        let (reader, mut writer) = io::pipe()?;
        let mut reader = TimedReader::of_file(File::from(OwnedFd::from(reader)));
        let begun = clock::now_us();
        assert_eq!(reader.supply(begun + 20_000)?, Supply::Nothing);
        assert!(clock::now_us() >= begun + 20_000);
        writer.write_all(b"abcdef")?;
        assert_eq!((reader.supply(u64::MAX)?, reader.bytes()), (Supply::Bytes, b"abcdef".as_slice()));
        let mut out = Vec::new();
        reader.move_to(&mut out, 4);
        reader.consume(1);
        assert_eq!((out.as_slice(), reader.bytes()), (b"abcd".as_slice(), b"f".as_slice()));
        drop(writer);
        reader.move_to(&mut out, 9);
        assert_eq!((reader.supply(u64::MAX)?, reader.supply(0)?), (Supply::Ended, Supply::Ended));
        Ok(())
    }
}
