//! Kinds of results, each recognized by its content.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use crate::files::png_mark;

/// Longest report that is examined; those of this program are far shorter.
const MAX_REPORT_BYTES: u64 = 8 << 20;

/// The comment in a film, and how far from an end of the file it stands.
const FILM_MARK: &[u8] = b"Faceptor Edge ";
const FILM_MARK_BYTES: u64 = 64 << 10;

/// A kind of result. A file is replaced by one of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultKind {
    /// An annotated picture or a mask.
    Picture,
    /// A compiled network.
    Bundle,
    /// A signature of a bundle.
    Signature,
    /// A network with its signature and its reference, for `faceptor update`.
    Update,
    /// A JSON report of `bench` or `verify`.
    Report,
    /// A picture of `bench --profile`.
    Profile,
    /// The checks of `verify --junit`.
    Checks,
    /// A file of a reference folder; the index of the folder says which are.
    ReferenceFile,
    /// A film of annotated frames.
    Film,
    /// The copy of the last good configuration, in the service's own folder.
    Configuration,
    /// The newest generations of galleries; a program that writes one has read it before.
    Counter,
}

impl ResultKind {
    /// Returns whether a file is such a result of this program, of any version. Returns false for a file that cannot be read.
    pub(crate) fn is_in(self, path: &Path) -> bool {
        let starts = |start: &str, mark: &str| {
            let head = head(path, 1024);
            let head = String::from_utf8_lossy(&head);
            head.starts_with(start) && head.contains(mark)
        };
        match self {
            ResultKind::Picture => png_mark::read(path).is_some(),
            ResultKind::Bundle => head(path, 8) == b"FACEPTOR",
            ResultKind::Signature => starts("untrusted comment: ", "\ntrusted comment: "),
            ResultKind::Update => starts("network.bundle", "ustar"),
            ResultKind::Film => is_film(path),
            ResultKind::Report => is_report(&head(path, MAX_REPORT_BYTES)),
            ResultKind::Profile => starts("<svg ", "One face, found and read: "),
            ResultKind::ReferenceFile | ResultKind::Configuration | ResultKind::Counter => false,
            ResultKind::Checks => starts("<?xml ", "<testsuites name=\"faceptor-verify\""),
        }
    }
}

impl fmt::Display for ResultKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            ResultKind::Picture => "a picture",
            ResultKind::Bundle => "a bundle",
            ResultKind::Signature => "a signature",
            ResultKind::Film => "a film",
            ResultKind::Update => "an update",
            ResultKind::Report => "a report",
            ResultKind::Profile => "a profile",
            ResultKind::Checks => "a list of checks",
            ResultKind::ReferenceFile => "a file of this reference",
            ResultKind::Configuration => "a copy of a configuration",
            ResultKind::Counter => "a counter of generations",
        })
    }
}

/// Reads the first bytes of a file; none if it cannot be read.
fn head(path: &Path, bytes: u64) -> Vec<u8> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes).read_to_end(&mut head));
    if read.is_ok() { head } else { Vec::new() }
}

/// Recognizes films of this program by the comment that ffmpeg writes into them, near the beginning or the end.
fn is_film(path: &Path) -> bool {
    let tail = || {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(FILM_MARK_BYTES))).ok()?;
        let mut tail = Vec::new();
        file.take(FILM_MARK_BYTES).read_to_end(&mut tail).ok()?;
        Some(tail)
    };
    [head(path, FILM_MARK_BYTES), tail().unwrap_or_default()]
        .iter()
        .any(|bytes| bytes.windows(FILM_MARK.len()).any(|window| window == FILM_MARK))
}

/// Recognizes the reports of `bench`, `bench --profile` and `verify`.
fn is_report(text: &[u8]) -> bool {
    let Ok(report) = serde_json::from_slice::<Value>(text) else { return false };
    let has = |names: &[&str]| names.iter().all(|name| report.pointer(name).is_some());
    has(&["/machine", "/model/sha256", "/stages", "/frame/p50_us"])
        || has(&["/machine", "/encoder", "/whole", "/parts"])
        || has(&["/tasks", "/end_to_end", "/checks", "/passed"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    #[test]
    fn files_of_others_are_no_results() {
        let folder = Folder::new();
        let kinds =
            [ResultKind::Picture, ResultKind::Bundle, ResultKind::Report, ResultKind::Profile, ResultKind::Checks];
        for (name, bytes) in [
            ("empty", b"".as_slice()),
            ("text", b"FACEPTO"),
            ("config.json", b"{\"machine\": 1, \"stages\": 2}"),
            ("list.json", b"[1]"),
            ("picture.svg", b"<svg xmlns=\"http://www.w3.org/2000/svg\"><text>One face</text></svg>"),
            ("checks.xml", b"<?xml version=\"1.0\"?><testsuites name=\"mine\"/>"),
        ] {
            let path = folder.write(name, bytes);
            for kind in kinds {
                assert!(!kind.is_in(Path::new(&path)), "{name}: {kind}");
            }
        }
        assert!(kinds.iter().all(|kind| !kind.is_in(Path::new("/nonexistent"))));
        let bundle = folder.write("a.bundle", b"FACEPTOR\0\0");
        assert!(ResultKind::Bundle.is_in(Path::new(&bundle)) && !ResultKind::Picture.is_in(Path::new(&bundle)));
    }
}
