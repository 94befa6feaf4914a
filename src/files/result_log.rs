//! A file of results to which each one is appended as it comes: one JSON object a line. A batch that was killed goes on with it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::files::output_file::OutputRules;

/// Longest line that is read back: that of a photo with 64 faces is far shorter.
const MOST_LINE: u64 = 64 << 20;

/// The fields of a line of results.
#[derive(Deserialize)]
struct Line {
    path: String,
}

/// A file of results that only this process appends to.
pub(crate) struct ResultLog {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    /// Number of results of a path that the file has from earlier.
    done: HashMap<String, usize>,
}

impl ResultLog {
    /// Opens the file: a new one, or with `resume` also one that an earlier command left. A line that was not finished is cut off.
    ///
    /// # Errors
    /// When the file cannot be made, is in use, holds something else, or must not be replaced; the message names it.
    pub fn open(path: &Path, resume: bool, rules: &OutputRules) -> Result<ResultLog> {
        let open = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let data = file.metadata()?;
            ensure!(data.is_file(), "it is not a regular file");
            ensure!(!rules.inputs.contain(&data), "it is an input of this command, which is never overwritten");
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!("another process writes to it"),
                // Some file systems have no locks.
                Err(TryLockError::Error(reason)) if reason.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(reason)) => return Err(reason.into()),
            }
            let mut log = ResultLog { file, path: path.to_owned(), length: 0, done: HashMap::new() };
            if resume {
                log.read_back()?;
            } else {
                let is_free = data.len() == 0 || rules.force;
                ensure!(is_free, "it exists: add --resume to go on with it, or --force to begin anew");
            }
            log.file.set_len(log.length)?;
            log.file.seek(SeekFrom::Start(log.length))?;
            Ok(log)
        };
        open().with_context(|| format!("cannot write the results {}", path.display()))
    }

    /// Counts the results that are there.
    fn read_back(&mut self) -> Result<()> {
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut reader).take(MOST_LINE).read_until(b'\n', &mut line)?;
            // The end, or a line that was not finished.
            let is_torn = read == 0 || (line.last() != Some(&b'\n') && read < MOST_LINE as usize);
            let Some(Line { path }) = serde_json::from_slice(&line).ok().filter(|_| !is_torn) else {
                // After a power failure the end of a file may be anything; a file of others is not cut.
                let is_end = is_torn || reader.fill_buf()?.is_empty();
                ensure!(
                    is_end && (self.length > 0 || is_begun(&line)),
                    "line {number} is not a result of this command: name another file"
                );
                break;
            };
            *self.done.entry(path).or_default() += 1;
            self.length += read as u64;
        }
        Ok(())
    }

    /// Reports whether the file has the result of a photo already; each result counts for one photo of that path.
    pub fn take_done(&mut self, path: &Path) -> bool {
        let Some(count) = self.done.get_mut(&*path.to_string_lossy()).filter(|count| **count > 0) else { return false };
        *count -= 1;
        true
    }

    /// Appends a line. It is with the system when this returns: only a crash of the machine can lose it.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is in the file then.
    pub fn append(&mut self, line: &str) -> Result<()> {
        if let Err(reason) = self.file.write_all(line.as_bytes()) {
            // A full disk. What stays of the line would be cut off by --resume too.
            let _ = self.file.set_len(self.length);
            return Err(reason).with_context(|| format!("cannot write the results {}", self.path.display()));
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

/// Reports whether a line that is alone in its file may be the beginning of a result.
fn is_begun(line: &[u8]) -> bool {
    let end = line.iter().rposition(|byte| !matches!(byte, 0 | b'\n')).map_or(0, |last| last + 1);
    let (line, start) = (&line[..end], b"{\"path\":\"");
    line.starts_with(start) || start.starts_with(line)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files::inputs::Inputs;
    use faceptor_test_support::Folder;

    fn rules() -> OutputRules {
        OutputRules::default()
    }

    fn reason(outcome: Result<ResultLog>) -> String {
        outcome.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn a_file_that_ends_anywhere_goes_on_after_its_last_whole_line() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.jsonl");
        let lines = ["{\"path\":\"a\"}\n", "{\"path\":\"b\",\"error\":\"broken\"}\n", "{\"path\":\"a\"}\n"];
        let whole = lines.concat();
        for end in 0..=whole.len() {
            for tail in ["", "\0\0\0\0", "\0\n", "{\"pa\n"] {
                if tail.starts_with('{') && !whole[..end].ends_with('\n') {
                    continue;
                }
                fs::write(&path, format!("{}{tail}", &whole[..end]))?;
                let kept = lines.iter().scan(0, |sum, line| {
                    *sum += line.len();
                    Some(*sum)
                });
                let count = kept.filter(|kept| *kept <= end).count();
                let mut log = ResultLog::open(&path, true, &rules())?;
                let found = ["a", "b", "a", "a", "c"].map(|path| log.take_done(Path::new(path)));
                assert_eq!(found, [count > 0, count > 1, count > 2, false, false], "{end} {tail:?}");
                log.append("{\"path\":\"c\"}\n")?;
                drop(log);
                assert_eq!(fs::read_to_string(&path)?, lines[..count].concat() + "{\"path\":\"c\"}\n");
            }
        }
        Ok(())
    }

    #[test]
    fn other_files_stay_as_they_are() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("list.csv");
        for text in [
            "a,b\nc,d\n",
            "{\"path\":\"a\"}\nnotes\n{\"path\":\"b\"}\n",
            "[]\n\n",
            "{}\n{}\n",
            "one line\n",
            "no line",
            "{\"a\": 1}\n",
            "{\"a\": 1}",
        ] {
            fs::write(&path, text)?;
            assert!(reason(ResultLog::open(&path, true, &rules())).contains("is not a result"), "{text:?}");
            assert!(reason(ResultLog::open(&path, false, &rules())).contains("it exists: add --resume"));
            assert_eq!(fs::read_to_string(&path)?, text);
        }
        let inputs = Inputs::from_iter([&path]);
        let forced = OutputRules { force: true, inputs };
        assert!(reason(ResultLog::open(&path, false, &forced)).contains("it is an input"));
        drop(ResultLog::open(&path, false, &OutputRules { force: true, ..rules() })?);
        assert_eq!(fs::read_to_string(&path)?, "");
        assert!(reason(ResultLog::open(folder.path(), false, &rules())).contains("cannot write the results"));
        assert!(reason(ResultLog::open(Path::new("/dev/null"), false, &rules())).contains("not a regular file"));
        Ok(())
    }

    #[test]
    fn one_process_writes() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.jsonl");
        let first = ResultLog::open(&path, false, &rules())?;
        assert!(reason(ResultLog::open(&path, true, &rules())).contains("another process writes to it"));
        drop(first);
        ResultLog::open(&path, true, &rules()).map(drop)
    }
}
