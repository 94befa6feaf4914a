//! The result of one check, and the file tree that checks read.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::platform::machine_facts;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// The live loop works, but with more latency, less evenly, or without a camera.
    Warn,
    /// The live loop does not work.
    Fail,
}

/// One line of the report.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub check: &'static str,
    pub state: State,
    pub found: String,
    /// Advice: how to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Check {
        Check { check, state: State::Ok, found: found.into(), advice: None }
    }

    pub(crate) fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { check, state: State::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    pub(crate) fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { check, state: State::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// The folder that contains `proc`, `sys` and `dev`: `/`, or another one in tests.
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Root {
        Root(folder.into())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Reads a small file without white space and zeros at its ends; `None` when it is empty or cannot be read.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        machine_facts::text(&self.path(name))
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use std::fs;

    use super::*;
    use faceptor_test_support::Folder;

    /// A file tree in a temporary folder, for checks to read.
    pub(crate) struct Tree {
        folder: Folder,
    }

    impl Tree {
        pub(crate) fn new(files: &[(&str, &str)]) -> Tree {
            let tree = Tree { folder: Folder::new() };
            files.iter().for_each(|(name, text)| tree.set(name, text));
            tree
        }

        pub(crate) fn set(&self, name: &str, text: &str) {
            let file = self.folder.path().join(name);
            fs::create_dir_all(file.parent().expect("it has one")).expect("a folder");
            fs::write(file, text).expect("written");
        }

        pub(crate) fn root(&self) -> Root {
            Root::new(self.folder.path())
        }
    }
}
