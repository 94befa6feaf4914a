//! Names of result files in a folder: no two photos share a file, and nothing but earlier results of a photo is replaced.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::files::destination::Destination;
use crate::files::output_file::{self, OutputRules};
use crate::files::png_mark::{self, SourceId};

/// Longest name of a photo in the name of its result: file systems allow 255 bytes with number and ending.
const MAX_STEM_BYTES: usize = 180;

/// The source of a result.
#[derive(Clone, Debug)]
pub(crate) enum Origin<'a> {
    File(&'a Path),
    /// A photo on standard input, identified by its content.
    Content(SourceId),
}

/// The results of one command in one folder.
pub(crate) struct OutputPaths {
    folder: PathBuf,
    rules: OutputRules,
    /// Names that this command has given, in lower case: some file systems ignore case.
    taken: HashSet<String>,
}

impl OutputPaths {
    /// Creates the folder if it is missing.
    ///
    /// # Errors
    /// When the folder cannot be created or used.
    pub(crate) fn new(folder: &Path, rules: OutputRules) -> Result<OutputPaths> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        folder.canonicalize().with_context(|| format!("cannot use the folder {}", folder.display()))?;
        Ok(OutputPaths { folder: folder.to_owned(), rules, taken: HashSet::new() })
    }

    /// Writes a result and returns its path: the name of the photo without its extension, then `ending`. A result of the
    /// same photo is replaced. If another file has the name (`a.png` beside `a.jpg`, or a result of another `a.jpg`), a
    /// number goes between: `a-2.png`.
    ///
    /// # Errors
    /// When the file cannot be written; the message names it.
    pub(crate) fn write(
        &mut self,
        origin: &Origin,
        ending: &str,
        write: impl FnOnce(&mut dyn Write, &SourceId) -> Result<()>,
    ) -> Result<PathBuf> {
        let (stem, source) = match origin {
            Origin::File(photo) => (stem(photo), SourceId::of_file(photo, &self.folder)),
            Origin::Content(id) => ("stdin".to_owned(), id.clone()),
        };
        let mut number = 1u64;
        let mut path = PathBuf::new();
        let choose = || loop {
            let name = if number == 1 { format!("{stem}{ending}") } else { format!("{stem}-{number}{ending}") };
            if !self.taken.contains(&name.to_lowercase()) {
                path = self.folder.join(&name);
                if let Some(destination) = self.place(&path, &source)? {
                    return Ok(destination);
                }
            }
            number += 1;
        };
        let written = output_file::write_to(choose, |file| write(file, &source));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        self.taken.extend(path.file_name().map(|name| name.to_string_lossy().to_lowercase()));
        Ok(path)
    }

    /// Returns what a name designates, if a result of `source` may have it.
    ///
    /// # Errors
    /// When the folder cannot be used.
    fn place(&self, path: &Path, source: &SourceId) -> Result<Option<Destination>> {
        match Destination::of(path) {
            Ok(Destination::New(target)) => Ok(Some(Destination::New(target))),
            Ok(Destination::File(target, data)) => {
                let is_replaced = self.is_replaced(&target, &data, source);
                Ok(is_replaced.then_some(Destination::File(target, data)))
            }
            // Devices, and what is not a place for a file.
            Ok(_) => Ok(None),
            Err(_) if path.symlink_metadata().is_ok() => Ok(None),
            Err(reason) => Err(reason),
        }
    }

    /// Decides whether a result of `source` replaces this file.
    fn is_replaced(&self, target: &Path, data: &Metadata, source: &SourceId) -> bool {
        if self.rules.inputs.contain(data) {
            return false;
        }
        match png_mark::read(target) {
            Some(mark) => mark.source.as_ref() == Some(source),
            None => self.rules.force,
        }
    }
}

/// Returns the name of a photo without its extension. Bytes that are not UTF-8 become `%E9` and the like, so that JSON can
/// name the result. Long names are cut short, so that the ending fits.
fn stem(photo: &Path) -> String {
    let stem: &OsStr = photo.file_stem().unwrap_or(photo.as_os_str());
    let mut text = String::new();
    for chunk in stem.as_encoded_bytes().utf8_chunks() {
        text += chunk.valid();
        chunk.invalid().iter().for_each(|byte| text += &format!("%{byte:02X}"));
    }
    text.truncate(text.floor_char_boundary(MAX_STEM_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::files::inputs::Inputs;
    use crate::outputs::draw::png;

    /// Writes a result of `input` and returns its name.
    fn write(names: &mut OutputPaths, input: &Path) -> String {
        let encode = |file: &mut dyn Write, source: &SourceId| png::encode_grey(file, &[1], [1, 1], Some(source));
        let path = names.write(&Origin::File(input), ".png", encode).expect("writable");
        assert!(path.is_file());
        path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned()
    }

    #[test]
    fn names_do_not_collide() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let inputs = ["a.jpg", "a.png", "b/a.jpg", "A.webp", "noext", "a-2.jpg"];
        let expected = ["a.png", "a-2.png", "a-3.png", "A-4.png", "noext.png", "a-2-2.png"];
        // A second command replaces the results of the first one.
        for _ in 0..2 {
            let mut names = OutputPaths::new(&folder.path().join("new/deep"), OutputRules::default())?;
            let given = inputs.map(|input| write(&mut names, Path::new(input)));
            assert_eq!(given, expected);
        }
        assert_eq!(folder.names("new/deep").len(), expected.len());
        Ok(())
    }

    #[test]
    fn input_is_never_overwritten() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let input = PathBuf::from(folder.write("a.png", b"x"));
        for force in [false, true] {
            let rules = OutputRules { force, inputs: Inputs::from_iter([&input]) };
            let mut names = OutputPaths::new(folder.path(), rules)?;
            assert_eq!(write(&mut names, &input), "a-2.png");
        }
        assert_eq!(fs::read(input)?, b"x");
        Ok(())
    }

    #[test]
    fn files_of_others_are_overwritten_on_request_only() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        folder.write("a.png", b"mine");
        folder.write("a-2.png", b"");
        fs::create_dir(folder.path().join("a-3.png"))?;
        std::os::unix::fs::symlink("/dev/null", folder.path().join("a-4.png"))?;
        let photo = folder.path().join("below/a.jpg");
        let mut names = OutputPaths::new(folder.path(), OutputRules::default())?;
        assert_eq!(write(&mut names, &photo), "a-5.png");
        // Another photo of that name, in another command.
        let mut names = OutputPaths::new(folder.path(), OutputRules::default())?;
        assert_eq!(write(&mut names, &folder.path().join("other/a.jpg")), "a-6.png");
        assert_eq!(fs::read(folder.path().join("a.png"))?, b"mine");
        let rules = OutputRules { force: true, ..OutputRules::default() };
        assert_eq!(write(&mut OutputPaths::new(folder.path(), rules.clone())?, &photo), "a.png");
        // Force replaces files of others, and no results of another photo.
        let mut names = OutputPaths::new(folder.path(), rules)?;
        assert_eq!(write(&mut names, &folder.path().join("other/a.jpg")), "a-2.png");
        Ok(())
    }

    #[test]
    fn names_are_utf8() {
        let name = |bytes: &[u8]| stem(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(name(b"d\xff/caf\xe9.jpg"), "caf%E9");
        assert_eq!(name("d/café.jpg".as_bytes()), "café");
        assert_eq!(name(b"\xff\xfe"), "%FF%FE");
        assert_eq!(name("é".repeat(127).as_bytes()), "é".repeat(90));
        assert_eq!(name(&[0xff; 255]).len(), 180);
    }

    #[test]
    fn file_in_place_of_the_folder_is_an_error() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let file = folder.path().join("file");
        fs::write(&file, b"x")?;
        let error =
            OutputPaths::new(&file.join("sub"), OutputRules::default()).err().context("a file is in the way")?;
        assert!(format!("{error:#}").starts_with("cannot create the folder"), "{error:#}");
        Ok(())
    }
}
