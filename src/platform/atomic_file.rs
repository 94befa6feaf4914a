//! Files that appear under their name only when they are complete.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Suffix of a file that is being written.
const PART_SUFFIX: &str = ".part";

/// Writes a file by `write`, under another name in the same folder, and renames it to `path` when it is complete. A full
/// disk or an error leaves no broken file behind, and what had the name before stays until then.
///
/// # Errors
/// When the file cannot be made, written or renamed, or `write` fails; the message names `path`.
pub(crate) fn write(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(PART_SUFFIX);
    let part = Path::new(&part);
    let written = (|| -> Result<()> {
        let mut file = BufWriter::new(File::create(part)?);
        write(&mut file)?;
        file.flush()?;
        drop(file);
        fs::rename(part, path)?;
        Ok(())
    })();
    if written.is_err() {
        // Nothing more can be done when this fails too.
        let _ = fs::remove_file(part);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn replaces_a_file_only_when_the_new_one_is_complete() -> Result<()> {
        let folder = Folder::new();
        let path = folder.path().join("a.txt");
        write(&path, |file| Ok(file.write_all(b"old")?))?;
        let failed = write(&path, |file| {
            file.write_all(b"half")?;
            bail!("no more")
        });
        let failed = failed.map_or_else(|error| format!("{error:#}"), |()| String::new());
        assert_eq!(failed, format!("cannot write {}: no more", path.display()));
        assert_eq!(fs::read(&path)?, b"old");
        write(&path, |file| Ok(file.write_all(b"new")?))?;
        assert_eq!(fs::read(&path)?, b"new");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1, "no part is left");
        Ok(())
    }

    #[test]
    fn names_the_file_that_cannot_be_written() {
        let error = write(Path::new("/nonexistent/a"), |_| Ok(())).expect_err("no such folder");
        assert!(format!("{error:#}").starts_with("cannot write /nonexistent/a: "), "{error:#}");
    }
}
