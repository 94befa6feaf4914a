//! The lock of an update: one runs at a time, and loops see whether it still does.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

const NAME: &str = "lock";
/// Attempts to take it: a loop that looks whether it is held holds it for a moment itself.
const ATTEMPTS: u32 = 20;
const RETRY: Duration = Duration::from_millis(10);

/// The lock, which ends with its program, however that ends.
#[derive(Debug)]
pub(crate) struct UpdateLock(#[expect(dead_code, reason = "holds the lock")] File);

impl UpdateLock {
    /// Takes the lock of a folder.
    ///
    /// # Errors
    /// When the folder cannot be written, or another update runs.
    pub(crate) fn take(folder: &Path) -> Result<UpdateLock> {
        let path = folder.join(NAME);
        let failed = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(failed)?;
        // Loops of other users open it to look.
        file.set_permissions(Permissions::from_mode(0o644)).with_context(failed)?;
        for _ in 0..ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(UpdateLock(file)),
                Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
                Err(TryLockError::Error(error)) => return Err(anyhow!(error)).with_context(failed),
            }
        }
        bail!("another `faceptor update` works in {}: wait until it has ended", folder.display())
    }
}

/// Returns whether an update runs in this folder.
pub(crate) fn is_held(folder: &Path) -> bool {
    File::open(folder.join(NAME)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn one_update_at_a_time() {
        let folder = Folder::new();
        assert!(!is_held(folder.path()));
        let lock = UpdateLock::take(folder.path()).expect("free");
        assert!(is_held(folder.path()) && is_held(folder.path()));
        let refused = UpdateLock::take(folder.path()).expect_err("held").to_string();
        assert!(refused.contains("another `faceptor update` works in"), "{refused}");
        drop(lock);
        assert!(!is_held(folder.path()));
        assert!(UpdateLock::take(folder.path()).is_ok());
        let absent = UpdateLock::take(&folder.path().join("absent")).expect_err("no folder");
        assert!(format!("{absent:#}").contains("absent/lock"), "{absent:#}");
    }
}
