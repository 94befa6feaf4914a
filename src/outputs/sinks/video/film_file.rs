//! The file of a film that is being made: by the same rules as every other output.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::files::destination::Destination;
use crate::files::output_file::OutputRules;
use crate::files::result_kind::ResultKind;

/// A file that is locked for this run, for another program to write into.
#[derive(Debug)]
pub(crate) struct FilmFile {
    path: PathBuf,
    /// Holds the lock.
    file: File,
    is_new: bool,
}

impl FilmFile {
    /// Opens or creates the file and locks it.
    ///
    /// # Errors
    /// When it must not be replaced, cannot be written, or another run makes a film there; the message names it.
    pub(crate) fn open(path: &Path, rules: &OutputRules) -> Result<FilmFile> {
        FilmFile::try_open(path, rules).with_context(|| format!("cannot make the film {}", path.display()))
    }

    fn try_open(path: &Path, rules: &OutputRules) -> Result<FilmFile> {
        ensure!(path.extension().is_some(), "its ending says which kind of film it is: name it film.mp4 or film.mkv");
        let (path, is_new) = match Destination::of(path)? {
            Destination::New(path) => (path, true),
            Destination::File(path, data) => {
                rules.permit(&path, &data, ResultKind::Film)?;
                (path, false)
            }
            _ => bail!("a film needs a file; `--video -` writes to a pipe"),
        };
        let mut options = OpenOptions::new();
        // This program writes no byte.
        options.write(true).mode(0o666).create(is_new);
        let file = options.open(&path)?;
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => bail!("another run makes a film there"),
            // Some file systems have no locks.
            Err(fs::TryLockError::Error(_)) | Ok(()) => {}
        }
        let path = fs::canonicalize(path)?;
        Ok(FilmFile { path, file, is_new })
    }

    /// Returns its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file if this run has created it and nothing was written.
    pub(crate) fn remove_if_empty(&self) {
        if self.is_new
            && self.file.metadata().is_ok_and(|data| data.len() == 0)
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn files_of_others_and_inputs_are_kept() -> Result<()> {
        let folder = Folder::new();
        let rules = OutputRules::default();
        let other = folder.write("other.mp4", b"a film of other origin");
        let own = folder.write("own.mkv", b"\x1a\x45... Faceptor Edge 1.2.3 ...");
        let refusal = |path: &str, rules: &OutputRules| {
            format!("{:#}", FilmFile::open(Path::new(path), rules).expect_err("refused"))
        };
        assert!(refusal(&other, &rules).contains("add --force"), "{}", refusal(&other, &rules));
        assert!(refusal(&folder.file("film"), &rules).contains("film.mp4"));
        assert!(refusal("/dev/null.mp4/x.mp4", &rules).contains("cannot make the film"));
        assert!(refusal(&folder.path().display().to_string(), &rules).contains("cannot make the film"));
        let input = OutputRules { force: true, inputs: [&own].into_iter().collect() };
        assert!(refusal(&own, &input).contains("input of this command"));
        let first = FilmFile::open(Path::new(&own), &rules)?;
        assert!(refusal(&own, &rules).contains("another run"));
        first.remove_if_empty();
        drop(first);
        let forced = OutputRules { force: true, ..rules.clone() };
        drop(FilmFile::open(Path::new(&other), &forced)?);
        let fresh = FilmFile::open(Path::new(&folder.file("new.mp4")), &rules)?;
        fresh.remove_if_empty();
        assert_eq!(folder.names(""), ["other.mp4", "own.mkv"], "nothing was cut or left");
        assert!(fs::read(&other)?.starts_with(b"a film"));
        Ok(())
    }
}
