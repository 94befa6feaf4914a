//! Shared by the tests of all crates: temporary directories, the fixtures, and the rule for tests that cannot run.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::{env, fs};

use tempfile::TempDir;

/// Set to 1 where every test must run: in the gate, when the research data is there.
pub const REQUIRE: &str = "FACEPTOR_REQUIRE_SHARED";

/// Reports that the calling test cannot run on this machine. The test returns after the call.
///
/// It prints the one line that the gate (`.ci/run`) searches the output for, so no test may report this in another way.
///
/// # Panics
/// With `FACEPTOR_REQUIRE_SHARED=1`: there, a test that does not run is a failure.
pub fn skip(reason: impl Display) {
    assert!(env::var(REQUIRE).as_deref() != Ok("1"), "this test must run here ({REQUIRE}=1): {reason}");
    println!("skipped: {reason}");
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A directory of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures").join(name)
}

/// Reads raw little-endian float32 values.
///
/// # Panics
/// When the file cannot be read.
pub fn read_floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A temporary directory of one test, removed when the test ends.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// Makes an empty directory.
    ///
    /// # Panics
    /// When the directory for temporary files cannot be written.
    #[allow(clippy::new_without_default, reason = "it writes to the disk")]
    pub fn new() -> Folder {
        let made = tempfile::Builder::new().prefix("faceptor-test-").tempdir();
        Folder(made.expect("the directory for temporary files can be written"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it, as text.
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).to_str().expect("test paths are UTF-8").to_owned()
    }

    /// Writes a file, makes its parent directories, and returns its path.
    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("directories can be made");
        fs::write(&path, bytes).expect("files can be written");
        self.file(name)
    }

    /// The names in one of its directories, sorted; `""` is the directory itself.
    pub fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path().join(below)).expect("the directory exists");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}
