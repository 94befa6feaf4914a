//! Determines what a path for an output designates, links followed.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Most links that are followed from one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// The place of an output.
#[derive(Debug)]
pub(crate) enum Destination {
    /// No file has this name yet.
    New(PathBuf),
    /// A regular file.
    File(PathBuf, Metadata),
    /// A device, such as `/dev/null` or a terminal.
    Device(PathBuf),
    /// A named pipe.
    Pipe(PathBuf),
    /// An open file of this process, such as `/dev/stdout`: its number and its name.
    Descriptor(u32, PathBuf),
}

impl Destination {
    /// Follows the links of `path`.
    ///
    /// # Errors
    /// When the path is a folder, a disk or a socket, or cannot be examined.
    pub(crate) fn of(path: &Path) -> Result<Destination> {
        let last = last_link(path)?;
        if let Some(number) = descriptor(&last) {
            return Ok(Destination::Descriptor(number, last));
        }
        let data = match fs::metadata(path) {
            Ok(data) => data,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Destination::New(last)),
            Err(error) => return Err(error.into()),
        };
        let kind = data.file_type();
        if kind.is_file() {
            return Ok(Destination::File(fs::canonicalize(path)?, data));
        }
        match () {
            () if kind.is_char_device() => Ok(Destination::Device(last)),
            () if kind.is_fifo() => Ok(Destination::Pipe(last)),
            () if kind.is_dir() => bail!("it is a folder: name a file in it"),
            () if kind.is_block_device() => bail!("it is a disk, whose content would be lost: name a file"),
            () => bail!("it is a socket: name a file"),
        }
    }
}

/// Follows the links of the last name of a path, but not into the open files of a process. Folders on the way may be links.
fn last_link(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        if descriptor(&at).is_some() {
            return Ok(at);
        }
        match fs::read_link(&at) {
            // An absolute target replaces the folder.
            Ok(target) => at = folder_of(&at).join(target),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Returns the number of a file that this process has open, if the path is its entry in `/proc/self/fd`.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    (folder == fs::canonicalize("/proc/self/fd").ok()?).then_some(number)
}

/// Returns the folder in which the last name of a path is looked up.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use faceptor_test_support::Folder;

    fn refusal(path: &Path) -> String {
        Destination::of(path).map_or_else(|error| format!("{error:#}"), |found| format!("{found:?}"))
    }

    #[test]
    fn links_are_followed_to_every_kind() -> Result<()> {
        let folder = Folder::new();
        let at = |name: &str| folder.path().join(name);
        folder.write("file", b"x");
        fs::create_dir(at("below"))?;
        symlink("file", at("to-file"))?;
        symlink("to-file", at("below/../to-link"))?;
        symlink("below/new", at("to-new"))?;
        symlink("/dev/null", at("to-null"))?;
        symlink("loop", at("loop"))?;
        symlink("/dev/stdout", at("to-stdout"))?;
        let real = fs::canonicalize(at("file"))?;
        for name in ["file", "to-file", "to-link"] {
            assert!(
                matches!(Destination::of(&at(name))?, Destination::File(path, data) if path == real && data.len() == 1)
            );
        }
        assert!(matches!(Destination::of(&at("none"))?, Destination::New(path) if path == at("none")));
        assert!(matches!(Destination::of(&at("to-new"))?, Destination::New(path) if path == at("below/new")));
        for name in [Path::new("/dev/null"), &at("to-null")] {
            assert!(matches!(Destination::of(name)?, Destination::Device(path) if path == Path::new("/dev/null")));
        }
        for name in [Path::new("/dev/stdout"), Path::new("/dev/fd/1"), Path::new("/proc/self/fd/1"), &at("to-stdout")] {
            assert!(matches!(Destination::of(name)?, Destination::Descriptor(1, _)), "{}", name.display());
        }
        assert!(refusal(&at("loop")).contains("symbolic links"), "{}", refusal(&at("loop")));
        Ok(())
    }

    #[test]
    fn folders_and_sockets_are_refused() -> Result<()> {
        let folder = Folder::new();
        assert!(refusal(folder.path()).contains("it is a folder"));
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket)?;
        assert!(refusal(&socket).contains("it is a socket"));
        assert!(refusal(&folder.path().join("socket/below")).contains("Not a directory"));
        Ok(())
    }
}
