//! Files that hold a secret: only their owner may read them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use faceptor_gallery::KeySource;
use rustix::fs::{Access, OFlags, access};
use zeroize::Zeroizing;

/// The most bytes that are read of a key file.
const MOST_BYTES: u64 = 4096;
/// Name of the key among the credentials of a systemd service.
const CREDENTIAL: &str = "faceptor.key";

/// Creates a file that only its owner may read and write, or empties the one that is there.
///
/// # Errors
/// When it cannot be made, or a link, folder, device or pipe has its name: what a link leads to is never emptied.
pub fn create_private(path: &Path) -> io::Result<File> {
    let in_the_way = |what: &str| io::Error::other(format!("{} is {what}, and no file: remove it", path.display()));
    // Opening a pipe would wait for its other end.
    match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_symlink() => return Err(in_the_way("a link")),
        Ok(kind) if !kind.is_file() => return Err(in_the_way("a folder, device or pipe")),
        _ => {}
    }
    // Also if it was put there a moment ago.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).custom_flags(flags.bits() as i32);
    options.open(path)
}

/// Checks that files can be made in the folder of a path.
///
/// # Errors
/// When there is no such folder, or this account may not write in it, or the file system is mounted for reading only.
pub fn check_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Creates a file that only its owner may read and write.
///
/// # Errors
/// When there is a file already, or it cannot be made.
pub fn create_new_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes a new key of 64 hexadecimal digits, which only its owner may read.
///
/// # Errors
/// When there is a file already, or it cannot be written.
pub fn make(path: &Path) -> Result<()> {
    let mut key = Zeroizing::new([0u8; 32]);
    crate::random::fill(&mut *key).context("cannot get random numbers")?;
    let mut text = Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    text.push('\n');
    let written = File::options().write(true).create_new(true).mode(0o400).open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if written.as_ref().is_err_and(|reason| reason.kind() != io::ErrorKind::AlreadyExists) {
        // A full disk: part of a key is of no use.
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write the key {}", path.display()))
}

/// Reads the key of a gallery from a file of mode 0400 or 0600.
///
/// # Errors
/// As [`read`], and when the file holds no key.
pub fn key(path: &Path) -> Result<KeySource> {
    KeySource::from_file_content(&read(path)?).with_context(|| format!("the key {}", path.display()))
}

/// Reads a key file of mode 0400 or 0600.
///
/// # Errors
/// When it cannot be read, is not a regular file, or others than its owner may read it.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // The group may not read it either.
    read_unless(path, 0o077).with_context(|| format!("the key {}", path.display()))
}

/// Reads the key among the credentials of a systemd service (`LoadCredential=faceptor.key:...` or
/// `LoadCredentialEncrypted=`). Returns `None` outside of a service, or without such a credential.
///
/// # Errors
/// When there is one that cannot be read.
pub fn read_credential() -> Result<Option<Zeroizing<Vec<u8>>>> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(folder).join(CREDENTIAL);
    if !path.exists() {
        return Ok(None);
    }
    // systemd lets the service's user read it by an access list, which shows as rights of the group.
    read_unless(&path, 0o007).map(Some).with_context(|| format!("the credential {}", path.display()))
}

/// Reads a file that none of the permissions `forbidden` are given to.
fn read_unless(path: &Path, forbidden: u32) -> Result<Zeroizing<Vec<u8>>> {
    let kind = fs::metadata(path).context("cannot be read")?;
    ensure!(kind.is_file(), "is not a regular file");
    let file = File::open(path).context("cannot be read")?;
    // Of the file that is open, not of what may have taken its place.
    let mode = file.metadata().context("cannot be read")?.mode() & 0o7777;
    if mode & forbidden != 0 {
        bail!("can be read by others than its owner (mode {mode:04o}): chmod 0400 {}", path.display());
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(MOST_BYTES + 1).read_to_end(&mut content).context("cannot be read")?;
    ensure!(content.len() as u64 <= MOST_BYTES, "has more than {MOST_BYTES} bytes");
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn key_is_made_once_and_read_by_its_owner_alone() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("key");
        make(&path)?;
        assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o400);
        let key = read(&path)?;
        assert!(key.len() == 65 && key[..64].iter().all(u8::is_ascii_hexdigit));
        let error = make(&path).expect_err("it is there");
        assert!(format!("{error:#}").contains("cannot write the key"), "{error:#}");
        assert_eq!(*read(&path)?, *key);
        for mode in [0o440, 0o404, 0o644, 0o660, 0o410, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            let error = format!("{:#}", read(&path).expect_err("others may read it"));
            assert!(error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 0400"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        assert_eq!(*read(&path)?, *key);
        Ok(())
    }

    #[test]
    fn private_files_take_the_place_of_files_alone() -> Result<()> {
        let folder = Folder::new();
        let path = |name: &str| folder.path().join(name);
        folder.write("mine", b"kept");
        std::os::unix::fs::symlink(path("mine"), path("link"))?;
        std::os::unix::fs::symlink(path("none"), path("nowhere"))?;
        fs::create_dir(path("folder"))?;
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status()?;
        assert!(made.success());
        for name in ["link", "nowhere", "folder", "pipe"] {
            let error = create_private(&path(name)).expect_err("no file").to_string();
            assert!(error.contains(name) && error.contains("remove it"), "{error}");
        }
        assert_eq!(fs::read(path("mine"))?, b"kept");
        assert!(!path("none").exists());
        create_private(&path("mine"))?.write_all(b"new")?;
        assert_eq!(fs::read(path("mine"))?, b"new");
        create_private(&path("other"))?;
        assert_eq!(fs::metadata(path("other"))?.mode() & 0o7777, 0o600);
        Ok(())
    }

    #[test]
    fn folder_of_a_new_file_is_checked() {
        let folder = Folder::new();
        let file = folder.write("file", b"x");
        let kind = |path: &Path| check_folder(path).map_err(|reason| reason.kind());
        assert_eq!(kind(&folder.path().join("new")), Ok(()));
        assert_eq!(kind(Path::new("new")), Ok(()));
        assert_eq!(kind(&folder.path().join("none/new")), Err(io::ErrorKind::NotFound));
        assert_eq!(kind(&Path::new(&file).join("new")), Err(io::ErrorKind::NotADirectory));
    }

    #[test]
    fn what_is_no_key_file_is_named() {
        let folder = Folder::new();
        assert!(format!("{:#}", read(folder.path()).expect_err("a folder")).contains("not a regular file"));
        assert!(format!("{:#}", read(Path::new("/dev/zero")).expect_err("a device")).contains("not a regular file"));
        let path = folder.write("long", &[b'a'; 5000]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
        assert!(format!("{:#}", read(Path::new(&path)).expect_err("too long")).contains("4096"));
    }
}
