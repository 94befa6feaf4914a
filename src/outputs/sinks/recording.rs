//! Records result lines in files that survive power loss, full disks and long runs.
//!
//! The newest lines are in the given file, older ones in `FILE.1`, `FILE.2` and so on. A file holds whole lines only:
//! each is written by one call, and a partial line is cut off: after a failed call at once, after a power loss when the
//! file is opened again. The format is described in `docs/outputs.md`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::files::output_file::OutputRules;
use crate::outputs::sinks::recording_file::{
    check_recording, create, not_a_recording, numbered, open_locked, real_path, sync_folder,
};
use crate::outputs::sinks::recording_recovery;
use crate::outputs::sinks::sink::Sink;

/// Longest time after which a recorded line is on the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Pause after a failure other than a full disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Settings of a recording.
#[derive(Clone, Debug)]
pub struct RecordingOptions {
    pub path: PathBuf,
    /// Largest size of a file.
    pub limit_bytes: u64,
    /// Number of files kept, the newest included; at least 1.
    pub files: u32,
    /// Rules for files that may be replaced, besides recordings.
    pub rules: OutputRules,
}

/// Counts of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingCounters {
    pub written: u64,
    /// Lines that could not be written.
    pub lost: u64,
    pub rotations: u64,
    /// Bytes of partial or damaged lines that were cut off when the file was opened.
    pub cut_bytes: u64,
}

/// The reason for losing lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    NoRoom,
    CannotWrite,
    CannotRotate,
}

/// Writes a recording.
pub struct RecordingSink {
    options: RecordingOptions,
    file: File,
    /// Bytes of whole lines in the file.
    length: u64,
    /// A failed call may have left bytes after `length`.
    torn: bool,
    /// Devices are neither cut, rotated nor synchronized.
    regular: bool,
    unsynced: bool,
    synced: Instant,
    trouble: Option<Trouble>,
    /// Time of the next attempt after trouble.
    retry: Option<Instant>,
    lost_in_trouble: u64,
    sync_failed: bool,
    counters: RecordingCounters,
    incomplete: Arc<AtomicBool>,
}

impl RecordingSink {
    /// Opens the file, cuts off a partial last line and continues after it.
    ///
    /// # Errors
    /// When the file cannot be written, is in use by another recording, or it or a file that it would be renamed to is not a
    /// recording.
    pub fn open(mut options: RecordingOptions) -> Result<RecordingSink> {
        options.path = real_path(&options.path)?;
        let path = &options.path;
        let file = open_locked(path)?;
        let data = file.metadata().with_context(|| format!("cannot record to {}", path.display()))?;
        let kind = data.file_type();
        let mut counters = RecordingCounters::default();
        let mut length = 0;
        if kind.is_file() {
            ensure!(
                !options.rules.inputs.contain(&data),
                "cannot record to {}: it is an input of the run",
                path.display()
            );
            (1..options.files).try_for_each(|number| check_recording(&numbered(path, number), &options.rules))?;
            if options.rules.force && !recording_recovery::is_recording(&file).unwrap_or(false) {
                file.set_len(0).with_context(|| format!("cannot empty {}", path.display()))?;
            }
            check_recording(path, &options.rules)?;
            let found = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
            length = recording_recovery::whole_lines(&file, found)
                .with_context(|| format!("cannot read {}", path.display()))?
                .with_context(|| not_a_recording(path))?;
            counters.cut_bytes = found - length;
            if length < found {
                file.set_len(length).with_context(|| format!("cannot cut a partial line off {}", path.display()))?;
                log::warn!("{}: the last line was incomplete, {} bytes cut off", path.display(), found - length);
            }
            sync_folder(path);
        }
        let now = Instant::now();
        Ok(RecordingSink {
            options,
            file,
            length,
            torn: false,
            regular: kind.is_file(),
            unsynced: false,
            synced: now,
            trouble: None,
            retry: None,
            lost_in_trouble: 0,
            sync_failed: false,
            counters,
            incomplete: Arc::default(),
        })
    }

    /// Returns the counts so far.
    pub fn counters(&self) -> RecordingCounters {
        self.counters
    }

    /// Returns the flag that is set when a line was lost, or the disk did not confirm one.
    pub fn incomplete(&self) -> Arc<AtomicBool> {
        self.incomplete.clone()
    }

    /// Writes one line, which ends with a line feed. A line that cannot be written is lost and counted; writing is tried
    /// again with the next one.
    pub fn write(&mut self, line: &[u8]) {
        if self.retry.is_some_and(|until| Instant::now() < until) {
            return self.lose();
        }
        if let Err((trouble, error)) = self.try_write(line) {
            self.lose();
            // A full disk fails at once; other failures may take time.
            self.retry = (trouble != Trouble::NoRoom).then(|| Instant::now() + RETRY_AFTER);
            if self.trouble != Some(trouble) {
                self.trouble = Some(trouble);
                log::error!("{}: {}: {error}; lines are lost", self.options.path.display(), trouble.text());
            }
            return;
        }
        self.counters.written += 1;
        self.retry = None;
        if self.trouble.take().is_some() {
            let lost = std::mem::take(&mut self.lost_in_trouble);
            log::info!("{}: recording again, {lost} lines were lost", self.options.path.display());
        }
    }

    fn lose(&mut self) {
        self.incomplete.store(true, Ordering::Release);
        self.counters.lost += 1;
        self.lost_in_trouble += 1;
    }

    fn try_write(&mut self, line: &[u8]) -> Result<(), (Trouble, io::Error)> {
        if self.torn {
            self.cut().map_err(|error| (Trouble::CannotWrite, error))?;
        }
        let full = self.length + line.len() as u64 > self.options.limit_bytes;
        if self.regular && full && self.length > 0 {
            self.rotate().map_err(|error| (Trouble::CannotRotate, error))?;
        }
        match self.append(line) {
            Ok(()) => {
                self.length += line.len() as u64;
                self.unsynced = true;
                Ok(())
            }
            Err(error) => {
                self.torn = self.regular;
                if self.torn {
                    // When this fails too, it is tried again before the next line.
                    let _ = self.cut();
                }
                let no_room = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
                let trouble = if no_room.contains(&error.kind()) { Trouble::NoRoom } else { Trouble::CannotWrite };
                Err((trouble, error))
            }
        }
    }

    /// Appends the whole line by one call. After a partial write the next call returns the cause.
    fn append(&mut self, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            match self.file.write(line) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => line = &line[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.torn = false;
        Ok(())
    }

    /// Removes the oldest file, renames the others and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        self.sync();
        let path = self.options.path.clone();
        // An earlier attempt may have renamed the files, and only failed to begin the new one.
        let moved_on = !path.try_exists()?;
        for number in (1..self.options.files).rev().filter(|_| !moved_on) {
            let from = if number == 1 { path.clone() } else { numbered(&path, number - 1) };
            match fs::rename(from, numbered(&path, number)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.options.files <= 1 {
            self.file.set_len(0)?;
        } else {
            // The old file keeps its lock until its last descriptor closes here.
            self.file = create(&path, self.file.metadata()?.permissions())?;
        }
        sync_folder(&path);
        self.length = 0;
        self.counters.rotations += 1;
        Ok(())
    }

    /// Puts written lines on the disk.
    fn sync(&mut self) {
        self.synced = Instant::now();
        if !self.regular || !std::mem::take(&mut self.unsynced) {
            return;
        }
        if let Err(error) = self.file.sync_data() {
            if !self.sync_failed {
                log::error!("{}: the disk does not confirm what was written: {error}", self.options.path.display());
            }
            self.sync_failed = true;
            self.incomplete.store(true, Ordering::Release);
        }
    }
}

impl Sink<Vec<u8>> for RecordingSink {
    fn take(&mut self, line: &mut Vec<u8>) -> ControlFlow<()> {
        self.write(line);
        ControlFlow::Continue(())
    }

    fn tick(&mut self) {
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync();
        }
    }

    fn finish(&mut self) {
        self.sync();
        if self.counters.lost > 0 {
            let RecordingCounters { written, lost, .. } = self.counters;
            log::warn!("{}: {written} lines recorded, {lost} lost", self.options.path.display());
        }
    }
}

impl Trouble {
    fn text(self) -> &'static str {
        match self {
            Trouble::NoRoom => "no room",
            Trouble::CannotWrite => "cannot be written",
            Trouble::CannotRotate => "has reached its limit and a new file cannot be begun",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use faceptor_test_support::Folder;

    fn options(path: PathBuf) -> RecordingOptions {
        RecordingOptions { path, limit_bytes: 1 << 20, files: 3, rules: OutputRules::default() }
    }

    fn line(number: u32) -> Vec<u8> {
        format!("{{\"faces\":{number:>6}}}\n").into_bytes()
    }

    #[test]
    fn rotation_keeps_the_limit_and_the_newest_lines() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.jsonl");
        // Five lines of 17 bytes fit.
        let mut recorder = RecordingSink::open(RecordingOptions { limit_bytes: 90, ..options(path.clone()) })?;
        (0..23).for_each(|number| recorder.write(&line(number)));
        recorder.finish();
        let counters = RecordingCounters { written: 23, rotations: 4, ..RecordingCounters::default() };
        assert_eq!(recorder.counters(), counters);
        let read = |path: &Path| fs::read(path).map(|bytes| bytes.len() / 17).ok();
        assert_eq!(
            [0, 1, 2].map(|n| read(&if n == 0 { path.clone() } else { numbered(&path, n) })),
            [Some(3), Some(5), Some(5)]
        );
        assert_eq!(fs::read_dir(folder.path())?.count(), 3);
        assert!(fs::read(numbered(&path, 2))?.starts_with(&line(10)));
        drop(recorder);
        // Another run goes on where this one ended.
        let mut recorder = RecordingSink::open(RecordingOptions { limit_bytes: 90, ..options(path.clone()) })?;
        recorder.write(&line(23));
        assert_eq!((read(&path), recorder.counters().rotations), (Some(4), 0));
        Ok(())
    }

    #[test]
    fn single_file_is_truncated() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.jsonl");
        let mut recorder =
            RecordingSink::open(RecordingOptions { limit_bytes: 40, files: 1, ..options(path.clone()) })?;
        (0..5).for_each(|number| recorder.write(&line(number)));
        // A line longer than the limit has a file for itself.
        let long = [b"{\"", [b'x'; 100].as_slice(), b"\":1}\n"].concat();
        recorder.write(&long);
        assert_eq!((fs::read(&path)?, fs::read_dir(folder.path())?.count()), (long, 1));
        Ok(())
    }

    #[test]
    fn partial_line_is_cut_off_and_other_files_are_refused() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, [line(1), line(2), b"{\"faces\":    ".to_vec()].concat())?;
        let mut recorder = RecordingSink::open(options(path.clone()))?;
        assert_eq!(recorder.counters().cut_bytes, 13);
        recorder.write(&line(3));
        assert_eq!(fs::read(&path)?, [line(1), line(2), line(3)].concat());
        let error = RecordingSink::open(options(path)).err().context("it is in use")?;
        assert!(error.to_string().ends_with("by another program"), "{error}");
        let photo = folder.path().join("photo.jpg");
        fs::write(&photo, b"\xff\xd8\xff\xe0 not lines\n of JSON")?;
        let error = RecordingSink::open(options(photo.clone())).err().context("not a recording")?;
        assert!(error.to_string().contains("photo.jpg is not a recording"), "{error}");
        assert_eq!(fs::read(photo)?.len(), 23);
        let error = RecordingSink::open(options(folder.path().into())).err().context("a folder")?;
        assert!(error.to_string().ends_with("it is not a file"), "{error}");
        Ok(())
    }

    #[test]
    fn files_of_others_are_not_cut_renamed_or_replaced() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.jsonl");
        let forced = |path: &Path| RecordingOptions {
            rules: OutputRules { force: true, ..OutputRules::default() },
            ..options(path.to_owned())
        };
        for text in ["{\"name\":1}", "{\"name\":1}\n{\"name\":2}", "{\n  \"faces\": 1\n}\n", "[]", "{}\n"] {
            fs::write(&path, text)?;
            let error = RecordingSink::open(options(path.clone())).err().context(text)?;
            assert!(error.to_string().contains("is not a recording"), "{error}");
            assert_eq!(fs::read_to_string(&path)?, text);
            let mut recorder = RecordingSink::open(forced(&path))?;
            recorder.write(&line(1));
            assert_eq!(fs::read(&path)?, line(1));
        }
        fs::write(&path, line(1))?;
        fs::write(folder.path().join("a.jsonl.2"), "mine")?;
        let error = RecordingSink::open(options(path.clone())).err().context("it would be renamed over")?;
        assert!(error.to_string().contains("a.jsonl.2 is not a recording"), "{error}");
        RecordingSink::open(RecordingOptions { files: 2, ..options(path.clone()) })?;
        let inputs = [&path].into_iter().collect();
        let rules = OutputRules { force: true, inputs };
        let error =
            RecordingSink::open(RecordingOptions { rules, ..options(path.clone()) }).err().context("an input")?;
        assert!(error.to_string().ends_with("it is an input of the run"), "{error}");
        assert_eq!(fs::read(&path)?, line(1));
        Ok(())
    }

    #[test]
    fn full_file_behind_a_link_is_renamed_and_not_the_link() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;

        let folder = Folder::new();
        fs::create_dir(folder.path().join("disk"))?;
        let (link, real) = (folder.path().join("a.jsonl"), folder.path().join("disk/b.jsonl"));
        std::os::unix::fs::symlink("disk/b.jsonl", &link)?;
        let mut recorder = RecordingSink::open(RecordingOptions { limit_bytes: 40, ..options(link.clone()) })?;
        fs::set_permissions(&real, PermissionsExt::from_mode(0o640))?;
        (0..5).for_each(|number| recorder.write(&line(number)));
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!(folder.names("disk"), ["b.jsonl", "b.jsonl.1", "b.jsonl.2"]);
        assert_eq!((fs::read(&link)?, fs::metadata(&real)?.permissions().mode() & 0o777), (line(4), 0o640));
        Ok(())
    }

    #[test]
    fn full_disk_is_counted() -> Result<()> {
        let mut recorder = RecordingSink::open(options("/dev/full".into()))?;
        (0..10).for_each(|number| recorder.write(&line(number)));
        assert_eq!(recorder.counters(), RecordingCounters { lost: 10, ..RecordingCounters::default() });
        assert!(recorder.incomplete().load(Ordering::Acquire));
        assert_eq!(recorder.trouble, Some(Trouble::NoRoom));
        Ok(())
    }

    #[test]
    fn missing_folder_loses_lines_until_it_is_back() -> Result<()> {
        let folder = Folder::new();
        let below = folder.path().join("below");
        fs::create_dir(&below)?;
        let path = below.join("a.jsonl");
        let mut recorder = RecordingSink::open(RecordingOptions { limit_bytes: 40, ..options(path.clone()) })?;
        (0..2).for_each(|number| recorder.write(&line(number)));
        fs::rename(&below, folder.path().join("away"))?;
        (2..5).for_each(|number| recorder.write(&line(number)));
        assert_eq!((recorder.counters().written, recorder.counters().lost), (2, 3));
        fs::rename(folder.path().join("away"), &below)?;
        recorder.retry = None;
        recorder.write(&line(5));
        assert_eq!((recorder.counters().written, fs::read(&path)?), (3, line(5)));
        assert_eq!(fs::read(numbered(&path, 1))?, [line(0), line(1)].concat());
        Ok(())
    }
}
