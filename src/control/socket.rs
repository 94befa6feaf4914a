//! The socket as a file: made for its owner alone, taken over from a program that has died, removed at the end.

use std::ffi::CString;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: libc::c_int = 16;
/// How long another program that is just starting on the same socket is waited for.
const START_PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(20);

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("control socket {0}: another faceptor listens there; end it, or give this one another --control")]
    InUse(PathBuf),
    #[error("control socket {0}: a file that is no socket is there; remove it, or give another --control")]
    NoSocket(PathBuf),
    #[error("control socket {0}: its folder is not there; make it, or give another --control")]
    NoFolder(PathBuf),
    #[error("control socket: the folder {0} is not this user's alone; remove it, or give a path to --control")]
    Shared(PathBuf),
    #[error("control socket {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The socket's name in a default folder.
const NAME: &str = "faceptor.sock";
/// The folder of the system service.
const SYSTEM: &str = "/run/faceptor";

/// Where a socket may be when no path is given.
struct SocketPaths {
    /// `$XDG_RUNTIME_DIR`, the user's own folder.
    user: Option<PathBuf>,
    system: PathBuf,
    /// A folder of this user's in the temporary one.
    private: PathBuf,
}

impl SocketPaths {
    fn of_this_process() -> SocketPaths {
        let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
        // SAFETY: no pointers; it cannot fail.
        let owner = unsafe { libc::geteuid() };
        SocketPaths { user, system: SYSTEM.into(), private: std::env::temp_dir().join(format!("faceptor-{owner}")) }
    }

    fn to_listen_at(&self) -> Result<PathBuf, SocketError> {
        if let Some(user) = &self.user {
            return Ok(user.join(NAME));
        }
        if is_writable(&self.system) {
            return Ok(self.system.join(NAME));
        }
        let failed = |error| SocketError::Io(self.private.join(NAME), error);
        match fs::DirBuilder::new().mode(0o700).create(&self.private) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // Anybody can make a folder there: one of somebody else's, or a link, would give the socket away.
        let folder = fs::symlink_metadata(&self.private).map_err(failed)?;
        // SAFETY: no pointers; it cannot fail.
        let is_ours = folder.is_dir() && folder.uid() == unsafe { libc::geteuid() } && folder.mode() & 0o077 == 0;
        if is_ours { Ok(self.private.join(NAME)) } else { Err(SocketError::Shared(self.private.clone())) }
    }

    fn to_connect_to(&self) -> PathBuf {
        if let Some(user) = &self.user {
            return user.join(NAME);
        }
        let (system, private) = (self.system.join(NAME), self.private.join(NAME));
        if !system.exists() && private.exists() { private } else { system }
    }
}

/// Where `run --control` listens when no path is given: `$XDG_RUNTIME_DIR/faceptor.sock`; without that variable
/// `/run/faceptor/faceptor.sock` if its folder can be written, the one of the system service; otherwise a socket in a
/// folder of mode 0700 in the temporary one, which is made.
///
/// # Errors
/// When that folder cannot be made, or is somebody else's.
pub fn path_to_listen_at() -> Result<PathBuf, SocketError> {
    SocketPaths::of_this_process().to_listen_at()
}

/// Where `ctl` looks when no path is given: the same places.
pub fn path_to_connect_to() -> PathBuf {
    SocketPaths::of_this_process().to_connect_to()
}

fn is_writable(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` ends with a zero and outlives the call, which only reads it.
    folder.is_dir() && unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } == 0
}

/// A listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct BoundSocket {
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that nobody else's file is ever removed.
    identity: Option<(u64, u64)>,
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, mode 0600 from the start, non-blocking.
pub fn bind(path: &Path) -> Result<BoundSocket, SocketError> {
    let failed = |error| SocketError::Io(path.to_owned(), error);
    // Held until the socket listens: of two that start at once, none removes the other's socket as a dead one.
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

/// Connects to `path` and waits at most `patience` while the other side has no room for another connection.
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + patience;
    loop {
        match try_connect(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => thread::sleep(RETRY),
            other => return other,
        }
    }
}

/// Whether the file is a socket, of a live program or a dead one.
pub fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Removes a socket whose program has died; a live one, or what is no socket, is an error.
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
        // No room for another connection: somebody is there.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
        _ => Err(SocketError::InUse(path.to_owned())),
    }
}

/// A lock on the folder of the socket, as far as it can be had.
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
    let (address, length) = address(path)?;
    let socket = socket()?;
    // Before it has a name: a socket's file gets the mode of the socket, less the umask.
    let socket = File::from(socket);
    socket.set_permissions(Permissions::from_mode(0o600))?;
    // SAFETY: `address` is a valid sockaddr_un of `length` bytes; the call only reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: the descriptor is open and owned by `socket`.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Connects without waiting; `WouldBlock` when the other side has no room.
fn try_connect(path: &Path) -> io::Result<UnixStream> {
    let (address, length) = address(path)?;
    let socket = socket()?;
    // SAFETY: `address` is a valid sockaddr_un of `length` bytes; the call only reads it.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A new non-blocking stream socket.
fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; a descriptor that is not negative is new and ours alone.
    let descriptor = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: all zeros is a valid sockaddr_un: integers and an array of them.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    let bytes = path.as_os_str().as_bytes();
    // Its path ends with a zero.
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() >= address.sun_path.len() {
        let most = address.sun_path.len() - 1;
        let what = format!("the path of a socket has 1 to {most} bytes, this one {}", bytes.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let length = mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    Ok((address, length as libc::socklen_t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Folder;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn only_the_owner_may_use_it_and_it_goes_at_the_end() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().join("s");
        let bound = bind(&path).expect("a socket");
        assert_eq!(mode(&path), 0o600);
        assert!(connect(&path, Duration::ZERO).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn without_a_path_there_is_a_place_that_is_the_users_alone() {
        let folder = Folder::new().expect("a folder");
        let inside = |name: &str| folder.path().join(name);
        let places = |user: Option<&str>| SocketPaths {
            user: user.map(inside),
            system: inside("system"),
            private: inside("private"),
        };
        let user = places(Some("user"));
        assert_eq!(user.to_listen_at().ok(), Some(inside("user").join(NAME)));
        assert_eq!(user.to_connect_to(), inside("user").join(NAME));
        let places = places(None);
        let private = places.to_listen_at().expect("a folder can be made");
        assert_eq!((private.as_path(), mode(&inside("private"))), (inside("private").join(NAME).as_path(), 0o700));
        assert_eq!(places.to_connect_to(), inside("system").join(NAME), "the place to name when nobody listens");
        let bound = bind(&private).expect("a socket");
        assert_eq!((places.to_connect_to(), places.to_listen_at().ok()), (private.clone(), Some(private)));
        drop(bound);
        // A folder that others may enter is not trusted.
        fs::set_permissions(inside("private"), Permissions::from_mode(0o755)).expect("our own");
        let refused = places.to_listen_at().expect_err("it is shared");
        assert!(refused.to_string().contains("not this user's alone"), "{refused}");
        fs::remove_dir(inside("private")).expect("it is empty");
        std::os::unix::fs::symlink(folder.path(), inside("private")).expect("a link");
        assert!(matches!(places.to_listen_at(), Err(SocketError::Shared(_))));
        // The system service's folder comes first where it can be written.
        fs::create_dir(inside("system")).expect("a folder");
        assert_eq!(places.to_listen_at().ok(), Some(inside("system").join(NAME)));
    }

    #[test]
    fn a_dead_socket_is_taken_over_a_live_one_is_not() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().join("s");
        // The standard library leaves the file behind, as a killed program does.
        drop(UnixListener::bind(&path).expect("a socket"));
        let bound = bind(&path).expect("taken over");
        let refused = bind(&path).expect_err("it is in use");
        assert!(matches!(refused, SocketError::InUse(_)), "{refused}");
        assert!(connect(&path, Duration::ZERO).is_ok(), "the first one still listens");
        drop(bound);
    }

    #[test]
    fn a_server_that_accepts_nobody_counts_as_live() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().join("s");
        let _bound = bind(&path).expect("a socket");
        let waiting: Vec<_> = (0..=BACKLOG).map_while(|_| connect(&path, Duration::ZERO).ok()).collect();
        assert_eq!(connect(&path, Duration::ZERO).expect_err("no room").kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(waiting);
    }

    #[test]
    fn other_files_stay() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().join("s");
        fs::write(&path, "a user's file").expect("written");
        assert!(matches!(bind(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read(&path).expect("still there"), b"a user's file");
        // And at the end, when somebody has put another file in the place of the socket.
        fs::remove_file(&path).expect("removed");
        let bound = bind(&path).expect("a socket");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "another").expect("written");
        drop(bound);
        assert_eq!(fs::read(&path).expect("still there"), b"another");
    }

    #[test]
    fn one_of_many_that_start_at_once_gets_it() {
        let folder = Folder::new().expect("a folder");
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
    fn bad_paths_have_reasons() {
        let folder = Folder::new().expect("a folder");
        let long = bind(&folder.path().join("x".repeat(108))).expect_err("too long").to_string();
        assert!(long.contains("1 to 107 bytes"), "{long}");
        let missing = bind(&folder.path().join("no/s")).expect_err("no folder").to_string();
        assert!(missing.contains("no/s: its folder is not there"), "{missing}");
        assert!(bind(Path::new("")).is_err());
    }
}
