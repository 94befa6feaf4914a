//! The files of a recording: opened, locked, numbered, and distinguished from files of others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::files::destination::{Destination, folder_of};
use crate::files::output_file::OutputRules;
use crate::outputs::sinks::recording_recovery;

/// Returns `FILE.1` and so on.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Begins the next file of a recording, with the permissions of the last one.
pub(super) fn create(path: &Path, permissions: fs::Permissions) -> io::Result<File> {
    // Every write goes to the end, also after a cut. Reading is for finding the last whole line.
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    file.set_permissions(permissions)?;
    let _ = file.try_lock();
    Ok(file)
}

/// Follows links, so that the file itself is renamed when it is full, and not the link.
pub(super) fn real_path(path: &Path) -> Result<PathBuf> {
    ensure!(!path.is_dir(), "cannot record to {}: it is not a file", path.display());
    let destination = Destination::of(path).with_context(|| format!("cannot record to {}", path.display()))?;
    Ok(match destination {
        Destination::New(real) | Destination::File(real, _) => real,
        // These are opened by the name that was given.
        Destination::Device(_) | Destination::Pipe(_) | Destination::Descriptor(..) => path.to_owned(),
    })
}

/// Returns the refusal of a file of others.
pub(super) fn not_a_recording(path: &Path) -> String {
    format!(
        "{} is not a recording, so it is not touched; choose another file, or add --force to overwrite it",
        path.display()
    )
}

/// Checks that a file does not exist, or is a recording that may be renamed, appended to or replaced.
pub(super) fn check_recording(path: &Path, rules: &OutputRules) -> Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.with_context(|| format!("cannot record to {}", path.display()))?,
    };
    let is_input = file.metadata().is_ok_and(|data| rules.inputs.contain(&data));
    ensure!(!is_input, "cannot record to {}: it is an input of the run", path.display());
    let is_recording = recording_recovery::is_recording(&file);
    let is_recording = is_recording.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(is_recording || rules.force, not_a_recording(path));
    Ok(())
}

/// Opens the file and locks it, so that no other program records to it.
pub(super) fn open_locked(path: &Path) -> Result<File> {
    if let Ok(metadata) = fs::metadata(path) {
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_char_device() {
            bail!("cannot record to {}: it is not a file", path.display());
        }
    }
    let file = OpenOptions::new().read(true).append(true).create(true).open(path);
    let file = file.with_context(|| format!("cannot record to {}", path.display()))?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => bail!("{} is being recorded to by another program", path.display()),
        // Some file systems have no locks.
        Err(fs::TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

/// Puts the directory entries of the file's folder on the disk.
pub(super) fn sync_folder(path: &Path) {
    // File systems that cannot do it lose names at worst, not lines.
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}
