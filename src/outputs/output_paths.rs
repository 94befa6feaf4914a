//! Names of result files: no two inputs share a file, and no input is overwritten.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Assigns file names in one folder.
pub struct OutputPaths {
    folder: PathBuf,
    taken: HashSet<OsString>,
    inputs: HashSet<PathBuf>,
}

impl OutputPaths {
    /// Creates the folder if it is missing. The files in `inputs` will not be overwritten.
    ///
    /// # Errors
    /// When the folder cannot be created or used.
    pub fn new(folder: &Path, inputs: &[PathBuf]) -> Result<OutputPaths> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let folder_real =
            folder.canonicalize().with_context(|| format!("cannot use the folder {}", folder.display()))?;
        let inputs = inputs.iter().filter_map(|path| path.canonicalize().ok());
        let inputs = inputs.filter(|path| path.parent() == Some(&folder_real)).collect();
        Ok(OutputPaths { folder: folder.to_owned(), taken: HashSet::new(), inputs })
    }

    /// Returns a path for a result of `input`: its name without the extension, then `ending`. If an earlier input has that
    /// path (`a.jpg` after `a.png`, or the same name in another folder), a number goes between: `a-2.png`. Results of an
    /// earlier command are overwritten.
    pub fn claim(&mut self, input: &Path, ending: &str) -> PathBuf {
        let stem = input.file_stem().unwrap_or(input.as_os_str());
        let mut number = 1u64;
        loop {
            let mut name = stem.to_owned();
            if number > 1 {
                name.push(format!("-{number}"));
            }
            name.push(ending);
            let path = self.folder.join(&name);
            // Some file systems ignore case.
            let key = OsString::from(name.to_string_lossy().to_lowercase());
            let is_input = path.canonicalize().is_ok_and(|real| self.inputs.contains(&real));
            if !is_input && self.taken.insert(key) {
                return path;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_collide() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let mut names = OutputPaths::new(&folder.path().join("new/deep"), &[])?;
        let mut claim = |input: &str| {
            let path = names.claim(Path::new(input), ".png");
            path.file_name().and_then(|n| n.to_str()).map(str::to_owned).unwrap_or_default()
        };
        let claimed = ["a.jpg", "a.png", "b/a.jpg", "A.webp", "noext", "a-2.jpg"].map(&mut claim);
        assert_eq!(claimed, ["a.png", "a-2.png", "a-3.png", "A-4.png", "noext.png", "a-2-2.png"]);
        Ok(())
    }

    #[test]
    fn input_is_never_overwritten() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let input = folder.path().join("a.png");
        fs::write(&input, b"x")?;
        let mut names = OutputPaths::new(folder.path(), std::slice::from_ref(&input))?;
        assert_eq!(names.claim(&input, ".png"), folder.path().join("a-2.png"));
        Ok(())
    }

    #[test]
    fn file_in_place_of_the_folder_is_an_error() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let file = folder.path().join("file");
        fs::write(&file, b"x")?;
        let error = OutputPaths::new(&file.join("sub"), &[]).err().context("a file is in the way")?;
        assert!(format!("{error:#}").starts_with("cannot create the folder"), "{error:#}");
        Ok(())
    }
}
