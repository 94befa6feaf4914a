//! The file of a gallery: read as a whole, appended to, or replaced as a whole.
//!
//! The order of the writes makes a kill at any byte harmless. To append: the new records, a flush to the disk, then the mark that
//! is older, and a flush again. To replace: another file, a flush, then a rename over the first.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{GalleryError, Result};
use crate::platform::Platform;

/// Suffix of a file that is being written.
const PART_SUFFIX: &str = ".part";
/// Suffix of the file that a writer locks. It stays empty.
const LOCK_SUFFIX: &str = ".lock";
/// The largest gallery, bytes.
const MOST_BYTES: u64 = 8 << 30;

/// The operations on the file, so that tests can end them at any byte.
pub(crate) trait Disk: Send {
    /// Reads the whole file.
    fn read(&mut self) -> Result<Vec<u8>>;
    /// Writes at a place of the file.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to a length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Waits until what was written lies on the disk.
    fn flush(&mut self) -> io::Result<()>;
    /// Writes another file beside this one, up to its flush to the disk.
    fn write_part(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Puts that file in the place of this one.
    fn rename_part(&mut self) -> io::Result<()>;
}

pub(crate) const WRITE: &str = "cannot write the gallery";

/// Appends records and renews a mark.
pub(crate) fn append(disk: &mut dyn Disk, at: u64, records: &[u8], mark_at: u64, mark: &[u8]) -> Result<()> {
    let written = disk.write_at(at, records).and_then(|()| disk.flush());
    if let Err(reason) = written {
        // A full disk: what was written of the records is of no use. If this fails too, opening will ignore them.
        let _ = disk.cut(at);
        return Err(GalleryError::Io { action: WRITE, reason });
    }
    disk.write_at(mark_at, mark).and_then(|()| disk.flush()).map_err(GalleryError::io(WRITE))
}

/// Replaces the whole file.
pub(crate) fn replace(disk: &mut dyn Disk, bytes: &[u8]) -> Result<()> {
    disk.write_part(bytes).and_then(|()| disk.rename_part()).map_err(GalleryError::io(WRITE))
}

/// A file of the file system.
pub(crate) struct FileDisk {
    path: PathBuf,
    platform: Platform,
    /// The gallery, opened for writing once it is written to.
    file: Option<File>,
    /// Holds the lock of a writer.
    lock: Option<File>,
}

impl FileDisk {
    /// Takes a path, which may lead through links: the file that they lead to is replaced, and not they.
    pub fn new(path: &Path, platform: Platform) -> FileDisk {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        FileDisk { path, platform, file: None, lock: None }
    }

    /// Becomes the only writer. A file that may not be written is reported before any work: without this check, changes that
    /// replace the file would succeed and those that append to it would not.
    pub fn lock(&mut self) -> Result<()> {
        if fs::metadata(&self.path).is_ok_and(|kind| kind.permissions().readonly()) {
            return Err(GalleryError::Protected);
        }
        let lock = (self.platform.create)(&self.beside(LOCK_SUFFIX));
        let lock = lock.map_err(GalleryError::io("cannot write beside the gallery"))?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(fs::TryLockError::WouldBlock) => return Err(GalleryError::Busy),
            Err(fs::TryLockError::Error(reason)) => {
                return Err(GalleryError::Io { action: "cannot lock the gallery", reason });
            }
        }
        Ok(())
    }

    /// Returns a function that reports whether a process writes to the gallery now.
    pub fn lock_probe(&self) -> impl Fn() -> bool + use<> {
        let path = self.beside(LOCK_SUFFIX);
        move || {
            let lock = File::open(&path);
            lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
        }
    }

    pub fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    }

    fn opened(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().read(true).write(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

impl Disk for FileDisk {
    fn read(&mut self) -> Result<Vec<u8>> {
        let unreadable = || GalleryError::io("cannot read the gallery");
        // Before it is opened: opening a pipe would wait for its other end.
        let kind = fs::metadata(&self.path).map_err(unreadable())?;
        if kind.is_dir() {
            return Err(GalleryError::NotAFile("this is a folder"));
        }
        if !kind.is_file() {
            return Err(GalleryError::NotAFile("this is a device, pipe or socket"));
        }
        if kind.len() > MOST_BYTES {
            return Err(GalleryError::TooLarge(kind.len()));
        }
        let mut bytes = Vec::new();
        File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(unreadable())?;
        Ok(bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.opened()?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.opened()?.set_len(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.opened()?.sync_data()
    }

    fn write_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        let part = self.beside(PART_SUFFIX);
        let mut file = (self.platform.create)(&part)?;
        let mut write = || {
            // Who may read the gallery stays as it is.
            if let Ok(present) = fs::metadata(&self.path) {
                file.set_permissions(present.permissions())?;
            }
            file.write_all(bytes)?;
            file.sync_all()
        };
        let written = write();
        if written.is_err() {
            // Nothing more can be done when this fails too.
            let _ = fs::remove_file(part);
        }
        written
    }

    fn rename_part(&mut self) -> io::Result<()> {
        let part = self.beside(PART_SUFFIX);
        if let Err(reason) = fs::rename(&part, &self.path) {
            let _ = fs::remove_file(part);
            return Err(reason);
        }
        self.file = None;
        // The name itself reaches the disk with its folder, where the system can open one as a file.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}
