//! The mark in this program's PNGs: text chunks that name the program and identify what a picture was made of.
//!
//! By it a later command recognizes its own results: it replaces the result of the same photo, and does not take results for
//! photos. The photo's path is stored as a checksum, because it is private and pictures are passed on.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The keyword that PNG has for the program.
const SOFTWARE: &str = "Software";
const PROGRAM: &str = "Faceptor Edge";
const SOURCE: &str = "Faceptor-Source";
/// Longest text chunk that is read.
const MAX_TEXT: u32 = 1024;
/// Most chunks before the pixels that are looked at.
const MAX_CHUNKS: usize = 64;

/// Identifies what a picture was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceId(String);

impl SourceId {
    /// Identifies a photo for results in `folder`, by the way from there to it: it stays when both are moved together.
    pub(crate) fn of_file(photo: &Path, folder: &Path) -> SourceId {
        let real =
            |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or(path.to_owned());
        SourceId::of_bytes(relative(&real(photo), &real(folder)).as_os_str().as_bytes())
    }

    /// Identifies a photo without a name by its content.
    pub(crate) fn of_bytes(bytes: &[u8]) -> SourceId {
        let digest = Sha256::digest(bytes);
        SourceId(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Returns the way from an absolute folder to an absolute path.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (mut to, mut from) = (path.components().peekable(), folder.components().peekable());
    while to.peek().is_some() && to.peek() == from.peek() {
        to.next();
        from.next();
    }
    from.map(|_| Component::ParentDir).chain(to).collect()
}

/// The mark of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PngMark {
    /// The source of the picture; `None` for frames of a run.
    pub(crate) source: Option<SourceId>,
}

impl PngMark {
    /// Returns the keywords and texts of its chunks.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        let program = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
        let source = self.source.as_ref().map(|SourceId(id)| (SOURCE, id.clone()));
        [(SOFTWARE, program)].into_iter().chain(source)
    }
}

/// Reads the mark of a file; `None` if it is not a PNG of this program, or cannot be read.
pub(crate) fn read(path: &Path) -> Option<PngMark> {
    read_from(&mut BufReader::new(File::open(path).ok()?)).ok().flatten()
}

fn read_from(file: &mut impl Read) -> io::Result<Option<PngMark>> {
    let mut signature = [0; SIGNATURE.len()];
    file.read_exact(&mut signature)?;
    if signature != SIGNATURE {
        return Ok(None);
    }
    let (mut is_own, mut source) = (false, None);
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let length = u32::from_be_bytes([a, b, c, d]);
        match &kind {
            // The program writes its texts before the pixels.
            b"IDAT" | b"IEND" => break,
            b"tEXt" if length <= MAX_TEXT => {
                let mut text = vec![0; length as usize + 4];
                file.read_exact(&mut text)?;
                text.truncate(length as usize);
                let mut halves = text.splitn(2, |&byte| byte == 0);
                let (keyword, text) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
                let text = std::str::from_utf8(text).unwrap_or_default();
                is_own |= keyword == SOFTWARE.as_bytes() && text.starts_with(PROGRAM);
                if keyword == SOURCE.as_bytes() {
                    source = Some(SourceId(text.to_owned()));
                }
            }
            _ => drop(io::copy(&mut file.take(u64::from(length) + 4), &mut io::sink())?),
        }
    }
    Ok(is_own.then_some(PngMark { source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn way_to_a_photo() {
        for (path, folder, expected) in [
            ("/a/b/c.jpg", "/a/b", "c.jpg"),
            ("/a/b/c.jpg", "/a/out", "../b/c.jpg"),
            ("/c.jpg", "/a/out", "../../c.jpg"),
            ("/a/b/c.jpg", "/", "a/b/c.jpg"),
            ("/a/b", "/a/b/c", ".."),
        ] {
            assert_eq!(relative(Path::new(path), Path::new(folder)), Path::new(expected), "{path} from {folder}");
        }
    }

    #[test]
    fn other_files_have_no_mark() {
        let chunk = |kind: &[u8], body: &[u8]| [&(body.len() as u32).to_be_bytes(), kind, body, &[0; 4]].concat();
        let png = |chunks: &[Vec<u8>]| [SIGNATURE, &chunks.concat()].concat();
        let (header, end) = (chunk(b"IHDR", &[0; 13]), chunk(b"IDAT", &[]));
        let own = chunk(b"tEXt", b"Software\0Faceptor Edge 9");
        let read = |bytes: &[u8]| read_from(&mut &*bytes).ok().flatten();
        assert_eq!(read(&png(&[header.clone(), own.clone(), end.clone()])), Some(PngMark { source: None }));
        let source = chunk(b"tEXt", b"Faceptor-Source\0ab12");
        let marked = PngMark { source: Some(SourceId("ab12".to_owned())) };
        assert_eq!(read(&png(&[header.clone(), source.clone(), own.clone(), end.clone()])), Some(marked));
        for chunks in [
            vec![header.clone(), end.clone()],
            vec![header.clone(), source, end.clone()],
            vec![header.clone(), chunk(b"tEXt", b"Software\0GIMP"), end.clone()],
            vec![header.clone(), chunk(b"tEXt", b"Comment\0Faceptor Edge"), end.clone()],
            vec![header.clone(), end, own],
            vec![header.clone(), chunk(b"tEXt", &[0xff; 2000])],
            vec![header],
            Vec::new(),
        ] {
            assert_eq!(read(&png(&chunks)), None);
        }
        assert_eq!((read(b""), read(b"\xff\xd8\xff\xe0 a JPEG")), (None, None));
        // A length that the file does not have.
        assert_eq!(read(&[SIGNATURE, &[0xff; 8], &[0; 40]].concat()), None);
    }
}
