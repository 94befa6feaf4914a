//! A file that gets its name only when it is complete.
//!
//! It is written under a hidden name in the same folder and locked while its program lives. What a killed program left is
//! not locked, and the next command that writes into the folder removes it.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, Gid, RenameFlags, Uid};
use rustix::io::Errno;

const PREFIX: &str = ".faceptor-";
const SUFFIX: &str = ".part";
/// The permissions of a new file, less the umask.
pub(super) const NEW_MODE: u32 = 0o666;

/// Numbers the part files of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Folders in which this process has removed what was left.
static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The file; it is removed unless it is published.
#[derive(Debug)]
pub(super) struct PartFile {
    path: PathBuf,
    file: BufWriter<File>,
    published: bool,
}

impl PartFile {
    /// Makes the file in `folder`.
    ///
    /// # Errors
    /// When the folder does not exist or cannot be written to.
    pub(super) fn create(folder: &Path, mode: u32) -> io::Result<PartFile> {
        if TIDIED.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
            remove_left(folder);
        }
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    let part = PartFile { path, file: BufWriter::new(file), published: false };
                    if part.is_locked()? {
                        return Ok(part);
                    }
                }
            }
        }
    }

    /// Locks the file. Returns false when another program took it for one that was left, before it was locked.
    fn is_locked(&self) -> io::Result<bool> {
        match self.file.get_ref().try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            // Some file systems have no locks; there nothing that was left is removed.
            Err(TryLockError::Error(_)) => Ok(true),
            Ok(()) => Ok(self.file.get_ref().metadata()?.nlink() > 0),
        }
    }

    /// Gives the file the name `target` if no file has it. Returns false if one has.
    ///
    /// # Errors
    /// When what was written does not fit on the disk, or the file cannot be renamed.
    pub(super) fn publish_new(&mut self, target: &Path) -> io::Result<bool> {
        self.file.flush()?;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(false),
            // The file system cannot do it in one step: the name is taken first, by an empty file.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                match OpenOptions::new().write(true).create_new(true).open(target) {
                    Ok(_) => fs::rename(&self.path, target)?,
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.published = true;
        Ok(true)
    }

    /// Puts the file in the place of `target`, with that file's permissions, and with its owner if this user may give
    /// files away.
    ///
    /// # Errors
    /// When what was written does not fit on the disk, or the file cannot be renamed.
    pub(super) fn publish_over(&mut self, target: &Path, old: &Metadata) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_ref();
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            // Only root may; then the file belongs to the user who replaced it.
            let _ = rustix::fs::fchown(file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())));
        }
        if own.mode() != old.mode() {
            file.set_permissions(old.permissions())?;
        }
        fs::rename(&self.path, target)?;
        self.published = true;
        Ok(())
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done when this fails too.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the part files of programs that were killed.
fn remove_left(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_part_name(entry.file_name().as_encoded_bytes()) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let path = entry.path();
            // A living program has locked its own.
            if let Ok(file) = File::open(&path)
                && file.try_lock().is_ok()
                && fs::remove_file(&path).is_ok()
            {
                log::debug!("{}: left by a program that was killed, removed", path.display());
            }
        }
    }
}

/// Returns whether this program gives such names to part files.
fn is_part_name(name: &[u8]) -> bool {
    let middle = name.strip_prefix(PREFIX.as_bytes()).and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    middle.is_some_and(|middle| {
        let mut numbers = middle.split(|&byte| byte == b'-');
        let is_number = |number: Option<&[u8]>| {
            number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
        };
        is_number(numbers.next()) && is_number(numbers.next()) && numbers.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn names_of_part_files() {
        for (name, expected) in [
            (".faceptor-12-3.part", true),
            (".faceptor-12.part", false),
            (".faceptor-12-3-4.part", false),
            (".faceptor-a-3.part", false),
            (".faceptor-12-.part", false),
            ("faceptor-12-3.part", false),
            ("a.png.part", false),
        ] {
            assert_eq!(is_part_name(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn only_what_no_program_holds_is_removed() -> io::Result<()> {
        let folder = Folder::new();
        for name in [".faceptor-1-0.part", "a.part", ".faceptor-x-0.part"] {
            folder.write(name, b"left");
        }
        let held = folder.write(".faceptor-1-1.part", b"held");
        let held = File::open(held)?;
        held.lock()?;
        let mut part = PartFile::create(folder.path(), NEW_MODE)?;
        part.write_all(b"new")?;
        let own = part.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut expected =
            vec![".faceptor-1-1.part".to_owned(), ".faceptor-x-0.part".to_owned(), own, "a.part".to_owned()];
        expected.sort();
        assert_eq!(folder.names(""), expected);
        remove_left(folder.path());
        assert_eq!(folder.names(""), expected, "its own is locked");
        drop(part);
        assert_eq!(folder.names("").len(), 3);
        Ok(())
    }

    #[test]
    fn a_name_that_is_taken_is_left_alone_and_modes_are_kept() -> io::Result<()> {
        let folder = Folder::new();
        let old = folder.write("old", b"old");
        let mut part = PartFile::create(folder.path(), NEW_MODE)?;
        part.write_all(b"new")?;
        assert!(!part.publish_new(Path::new(&old))?);
        assert_eq!(fs::read(&old)?, b"old");
        fs::set_permissions(&old, PermissionsExt::from_mode(0o640))?;
        part.publish_over(Path::new(&old), &fs::metadata(&old)?)?;
        assert_eq!((fs::read(&old)?, fs::metadata(&old)?.mode() & 0o777), (b"new".to_vec(), 0o640));
        let mut part = PartFile::create(folder.path(), NEW_MODE)?;
        part.write_all(b"more")?;
        assert!(part.publish_new(&folder.path().join("more"))?);
        drop(part);
        assert_eq!(folder.names(""), ["more", "old"]);
        Ok(())
    }
}
