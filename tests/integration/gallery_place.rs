//! A gallery of a test: a folder with a key, and the arguments that name gallery and key.

use crate::program::{Folder, Output, faceptor};

pub struct Place {
    pub folder: Folder,
    pub gallery: String,
    pub key: String,
}

impl Place {
    pub fn new() -> Place {
        let folder = Folder::new();
        let (gallery, key) = (folder.file("people.gallery"), folder.file("key"));
        faceptor(&["gallery", "make-key", &key]).expect(0);
        Place { folder, gallery, key }
    }

    /// Runs a verb on the gallery.
    pub fn run(&self, arguments: &[&str]) -> Output {
        faceptor(&[arguments, &["--gallery", &self.gallery, "--key-file", &self.key]].concat())
    }
}
