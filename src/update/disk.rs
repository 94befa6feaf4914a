//! The single steps that change a folder of versions, so that tests can end an update at each.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Operations on files, each of which a file system does as a whole, or fails.
pub(crate) trait Disk {
    /// Returns the names in a folder; none if there is no such folder.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Returns what a link points to; `None` if nothing has that name.
    fn target(&self, link: &Path) -> io::Result<Option<PathBuf>>;
    /// Makes a folder that every user may enter.
    fn make_folder(&mut self, folder: &Path) -> io::Result<()>;
    /// Makes a file that every user may read, and waits until its bytes lie on the disk.
    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a symbolic link.
    fn link(&mut self, target: &str, link: &Path) -> io::Result<()>;
    /// Gives a file, link or folder another name, which may be a file's or link's.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, a link, or a folder with all that it holds. Nothing of that name is no error.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder lie on the disk.
    fn flush(&mut self, folder: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileDisk;

impl Disk for FileDisk {
    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn target(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(link) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)?;
        // The service has a user of its own, and the umask of an administrator may shut it out.
        fs::set_permissions(folder, Permissions::from_mode(0o755))
    }

    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(file)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn link(&mut self, target: &str, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(data) if data.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn flush(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}
