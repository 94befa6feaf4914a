//! A folder for one unit test, removed when the test is over.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io, process};

pub struct Folder {
    path: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Folder {
    pub fn new() -> io::Result<Folder> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("faceptor-test-{}-{number}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
