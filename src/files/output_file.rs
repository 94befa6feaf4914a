//! The one function that writes the outputs of this program.
//!
//! A regular file appears under its name only when it is complete: a full disk, an error or a signal leaves what had the name
//! before. Links are followed, permissions are kept. Devices and pipes are written to directly. A file that this program did
//! not write is replaced only with `--force`, and an input never.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;

use crate::files::destination::{Destination, folder_of};
use crate::files::inputs::Inputs;
use crate::files::part_file::{NEW_MODE, PartFile};
use crate::files::result_kind::ResultKind;

/// Attempts to find a place while other programs take one after the other.
const MAX_ATTEMPTS: usize = 1000;

/// Rules for the files that an output may replace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputRules {
    /// Replace files that this program did not write.
    pub force: bool,
    /// Files that are never replaced.
    pub inputs: Inputs,
}

/// Checks that [`write`] would accept the path, so that a mistake is reported before the work.
///
/// # Errors
/// Fails as [`write`] does, as far as that can be known before writing; the message names `path`.
pub(crate) fn check(path: &Path, kind: ResultKind, rules: &OutputRules) -> Result<()> {
    let checked = || {
        let destination = permitted(path, kind, rules)?;
        if let Destination::New(target) = &destination {
            let folder = folder_of(target);
            ensure!(folder.is_dir(), "the folder {} does not exist", folder.display());
        }
        Ok(())
    };
    checked().with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file of this kind by `write`.
///
/// # Errors
/// When the file must not be replaced, cannot be made, written or renamed, or `write` fails; the message names `path`.
pub(crate) fn write(
    path: &Path,
    kind: ResultKind,
    rules: &OutputRules,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    write_to(|| permitted(path, kind, rules), write).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns what a path designates, if it may be written to.
fn permitted(path: &Path, kind: ResultKind, rules: &OutputRules) -> Result<Destination> {
    let destination = Destination::of(path)?;
    if let Destination::File(target, data) = &destination {
        rules.permit(target, data, kind)?;
    }
    Ok(destination)
}

impl OutputRules {
    /// Checks that a regular file may be replaced by one of this kind. An empty file holds nothing that could be lost.
    pub(crate) fn permit(&self, path: &Path, data: &Metadata, kind: ResultKind) -> Result<()> {
        if self.inputs.contain(data) {
            bail!("it is an input of this command, which is never overwritten: name another file");
        }
        if self.force || data.len() == 0 || kind.is_in(path) {
            return Ok(());
        }
        bail!("it exists and is not {kind} written by faceptor: name another file, or add --force to overwrite it")
    }
}

/// Writes a file to the place that `choose` returns. It is asked again when another program has taken the place meanwhile.
///
/// # Errors
/// When there is no place, or the file cannot be made, written or renamed, or `write` fails.
pub(crate) fn write_to(
    mut choose: impl FnMut() -> Result<Destination>,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut destination = choose()?;
    let (folder, mode) = match &destination {
        Destination::New(target) => (folder_of(target), NEW_MODE),
        // No more than its final permissions from the first byte on.
        Destination::File(target, old) => (folder_of(target), old.mode() & 0o777),
        other => {
            let mut file = BufWriter::new(open_directly(other)?);
            write(&mut file)?;
            return Ok(file.flush()?);
        }
    };
    let mut part = PartFile::create(folder, mode)?;
    write(&mut part)?;
    for _ in 0..MAX_ATTEMPTS {
        match &destination {
            Destination::New(target) => {
                if part.publish_new(target)? {
                    return Ok(());
                }
            }
            Destination::File(target, old) => return Ok(part.publish_over(target, old)?),
            _ => bail!("it became a device or a pipe meanwhile"),
        }
        destination = choose()?;
    }
    bail!("other programs keep taking its place")
}

/// Opens what is not replaced but written to.
fn open_directly(destination: &Destination) -> Result<File> {
    let open = |path: &Path, flags: OFlags| OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path);
    match destination {
        // The same open file: its position is shared with everything that is printed.
        Destination::Descriptor(1, _) => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        Destination::Descriptor(2, _) => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
        Destination::Descriptor(_, path) => Ok(open(path, OFlags::APPEND)?),
        Destination::Pipe(path) => {
            // Without this the program would wait for a reader that may never come.
            let file = open(path, OFlags::NONBLOCK).map_err(|error| match error.raw_os_error() {
                Some(libc::ENXIO) => anyhow::anyhow!("no program reads from this pipe: start its reader first"),
                _ => error.into(),
            })?;
            rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
            Ok(file)
        }
        Destination::Device(path) | Destination::New(path) | Destination::File(path, _) => {
            Ok(open(path, OFlags::NOCTTY)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;
    use faceptor_test_support::Folder;

    const OWN: &[u8] = b"FACEPTOR old";

    fn write_text(path: &Path, text: &[u8], rules: &OutputRules) -> Result<()> {
        write(path, ResultKind::Bundle, rules, |file| Ok(file.write_all(text)?))
    }

    fn reason(result: Result<()>) -> String {
        result.map_or_else(|error| format!("{error:#}"), |()| "written".to_owned())
    }

    #[test]
    fn replaces_a_file_only_when_the_new_one_is_complete() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.txt");
        let rules = OutputRules::default();
        write_text(&path, OWN, &rules)?;
        let failed = write(&path, ResultKind::Bundle, &rules, |file| {
            file.write_all(b"half")?;
            bail!("no more")
        });
        assert_eq!(reason(failed), format!("cannot write {}: no more", path.display()));
        assert_eq!(fs::read(&path)?, OWN);
        write_text(&path, b"new", &rules)?;
        assert_eq!(fs::read(&path)?, b"new");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1, "no part is left");
        Ok(())
    }

    #[test]
    fn names_the_file_that_cannot_be_written() {
        for written in [
            write_text(Path::new("/nonexistent/a"), b"", &OutputRules::default()),
            check(Path::new("/nonexistent/a"), ResultKind::Bundle, &OutputRules::default()),
        ] {
            assert!(reason(written).starts_with("cannot write /nonexistent/a: "));
        }
    }

    #[test]
    fn only_own_results_are_replaced_and_inputs_never() -> Result<()> {
        let folder = Folder::new();
        let [foreign, input, own, empty] =
            [("foreign", b"mine".as_slice()), ("input", OWN), ("own", OWN), ("empty", b"")]
                .map(|(name, bytes)| folder.write(name, bytes).into());
        let inputs = Inputs::from_iter([&input]);
        for (force, allowed) in [(false, [false, false, true, true]), (true, [true, false, true, true])] {
            let rules = OutputRules { force, inputs: inputs.clone() };
            for (path, allowed) in [&foreign, &input, &own, &empty].into_iter().zip(allowed) {
                let path: &std::path::PathBuf = path;
                let before = fs::read(path)?;
                assert_eq!(check(path, ResultKind::Bundle, &rules).is_ok(), allowed, "{}", path.display());
                let written = reason(write_text(path, b"FACEPTOR new", &rules));
                assert_eq!(written == "written", allowed, "{}: {written}", path.display());
                assert_eq!(fs::read(path)? == b"FACEPTOR new", allowed, "{before:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn links_stay_links_and_permissions_stay() -> Result<()> {
        let folder = Folder::new();
        let rules = OutputRules::default();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        symlink("target", &link)?;
        write_text(&link, OWN, &rules)?;
        assert!(fs::symlink_metadata(&link)?.is_symlink() && fs::symlink_metadata(&target)?.is_file());
        fs::set_permissions(&target, PermissionsExt::from_mode(0o604))?;
        write_text(&link, b"FACEPTOR new", &rules)?;
        assert!(fs::symlink_metadata(&link)?.is_symlink());
        assert_eq!((fs::read(&target)?, fs::metadata(&target)?.mode() & 0o777), (b"FACEPTOR new".to_vec(), 0o604));
        Ok(())
    }

    #[test]
    fn pipes_and_devices_are_written_to() -> Result<()> {
        let folder = Folder::new();
        let rules = OutputRules::default();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
        assert!(reason(write_text(&pipe, b"x", &rules)).contains("no program reads from this pipe"));
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe)?;
        write_text(&pipe, b"through", &rules)?;
        let mut read = String::new();
        io::Read::read_to_string(&mut reader, &mut read)?;
        assert_eq!(read, "through");
        write_text(Path::new("/dev/null"), b"x", &rules)?;
        assert!(fs::metadata("/dev/null")?.file_type().is_char_device());
        assert!(reason(write_text(Path::new("/dev/full"), b"x", &rules)).contains("No space left"));
        assert_eq!(folder.names(""), ["pipe"]);
        Ok(())
    }
}
