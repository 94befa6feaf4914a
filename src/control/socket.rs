//! The socket's file: created for its owner alone, taken over from a program that has died, removed at the end.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 16;
/// The longest path in bytes: `sun_path` of `sockaddr_un`, less the zero at its end.
const MAX_PATH: usize = 107;
/// Longest wait for another program that is just starting on the same socket.
const START_PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);

/// The reason why a socket could not be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("control socket {0}: another faceptor listens there; end it, or give this one another --control")]
    InUse(PathBuf),
    #[error("control socket {0}: the file there is not a socket; remove it, or give another --control")]
    NoSocket(PathBuf),
    #[error("control socket {0}: its folder does not exist; create it, or give another --control")]
    NoFolder(PathBuf),
    #[error("control socket: the folder {0} is not private to this user; remove it, or give a path to --control")]
    Shared(PathBuf),
    #[error("control socket {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// A listening socket. Dropping it removes its file.
#[derive(Debug)]
pub struct BoundSocket {
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that no other file is ever removed.
    identity: Option<(u64, u64)>,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, with mode 0600 from the start, non-blocking.
///
/// # Errors
/// When another program listens there, the file there is not a socket, or the folder does not exist.
pub fn bind(path: &Path) -> Result<BoundSocket, SocketError> {
    let failed = |error| SocketError::Io(path.to_owned(), error);
    // Held until the socket listens: otherwise one of two programs that start at once could remove the other's socket.
    let _lock = lock_folder(path);
    let listener = match listen(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead(path)?;
            listen(path)
        }
        other => other,
    };
    let listener = listener.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SocketError::NoFolder(path.to_owned()),
        _ => failed(error),
    })?;
    Ok(BoundSocket { listener, path: path.to_owned(), identity: identity(path) })
}

/// Connects to `path`. Waits at most `patience` while the server's queue of connections is full.
///
/// # Errors
/// When no program listens there; `WouldBlock` when the queue stays full.
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + patience;
    loop {
        match try_connect(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => thread::sleep(RETRY),
            other => return other,
        }
    }
}

/// Returns whether the file is a socket, of a running program or a dead one.
pub fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Removes a socket whose program has died. The socket of a running program, or another file, is an error.
fn remove_dead(path: &Path) -> Result<(), SocketError> {
    let failed = |error| SocketError::Io(path.to_owned(), error);
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    if !file.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    match try_connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The queue of connections is full: a program listens there.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
        _ => Err(SocketError::InUse(path.to_owned())),
    }
}

/// Locks the folder of the socket. Returns `None` when it cannot be locked.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder).ok()?;
    let until = Instant::now() + START_PATIENCE;
    loop {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(RETRY),
            Err(_) => return None,
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let address = address(path)?;
    // Before it has a name: a socket's file gets the mode of the socket, less the umask.
    let socket = File::from(socket()?);
    socket.set_permissions(Permissions::from_mode(0o600))?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Connects without waiting; `WouldBlock` when the other side has no room.
fn try_connect(path: &Path) -> io::Result<UnixStream> {
    let address = address(path)?;
    let socket = socket()?;
    net::connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Makes a non-blocking stream socket.
fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() > MAX_PATH {
        let what = format!("the path of a socket has 1 to {MAX_PATH} bytes, this one {}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(SocketAddrUnix::new(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn socket_is_private_and_removed_on_drop() {
        let folder = Folder::new();
        let path = folder.path().join("s");
        let bound = bind(&path).expect("a socket");
        assert_eq!(mode(&path), 0o600);
        assert!(connect(&path, Duration::ZERO).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn dead_socket_is_taken_over_but_not_a_live_one() {
        let folder = Folder::new();
        let path = folder.path().join("s");
        // The standard library does not remove the file, as a killed program does not.
        drop(UnixListener::bind(&path).expect("a socket"));
        let bound = bind(&path).expect("taken over");
        let refused = bind(&path).expect_err("it is in use");
        assert!(matches!(refused, SocketError::InUse(_)), "{refused}");
        assert!(connect(&path, Duration::ZERO).is_ok(), "the first one still listens");
        drop(bound);
    }

    #[test]
    fn full_backlog_counts_as_live() {
        let folder = Folder::new();
        let path = folder.path().join("s");
        let _bound = bind(&path).expect("a socket");
        let waiting: Vec<_> = (0..=BACKLOG).map_while(|_| connect(&path, Duration::ZERO).ok()).collect();
        assert_eq!(connect(&path, Duration::ZERO).expect_err("no room").kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(waiting);
    }

    #[test]
    fn other_files_are_not_removed() {
        let folder = Folder::new();
        let path = folder.path().join("s");
        fs::write(&path, "a user's file").expect("written");
        assert!(matches!(bind(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read(&path).expect("still there"), b"a user's file");
        // Also on drop, when another file has taken the place of the socket.
        fs::remove_file(&path).expect("removed");
        let bound = bind(&path).expect("a socket");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "another").expect("written");
        drop(bound);
        assert_eq!(fs::read(&path).expect("still there"), b"another");
    }

    #[test]
    fn one_of_many_concurrent_binds_succeeds() {
        let folder = Folder::new();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).expect("a dead socket"));
        let (path, together) = (&path, &std::sync::Barrier::new(8));
        let start = move || {
            together.wait();
            bind(path)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    }

    #[test]
    fn bad_paths_are_refused_with_a_reason() {
        let folder = Folder::new();
        let long = bind(&folder.path().join("x".repeat(108))).expect_err("too long").to_string();
        assert!(long.contains("1 to 107 bytes"), "{long}");
        let missing = bind(&folder.path().join("no/s")).expect_err("no folder").to_string();
        assert!(missing.contains("no/s: its folder does not exist"), "{missing}");
        assert!(bind(Path::new("")).is_err());
    }
}
