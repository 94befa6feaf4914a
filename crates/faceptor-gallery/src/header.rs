//! The beginning of a gallery: what it is, for which network, and where its last complete write ends.
//!
//! ```text
//! magic "FACEGALL" | version u32 | header length u32 | gallery id | file id
//! way to the key: kind u32, memory u32, passes u32, salt | dimension u32 | recognition SHA-256 | name of the network
//! generation of the file's first state u64 | SHA-256 of all above | seal of all above by the gallery's key
//! two marks of complete writes, each: generation u64, file length u64, seal
//! ```
//! All numbers are little-endian. The gallery id stays for the gallery's life; the file id is new whenever the whole file is
//! written, so that no record of an earlier file fits into a later one. The two marks are written in turn: while one of them
//! is being written the other is intact.

use sha2::{Digest, Sha256};

use crate::cipher::{self, OVERHEAD};
use crate::error::{GalleryError, Result};
use crate::key::{Derivation, Key, PassphraseCost, SALT};
use crate::platform::Platform;

const MAGIC: &[u8; 8] = b"FACEGALL";
/// The version that this crate reads and writes.
const VERSION: u32 = 1;
/// Bytes of an identity.
pub(crate) const ID: usize = 16;
const HASH: usize = 32;
const NAME: usize = 64;
/// Bytes before the checksum.
const PLAIN: usize = 184;
const SEAL_AT: usize = PLAIN + HASH;
const MARKS_AT: usize = SEAL_AT + OVERHEAD;
/// Bytes of a mark: generation, length, seal.
pub(crate) const MARK: usize = 8 + 8 + OVERHEAD;
/// Where the records begin.
pub(crate) const RECORDS_AT: usize = MARKS_AT + 2 * MARK;
/// The most numbers of an embedding.
const MOST_DIMENSIONS: u32 = 4096;

/// The network whose embeddings a gallery holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Name and version, for messages.
    pub name: String,
    /// Identity of its recognition: networks with the same one have the same embeddings.
    pub recognition: [u8; 32],
    /// Numbers of an embedding.
    pub dimension: usize,
}

/// Fields that do not change between two writes of the whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub gallery_id: [u8; ID],
    pub file_id: [u8; ID],
    pub derivation: Derivation,
    pub network: Network,
    /// Generation of the state that the whole file was written with.
    pub generation: u64,
}

/// Where the last complete write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub generation: u64,
    pub length: u64,
}

impl Header {
    /// Returns the bytes up to the marks, and the hash of the plain part.
    pub fn encode(&self, key: &Key, platform: &Platform) -> Result<(Vec<u8>, [u8; HASH])> {
        let mut bytes = Vec::with_capacity(RECORDS_AT);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((RECORDS_AT as u32).to_le_bytes());
        bytes.extend(self.gallery_id);
        bytes.extend(self.file_id);
        let none = PassphraseCost { memory_kib: 0, passes: 0 };
        let (kind, salt, cost) = match self.derivation {
            Derivation::File => (0u32, [0; SALT], none),
            Derivation::Passphrase { salt, cost } => (1, salt, cost),
        };
        bytes.extend([kind, cost.memory_kib, cost.passes].map(u32::to_le_bytes).concat());
        bytes.extend(salt);
        bytes.extend((self.network.dimension as u32).to_le_bytes());
        bytes.extend(self.network.recognition);
        let name = self.network.name.as_bytes();
        let name = &name[..self.network.name.floor_char_boundary(NAME)];
        bytes.extend(name);
        bytes.resize(bytes.len() + NAME - name.len(), 0);
        bytes.extend(self.generation.to_le_bytes());
        let hash: [u8; HASH] = Sha256::digest(&bytes).into();
        bytes.extend(hash);
        let seal = cipher::seal(key, platform, &bytes, &[])?;
        bytes.extend(seal);
        Ok((bytes, hash))
    }

    /// Reads a header without its key: enough to know which key is needed.
    pub fn decode(file: &[u8]) -> Result<(Header, [u8; HASH])> {
        if file.is_empty() || !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
            return Err(GalleryError::NotAGallery);
        }
        if file.len() < RECORDS_AT {
            return Err(GalleryError::Truncated { expected: RECORDS_AT as u64, found: file.len() as u64 });
        }
        let mut fields = Fields(&file[MAGIC.len()..PLAIN]);
        let version = fields.u32();
        if version > VERSION {
            return Err(GalleryError::Newer { found: version, known: VERSION });
        }
        let hash: [u8; HASH] = Sha256::digest(&file[..PLAIN]).into();
        if file[PLAIN..SEAL_AT] != hash {
            return Err(GalleryError::DamagedHeader("its checksum does not match"));
        }
        let malformed = |what| Err(GalleryError::DamagedHeader(what));
        if version != VERSION || fields.u32() as usize != RECORDS_AT {
            return malformed("its version or length does not exist");
        }
        let (gallery_id, file_id) = (fields.take(), fields.take());
        let (kind, cost) = (fields.u32(), PassphraseCost { memory_kib: fields.u32(), passes: fields.u32() });
        let salt = fields.take();
        let derivation = match kind {
            0 => Derivation::File,
            1 => Derivation::Passphrase { salt, cost },
            _ => return malformed("its kind of key is unknown"),
        };
        let dimension = fields.u32();
        if !(1..=MOST_DIMENSIONS).contains(&dimension) {
            return malformed("its embeddings have an impossible length");
        }
        let recognition = fields.take();
        let name: [u8; NAME] = fields.take();
        let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        let network = Network { name, recognition, dimension: dimension as usize };
        Ok((Header { gallery_id, file_id, derivation, network, generation: fields.u64() }, hash))
    }

    /// Checks the seal of a header that [`Header::decode`] has read.
    ///
    /// The checksum has matched, so the bytes are those that were written: the key is another one.
    pub fn check_key(file: &[u8], key: &Key) -> Result<()> {
        let seal = file.get(SEAL_AT..MARKS_AT).ok_or(GalleryError::NotAGallery)?;
        cipher::open(key, &file[..SEAL_AT], seal).map(|_| ()).ok_or(GalleryError::WrongKey)
    }

    /// Returns the two marks; `None` for a damaged one.
    pub fn marks(&self, file: &[u8], key: &Key) -> [Option<Mark>; 2] {
        [0, 1].map(|place| {
            let mut fields = Fields(file.get(mark_at(place)..mark_at(place + 1))?);
            let mark = Mark { generation: fields.u64(), length: fields.u64() };
            cipher::open(key, &self.mark_context(place, mark), fields.0).map(|_| mark)
        })
    }

    /// Returns the bytes of a mark at a place, 0 or 1.
    pub fn encode_mark(&self, key: &Key, platform: &Platform, place: usize, mark: Mark) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(MARK);
        bytes.extend(mark.generation.to_le_bytes());
        bytes.extend(mark.length.to_le_bytes());
        bytes.extend(cipher::seal(key, platform, &self.mark_context(place, mark), &[])?);
        Ok(bytes)
    }

    fn mark_context(&self, place: usize, mark: Mark) -> Vec<u8> {
        let numbers = [place as u64, mark.generation, mark.length].map(u64::to_le_bytes);
        [&b"faceptor gallery mark"[..], &self.file_id, &numbers.concat()].concat()
    }
}

/// Returns where a mark lies in the file.
pub(crate) fn mark_at(place: usize) -> usize {
    MARKS_AT + place * MARK
}

/// Takes fields from the front of bytes whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PLATFORM;

    fn header(derivation: Derivation) -> Header {
        let network = Network { name: "edge 0.6.0".into(), recognition: [3; 32], dimension: 128 };
        Header { gallery_id: [1; ID], file_id: [2; ID], derivation, network, generation: 7 }
    }

    fn file(header: &Header, key: &Key) -> Vec<u8> {
        let (mut bytes, _) = header.encode(key, &PLATFORM).expect("encoded");
        for place in [0, 1] {
            let mark = Mark { generation: 7, length: 1000 + place as u64 };
            bytes.extend(header.encode_mark(key, &PLATFORM, place, mark).expect("encoded"));
        }
        bytes
    }

    #[test]
    fn header_is_read_back() {
        let key = Key::from_bytes([9; 32]);
        let cost = PassphraseCost { memory_kib: 8, passes: 2 };
        for derivation in [Derivation::File, Derivation::Passphrase { salt: [5; SALT], cost }] {
            let header = header(derivation);
            let file = file(&header, &key);
            assert_eq!(file.len(), RECORDS_AT);
            assert_eq!(Header::decode(&file).expect("read").0, header);
            Header::check_key(&file, &key).expect("its key");
            let marks = [1000, 1001].map(|length| Some(Mark { generation: 7, length }));
            assert_eq!(header.marks(&file, &key), marks);
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let (key, header) = (Key::from_bytes([9; 32]), header(Derivation::File));
        let whole = file(&header, &key);
        for at in 0..whole.len() {
            let mut file = whole.clone();
            file[at] ^= 0x10;
            let read = Header::decode(&file).and_then(|_| Header::check_key(&file, &key));
            let marks = header.marks(&file, &key);
            match at {
                0..MARKS_AT => assert!(read.is_err(), "byte {at}"),
                _ => assert_eq!(marks.iter().flatten().count(), 1, "byte {at}"),
            }
        }
        let end = |end: usize| Header::decode(&whole[..end]).expect_err("cut").to_string();
        assert!((1..RECORDS_AT).all(|at| end(at).contains("truncated")));
    }

    #[test]
    fn other_keys_files_and_versions_are_named() {
        let (key, header) = (Key::from_bytes([9; 32]), header(Derivation::File));
        let mut file = file(&header, &key);
        assert!(matches!(Header::check_key(&file, &Key::from_bytes([8; 32])), Err(GalleryError::WrongKey)));
        for other in [&b""[..], b"FACEPTOR", b"\xff\xd8\xff\xe0 a photo"] {
            assert!(matches!(Header::decode(other), Err(GalleryError::NotAGallery)));
        }
        file[8] = 2;
        assert!(matches!(Header::decode(&file), Err(GalleryError::Newer { found: 2, known: 1 })));
    }
}
