//! Where the control socket is when no path is given.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::geteuid;

use crate::control::socket::SocketError;

/// The socket's name in a default folder.
const NAME: &str = "faceptor.sock";
/// The folder of the system service.
const SYSTEM: &str = "/run/faceptor";

/// Folders that may hold the socket.
struct SocketPaths {
    /// `$XDG_RUNTIME_DIR`, the user's own folder.
    user: Option<PathBuf>,
    system: PathBuf,
    /// A private folder of this user under `$TMPDIR`.
    private: PathBuf,
}

impl SocketPaths {
    fn of_this_process() -> SocketPaths {
        let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let private = std::env::temp_dir().join(format!("faceptor-{}", geteuid().as_raw()));
        SocketPaths { user, system: SYSTEM.into(), private }
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
        // Every user can create this folder: a folder of another user, or a link, would expose the socket.
        let folder = fs::symlink_metadata(&self.private).map_err(failed)?;
        let is_ours = folder.is_dir() && folder.uid() == geteuid().as_raw() && folder.mode() & 0o077 == 0;
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

/// Returns where `run --control` listens when no path is given: `$XDG_RUNTIME_DIR/faceptor.sock`; without that variable
/// `/run/faceptor/faceptor.sock`, the socket of the system service, if its folder can be written; otherwise
/// `faceptor.sock` in a private folder (mode 0700) under `$TMPDIR`, which is created.
///
/// # Errors
/// When that folder cannot be created, or other users may enter it.
pub fn path_to_listen_at() -> Result<PathBuf, SocketError> {
    SocketPaths::of_this_process().to_listen_at()
}

/// Returns where `ctl` connects when no path is given: the first of the same places that has a socket.
pub fn path_to_connect_to() -> PathBuf {
    SocketPaths::of_this_process().to_connect_to()
}

fn is_writable(folder: &Path) -> bool {
    folder.is_dir() && rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::control::socket::bind;
    use faceptor_test_support::Folder;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn default_paths_are_private_to_the_user() {
        let folder = Folder::new();
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
        assert_eq!(places.to_connect_to(), inside("system").join(NAME), "the place to name when there is no socket");
        let bound = bind(&private).expect("a socket");
        assert_eq!((places.to_connect_to(), places.to_listen_at().ok()), (private.clone(), Some(private)));
        drop(bound);
        // A folder that others may enter is not trusted.
        fs::set_permissions(inside("private"), Permissions::from_mode(0o755)).expect("our own");
        let refused = places.to_listen_at().expect_err("it is shared");
        assert!(refused.to_string().contains("not private to this user"), "{refused}");
        fs::remove_dir(inside("private")).expect("it is empty");
        std::os::unix::fs::symlink(folder.path(), inside("private")).expect("a link");
        assert!(matches!(places.to_listen_at(), Err(SocketError::Shared(_))));
        // The system service's folder comes first where it can be written.
        fs::create_dir(inside("system")).expect("a folder");
        assert_eq!(places.to_listen_at().ok(), Some(inside("system").join(NAME)));
    }
}
