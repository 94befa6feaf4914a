//! Result lines on standard output, written on a thread of their own.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

use crate::outputs::sinks::sink::Sink;
use crate::platform::poll::{Events, PollEntry, poll};

/// The reason why standard output takes no more lines.
#[derive(Debug)]
pub enum StdoutEnd {
    /// The reader has closed its end, as `head` does after its last line: no failure.
    Closed,
    /// A line could not be written.
    Failed(io::Error),
}

/// Writes lines one by one, without a buffer.
pub struct StdoutSink {
    file: File,
    end: Arc<OnceLock<StdoutEnd>>,
}

impl StdoutSink {
    /// Writes to standard output.
    ///
    /// # Errors
    /// When standard output is not open.
    pub fn on_stdout() -> Result<StdoutSink> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned().context("cannot use standard output")?;
        Ok(StdoutSink::on(descriptor.into()))
    }

    /// Writes to a file, pipe or terminal.
    pub fn on(file: File) -> StdoutSink {
        StdoutSink { file, end: Arc::new(OnceLock::new()) }
    }

    /// Returns the cell that gets the reason when no more lines are taken.
    pub fn end(&self) -> Arc<OnceLock<StdoutEnd>> {
        self.end.clone()
    }

    /// Writes bytes; `Break` when no more are taken.
    pub(crate) fn give(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        let end = match self.write(bytes) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => StdoutEnd::Closed,
            Err(error) => StdoutEnd::Failed(error),
        };
        // Only this thread sets it, and only once: the sink ends here.
        let _ = self.end.set(end);
        ControlFlow::Break(())
    }

    fn write(&mut self, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            match self.file.write(line) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => line = &line[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The reader may have made the pipe non-blocking. This thread may wait.
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&self.file)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Waits until the file can be written to.
fn wait(file: &File) -> io::Result<()> {
    poll(&mut [PollEntry::new(file.as_raw_fd(), Events::WRITABLE)], None).map(drop)
}

impl Sink<Vec<u8>> for StdoutSink {
    fn take(&mut self, line: &mut Vec<u8>) -> ControlFlow<()> {
        self.give(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::sinks::sink::{Loss, SinkThread};
    use crate::platform::shutdown::Shutdown;
    use std::fs::OpenOptions;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    fn pipe() -> (File, File) {
        let (reader, writer) = io::pipe().expect("a pipe");
        (OwnedFd::from(reader).into(), OwnedFd::from(writer).into())
    }

    #[test]
    fn lines_stay_whole_through_a_non_blocking_pipe() -> Result<()> {
        let (mut reader, writer) = pipe();
        for end in [&reader, &writer] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let mut sink = SinkThread::start("lines", 4, Loss::Matters, Vec::new, StdoutSink::on(writer))?;
        let line = |number: usize| format!("{{\"number\":{number},\"rest\":\"{}\"}}\n", "x".repeat(50_000));
        let wanted: String = (0..20).map(line).collect();
        let reading = std::thread::spawn(move || {
            let mut text: Vec<u8> = Vec::new();
            let mut piece = [0; 3000];
            loop {
                match reader.read(&mut piece) {
                    Ok(0) => return text,
                    Ok(count) => text.extend(&piece[..count]),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        for number in 0..20 {
            assert!(sink.push(&Shutdown::default(), |buffer| *buffer = line(number).into_bytes()));
        }
        assert!(sink.finish_within(Duration::from_secs(10)));
        assert!(reading.join().expect("it reads") == wanted.into_bytes());
        Ok(())
    }

    #[test]
    fn closed_reader_is_no_failure_but_full_disk_is() -> Result<()> {
        let (reader, writer) = pipe();
        drop(reader);
        let full = OpenOptions::new().write(true).open("/dev/full")?;
        for (file, closed) in [(writer, true), (full, false)] {
            let mut lines = StdoutSink::on(file);
            let end = lines.end();
            assert_eq!(lines.take(&mut b"{}\n".to_vec()), ControlFlow::Break(()));
            assert_eq!(matches!(end.get(), Some(StdoutEnd::Closed)), closed);
            assert_eq!(matches!(end.get(), Some(StdoutEnd::Failed(_))), !closed);
        }
        Ok(())
    }
}
