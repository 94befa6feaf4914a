//! The files that a command reads, which none of its outputs may replace.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identities of files. Another name of an input (a link, `./a` for `a`) is the input too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Device and number of each.
    files: HashSet<(u64, u64)>,
}

impl Inputs {
    /// Adds a file. What does not exist, a folder or a device is not an input that could be replaced.
    pub(crate) fn add(&mut self, path: &Path) {
        if let Some(data) = fs::metadata(path).ok().filter(Metadata::is_file) {
            self.files.insert((data.dev(), data.ino()));
        }
    }

    /// Returns whether a file with these facts is an input.
    pub(crate) fn contain(&self, data: &Metadata) -> bool {
        self.files.contains(&(data.dev(), data.ino()))
    }
}

impl<P: AsRef<Path>> Extend<P> for Inputs {
    fn extend<I: IntoIterator<Item = P>>(&mut self, paths: I) {
        paths.into_iter().for_each(|path| self.add(path.as_ref()));
    }
}

impl<P: AsRef<Path>> FromIterator<P> for Inputs {
    fn from_iter<I: IntoIterator<Item = P>>(paths: I) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.extend(paths);
        inputs
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn every_name_of_an_input_is_recognized() -> std::io::Result<()> {
        let folder = Folder::new();
        let [a, other] = ["a", "other"].map(|name| folder.write(name, b"x"));
        symlink(&a, folder.path().join("link"))?;
        fs::hard_link(&a, folder.path().join("hard"))?;
        let inputs = Inputs::from_iter([&a]);
        for name in ["a", "link", "hard", "../a"] {
            let path = folder.path().join("below").join(name);
            let path = if name == "../a" { path } else { folder.path().join(name) };
            fs::create_dir_all(folder.path().join("below"))?;
            assert!(inputs.contain(&fs::metadata(path)?), "{name}");
        }
        assert!(!inputs.contain(&fs::metadata(&other)?));
        let inputs = Inputs::from_iter([&a, &other, "/dev/null", "/nonexistent"]);
        assert!(inputs.contain(&fs::metadata(other)?) && inputs.files.len() == 2);
        Ok(())
    }
}
