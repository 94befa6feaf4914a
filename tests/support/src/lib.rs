//! Shared by the tests of all crates: generated cases, temporary directories, the fixtures, and the rule for tests that
//! cannot run.

#[cfg(test)]
mod rules;

use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};
use std::{env, fs};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
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
    println!("{}", skip_line(env::var(REQUIRE).as_deref() == Ok("1"), reason));
}

fn skip_line(is_failure: bool, reason: impl Display) -> String {
    assert!(!is_failure, "this test must run here ({REQUIRE}=1): {reason}");
    format!("skipped: {reason}")
}

/// Checks a property of `cases` generated values, and reports the simplest value that it does not hold for.
///
/// The values are the same in every run, so a failure can be repeated.
///
/// # Panics
/// When the property panics for a value.
pub fn check<S: Strategy>(cases: u32, values: S, property: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let outcome = runner(cases, 0).run(&values, |value| {
        property(value);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// One generated value: the same in every run, another for each seed.
///
/// # Panics
/// When the strategy rejects everything that it generates.
pub fn sample<S: Strategy>(seed: u64, values: S) -> S::Value {
    values.new_tree(&mut runner(1, seed)).expect("a strategy with values").current()
}

fn runner(cases: u32, seed: u64) -> TestRunner {
    TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 1000,
        ..Config::default()
    })
}

/// Returns the root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Returns a directory of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    repository().join("tests/fixtures").join(name)
}

/// Reads raw little-endian float32 values.
///
/// # Panics
/// When the file cannot be read.
pub fn read_floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
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

    /// Returns the path of a file in it, as text.
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

    /// Returns the names in one of its directories, sorted; `""` is the directory itself.
    pub fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path().join(below)).expect("the directory exists");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}
