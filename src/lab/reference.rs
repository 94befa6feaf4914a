//! A reference folder: golden inputs with one machine's outputs, to compare with another machine's outputs.
//!
//! ```text
//! reference.json       index, network and limits (written last: a folder without it is not a reference)
//! bench.json           the bench report of the machine that wrote it
//! 000.png ...          pictures
//! input.NAME.f32       an input of the network for each face of the pictures, `[faces, 3, size, size]`
//! part.NAME.f32        the output of each shared part, for each face
//! task.NAME.f32        the output of each task, for each face
//! ```
//! Tensors are raw little-endian float32.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;
use crate::lab::compare::Limit;
use faceptor::stages::{Detection, Point};
use faceptor_nn::bundle::hexadecimal;

/// The format that this version reads and writes.
pub const FORMAT: u32 = 1;
/// Name of the index.
pub const INDEX: &str = "reference.json";
/// Name of the bench report.
pub const BENCH: &str = "bench.json";
/// Longest index in bytes; a longer one is cut, and refused as JSON that ends early.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// The reason why a reference folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("{} is not a reference folder: it has no {INDEX} (faceptor reference --out writes one)", .0.display())]
    NoReference(PathBuf),
    #[error("{}: {reason}", .path.display())]
    Index { path: PathBuf, reason: String },
    #[error("{} has format {found}, this version reads format {FORMAT}: write it again", .path.display())]
    Format { path: PathBuf, found: u32 },
    #[error("{} is missing: the reference is not complete, copy or write it again", .0.display())]
    Missing(PathBuf),
    #[error("{}: {found} bytes instead of {expected}: copy or write the reference again", .path.display())]
    Length { path: PathBuf, expected: u64, found: u64 },
    #[error("{} is damaged: its checksum does not match; copy or write the reference again", .0.display())]
    Damaged(PathBuf),
    #[error(
        "the reference is of network {name} with sha256 {there:.16}, this program has {here:.16}: use the same bundle on both machines (--model)"
    )]
    OtherNetwork { name: String, there: String, here: String },
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    /// The text names the file.
    #[error("{0:#}")]
    Write(anyhow::Error),
}

/// The content of `reference.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceIndex {
    /// [`FORMAT`] of the version that wrote it.
    pub format: u32,
    /// Description of the machine that wrote it.
    pub machine: String,
    pub program: String,
    pub kernel: String,
    pub network: String,
    pub network_sha256: String,
    pub purpose: String,
    pub inputs: Vec<StoredTensor>,
    pub tasks: Vec<StoredTensor>,
    pub parts: Vec<StoredTensor>,
    pub pictures: Vec<ReferencePicture>,
    pub limits: ReferenceLimits,
    /// Length and checksum of every other file in the folder.
    pub files: BTreeMap<String, StoredFile>,
}

/// A tensor with a row for each face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredTensor {
    pub name: String,
    pub tensor: String,
    /// Shape of one face's row.
    pub shape: Vec<usize>,
    pub file: String,
}

/// A picture with its faces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferencePicture {
    pub file: String,
    pub origin: String,
    pub faces: Vec<ReferenceFace>,
}

/// A face as the detector found it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceFace {
    pub score: f32,
    /// Left, top, right, bottom.
    pub edges: [f32; 4],
    pub keypoints: [Point; 5],
}

impl From<&Detection> for ReferenceFace {
    fn from(found: &Detection) -> ReferenceFace {
        ReferenceFace { score: found.score, edges: found.edges, keypoints: found.keypoints }
    }
}

/// The differences that a verification allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceLimits {
    /// Limits with the stored input, by task.
    pub tasks: BTreeMap<String, Limit>,
    /// Limits from the picture on, by task: the detector's keypoints move the crop slightly.
    pub end_to_end: BTreeMap<String, Limit>,
    /// Limit of keypoints, in pixels of the picture.
    pub keypoints: Limit,
    /// Limit of the network's input, in grey levels of 0..255.
    pub input: Limit,
    /// Limit of the outputs of shared parts, as a share of the largest value.
    pub parts: Limit,
}

/// A file's length and checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    pub bytes: u64,
    pub sha256: String,
}

/// Writes a reference folder, its index last.
pub struct ReferenceWriter {
    folder: PathBuf,
    files: BTreeMap<String, StoredFile>,
    rules: OutputRules,
    /// Files of the reference that is replaced.
    old: BTreeSet<String>,
}

impl ReferenceWriter {
    /// Makes the folder. An existing reference is overwritten; with `--force`, files of others too.
    ///
    /// # Errors
    /// When the folder holds other files or cannot be written.
    pub fn create(folder: &Path, rules: OutputRules) -> Result<ReferenceWriter, ReferenceError> {
        let io = |error| ReferenceError::Io { path: folder.to_owned(), error };
        fs::create_dir_all(folder).map_err(io)?;
        let index = folder.join(INDEX);
        let refuse = |reason: &str| {
            let reason = format!("{reason}: name another one, or add --force to write into it");
            Err(ReferenceError::Index { path: folder.to_owned(), reason })
        };
        let mut old = BTreeSet::new();
        if index.exists() {
            match names_of(&index) {
                Some(names) => old = names,
                None if rules.force => {}
                None => return refuse("its reference.json is not an index of a reference"),
            }
            // Until the new one is complete the folder is not a reference.
            fs::remove_file(&index).map_err(|error| ReferenceError::Io { path: index, error })?;
        } else if !rules.force && fs::read_dir(folder).map_err(io)?.next().is_some() {
            return refuse("the folder is not empty and holds no reference");
        }
        Ok(ReferenceWriter { folder: folder.to_owned(), files: BTreeMap::new(), rules, old })
    }

    /// Writes a file and adds it to the index.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ReferenceError> {
        self.put(name, bytes)?;
        self.files.insert(name.to_owned(), StoredFile::of(bytes));
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ReferenceError> {
        let rules = OutputRules { force: self.rules.force || self.old.contains(name), ..self.rules.clone() };
        let path = self.folder.join(name);
        output_file::write(&path, ResultKind::ReferenceFile, &rules, |file| Ok(file.write_all(bytes)?))
            .map_err(ReferenceError::Write)
    }

    /// Writes a tensor file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn floats(&mut self, name: &str, numbers: &[f32]) -> Result<(), ReferenceError> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.bytes(name, &bytes)
    }

    /// Removes what is left of the reference before, and writes the index, which completes the folder.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn finish(self, index: ReferenceIndex) -> Result<(), ReferenceError> {
        for name in self.old.iter().filter(|name| !self.files.contains_key(*name)) {
            // It may be gone already. What stays is not a part of the new index.
            let _ = fs::remove_file(self.folder.join(name));
        }
        let index = ReferenceIndex { files: self.files.clone(), ..index };
        let text = serde_json::to_string_pretty(&index).map_err(io::Error::from);
        let text = text.map_err(|error| ReferenceError::Io { path: self.folder.join(INDEX), error })?;
        self.put(INDEX, (text + "\n").as_bytes())
    }
}

/// Returns the names in an index of any format; `None` if the text is not an index.
fn names_of(index: &Path) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(rename = "network_sha256")]
        _network: String,
        files: BTreeMap<String, serde::de::IgnoredAny>,
    }
    let names: Names = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    // This program never writes names with folders.
    Some(names.files.into_keys().filter(|name| Path::new(name).components().count() == 1 && name != "..").collect())
}

impl StoredFile {
    fn of(bytes: &[u8]) -> StoredFile {
        StoredFile { bytes: bytes.len() as u64, sha256: hexadecimal(&Sha256::digest(bytes)) }
    }
}

/// Reads a regular file, at most `most` bytes and one more, which shows that it is longer. A pipe or a device in a folder from
/// elsewhere must neither block the command nor fill its memory.
fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A checked reference folder: every file exists with its length and checksum.
#[derive(Debug)]
pub struct Reference {
    folder: PathBuf,
    /// The content of `reference.json`.
    pub index: ReferenceIndex,
}

impl Reference {
    /// Opens and checks a folder for the network with this checksum.
    ///
    /// # Errors
    /// When the folder is not a reference, belongs to another network, or is not complete.
    pub fn open(folder: &Path, network_sha256: &str) -> Result<Reference, ReferenceError> {
        let path = folder.join(INDEX);
        let text = match read_file(&path, MAX_INDEX_BYTES) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReferenceError::NoReference(folder.to_owned()));
            }
            Err(error) => return Err(ReferenceError::Io { path, error }),
        };
        /// Read first, to distinguish another format from a damaged file.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let wrong = |error: serde_json::Error| ReferenceError::Index { path: path.clone(), reason: error.to_string() };
        let head: Head = serde_json::from_str(&text).map_err(wrong)?;
        if head.format != FORMAT {
            return Err(ReferenceError::Format { path, found: head.format });
        }
        let index: ReferenceIndex = serde_json::from_str(&text).map_err(wrong)?;
        if index.network_sha256 != network_sha256 {
            let (name, there) = (index.network, index.network_sha256);
            return Err(ReferenceError::OtherNetwork { name, there, here: network_sha256.to_owned() });
        }
        let reference = Reference { folder: folder.to_owned(), index };
        let index = &reference.index;
        let named = index.inputs.iter().chain(&index.tasks).chain(&index.parts).map(|output| &output.file);
        let pictures = index.pictures.iter().map(|picture| &picture.file);
        let wanted: Vec<&str> = named.chain(pictures).map(String::as_str).chain([BENCH]).collect();
        for name in wanted {
            reference.bytes(name)?;
        }
        Ok(reference)
    }

    /// Returns the path of a picture.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Reads a file and checks its length and checksum.
    ///
    /// # Errors
    /// When the file is missing, damaged, or not in the index.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, ReferenceError> {
        let path = self.path(name);
        let entry = self.index.files.get(name).filter(|_| Path::new(name).components().count() == 1);
        let Some(entry) = entry else {
            let reason = format!("it names the file {name:?} without its length and checksum");
            return Err(ReferenceError::Index { path: self.path(INDEX), reason });
        };
        let bytes = match read_file(&path, entry.bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReferenceError::Missing(path)),
            Err(error) => return Err(ReferenceError::Io { path, error }),
        };
        let (expected, found) = (entry.bytes, bytes.len() as u64);
        if expected != found {
            let found = path.metadata().map_or(found, |data| data.len());
            return Err(ReferenceError::Length { path, expected, found });
        }
        if StoredFile::of(&bytes) != *entry {
            return Err(ReferenceError::Damaged(path));
        }
        Ok(bytes)
    }

    /// Reads a tensor file with `each` numbers for each of `faces` faces.
    ///
    /// # Errors
    /// When the file is missing, damaged, or of another length.
    pub fn floats(&self, name: &str, faces: usize, each: usize) -> Result<Vec<f32>, ReferenceError> {
        let bytes = self.bytes(name)?;
        let expected = faces.saturating_mul(each).saturating_mul(4) as u64;
        if bytes.len() as u64 != expected {
            return Err(ReferenceError::Length { path: self.path(name), expected, found: bytes.len() as u64 });
        }
        Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Returns the number of faces in all pictures: the rows of each tensor.
    pub fn faces(&self) -> usize {
        self.index.pictures.iter().map(|picture| picture.faces.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    const INPUT: &str = "input.image.f32";

    fn index() -> ReferenceIndex {
        let limit = Limit { mean: 1.0, max: 1.0, flips: 0.0 };
        let limits = ReferenceLimits {
            tasks: BTreeMap::new(),
            end_to_end: BTreeMap::new(),
            keypoints: limit,
            input: limit,
            parts: limit,
        };
        let text = || "x".to_owned();
        ReferenceIndex {
            format: FORMAT,
            machine: text(),
            program: text(),
            kernel: text(),
            network: text(),
            network_sha256: "abc".to_owned(),
            purpose: text(),
            inputs: vec![StoredTensor { name: text(), tensor: text(), shape: vec![2], file: INPUT.to_owned() }],
            tasks: Vec::new(),
            parts: Vec::new(),
            pictures: Vec::new(),
            limits,
            files: BTreeMap::new(),
        }
    }

    fn write(folder: &Path) -> Result<(), ReferenceError> {
        write_by(folder, OutputRules::default())
    }

    fn write_by(folder: &Path, rules: OutputRules) -> Result<(), ReferenceError> {
        let mut writer = ReferenceWriter::create(folder, rules)?;
        writer.floats(INPUT, &[1.5, -2.0])?;
        writer.floats(BENCH, &[0.0])?;
        writer.finish(index())
    }

    #[test]
    fn reads_the_numbers_that_were_written() {
        let folder = Folder::new();
        write(folder.path()).expect("is written");
        // A second time over the first one.
        write(folder.path()).expect("is written");
        let reference = Reference::open(folder.path(), "abc").expect("is whole");
        assert_eq!(reference.floats(INPUT, 1, 2).expect("two numbers"), [1.5, -2.0]);
        assert!(matches!(reference.floats(INPUT, 2, 2), Err(ReferenceError::Length { expected: 16, found: 8, .. })));
        assert!(matches!(reference.bytes("../x"), Err(ReferenceError::Index { .. })));
        assert_eq!(reference.faces(), 0);
    }

    #[test]
    fn reports_the_fault_of_a_folder() {
        let folder = Folder::new();
        let open = || Reference::open(folder.path(), "abc").expect_err("is not whole");
        assert!(matches!(open(), ReferenceError::NoReference(_)));
        write(folder.path()).expect("is written");
        assert!(matches!(Reference::open(folder.path(), "abd"), Err(ReferenceError::OtherNetwork { .. })));
        let input = folder.path().join(INPUT);
        fs::write(&input, [0; 8]).expect("writable");
        assert!(matches!(open(), ReferenceError::Damaged(_)));
        fs::write(&input, [0; 7]).expect("writable");
        assert!(matches!(open(), ReferenceError::Length { expected: 8, found: 7, .. }));
        fs::remove_file(&input).expect("removable");
        assert!(matches!(open(), ReferenceError::Missing(_)));
        let path = folder.path().join(INDEX);
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).expect("writable");
        assert!(matches!(open(), ReferenceError::Format { found: 2, .. }));
        fs::write(&path, &text[..40]).expect("writable");
        assert!(matches!(open(), ReferenceError::Index { .. }));
        fs::remove_file(&path).expect("removable");
        fs::create_dir(&path).expect("writable");
        assert!(matches!(open(), ReferenceError::Io { .. }), "a folder in place of the index");
    }

    #[test]
    fn refuses_a_folder_with_other_files() {
        let folder = Folder::new();
        fs::write(folder.path().join("thesis.txt"), "x").expect("writable");
        assert!(write(folder.path()).is_err());
        assert!(folder.path().join("thesis.txt").exists());
        let forced = OutputRules { force: true, ..OutputRules::default() };
        write_by(folder.path(), forced.clone()).expect("on request");
        assert_eq!(fs::read(folder.path().join("thesis.txt")).expect("untouched"), b"x");
        // Files of others beside a reference, and an index of another program.
        let mut writer = ReferenceWriter::create(folder.path(), OutputRules::default()).expect("a reference");
        let error = writer.bytes("thesis.txt", b"y").expect_err("not its own").to_string();
        assert!(error.contains("thesis.txt") && error.contains("--force"), "{error}");
        fs::write(folder.path().join(INDEX), "{\"files\": {\"thesis.txt\": 1}}").expect("writable");
        let error = ReferenceWriter::create(folder.path(), OutputRules::default()).err().expect("refused").to_string();
        assert!(error.contains("is not an index"), "{error}");
        assert!(folder.path().join(INDEX).exists());
        ReferenceWriter::create(folder.path(), forced).expect("on request");
    }

    #[test]
    fn leaves_nothing_of_the_reference_before() {
        let folder = Folder::new();
        let mut writer = ReferenceWriter::create(folder.path(), OutputRules::default()).expect("is made");
        writer.floats("old.f32", &[1.0]).expect("is written");
        writer.finish(index()).expect("is written");
        write(folder.path()).expect("is written");
        assert_eq!(folder.names(""), [BENCH, INPUT, INDEX]);
    }
}
