//! Reads a file or a pipe with a time limit, because the writer of a pipe may pause.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::platform::clock;
use crate::platform::poll::{Events, PollEntry, poll};

/// Size of the buffer.
const BUFFER_BYTES: usize = 1 << 18;

/// Result of waiting for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// At least one byte.
    Bytes,
    /// None arrived in time.
    Nothing,
    /// The reader is at its end.
    Ended,
}

/// Moves a reader back to where it was opened.
type Restart<R> = Box<dyn FnMut(&mut R) -> io::Result<()> + Send>;

/// A buffered reader with a time limit.
pub(crate) struct TimedReader<R> {
    reader: R,
    /// `None` for pipes, whose bytes are gone once they are read.
    restart: Option<Restart<R>>,
    /// The descriptor to wait for; `None` for regular files, which never block.
    pipe: Option<RawFd>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
}

impl TimedReader<File> {
    /// Reads an open file or pipe.
    pub(crate) fn of_file(mut file: File) -> TimedReader<File> {
        let regular = file.metadata().is_ok_and(|data| data.file_type().is_file());
        let pipe = (!regular).then(|| file.as_raw_fd());
        // Standard input may be a file of which another program has read the beginning.
        let begin = if regular { file.stream_position().ok() } else { None };
        let restart = begin.map(|begin| -> Restart<File> {
            Box::new(move |file: &mut File| file.seek(SeekFrom::Start(begin)).map(drop))
        });
        TimedReader { pipe, restart, ..TimedReader::new(file, BUFFER_BYTES) }
    }
}

impl<R: Read> TimedReader<R> {
    /// Reads a reader that never blocks, `piece` bytes at a time.
    pub(crate) fn new(reader: R, piece: usize) -> TimedReader<R> {
        let buffer = vec![0; piece.max(1)].into_boxed_slice();
        TimedReader { reader, restart: None, pipe: None, buffer, start: 0, end: 0, ended: false }
    }

    /// Returns the bytes that have been read but not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Consumes `count` of those bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Moves at most `most` of those bytes to the end of `out`.
    pub(crate) fn move_to(&mut self, out: &mut Vec<u8>, most: usize) {
        let count = self.bytes().len().min(most);
        out.extend_from_slice(&self.bytes()[..count]);
        self.consume(count);
    }

    /// Moves back to the first byte. Returns false for a pipe, and for a file that cannot be read again.
    pub(crate) fn restart(&mut self) -> bool {
        let moved = self.restart.as_mut().is_some_and(|restart| restart(&mut self.reader).is_ok());
        if moved {
            (self.start, self.end, self.ended) = (0, 0, false);
        }
        moved
    }

    /// Waits until at least one byte is available, at most until `until_us` of the monotonic clock.
    ///
    /// # Errors
    /// Returns the reader's error.
    pub(crate) fn supply(&mut self, until_us: u64) -> io::Result<Supply> {
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
    fn reading_a_pipe_waits_and_finds_its_end() -> io::Result<()> {
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
        assert!(!reader.restart(), "the bytes of a pipe are gone");
        Ok(())
    }

    #[test]
    fn a_file_is_read_again_from_where_it_was_opened() -> io::Result<()> {
        let root = faceptor_test_support::Folder::new();
        let mut file = File::open(root.write("digits", b"0123456789"))?;
        file.seek(SeekFrom::Start(4))?;
        let mut reader = TimedReader::of_file(file);
        for _ in 0..2 {
            assert_eq!((reader.supply(0)?, reader.bytes()), (Supply::Bytes, b"456789".as_slice()));
            reader.consume(6);
            assert_eq!(reader.supply(0)?, Supply::Ended);
            assert!(reader.restart());
        }
        Ok(())
    }
}
