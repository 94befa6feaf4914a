//! Records: numbered, chained and sealed, so that none can be changed, moved, repeated or taken out unnoticed.
//!
//! A record is its length u32, its number u64, and sealed bytes. The seal covers both, the file's id, and the tag of the
//! record before it. The sealed content is filled up to a multiple of 128 bytes, so that its length shows little.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::audit::{AuditEntry, Transfer};
use crate::cipher::{self, OVERHEAD, TAG};
use crate::error::{GalleryError, Result};
use crate::header::ID;
use crate::key::{KEY, Key};
use crate::person::{Crop, PersonId, StoredTemplate};
use crate::platform::Platform;

/// Bytes before the sealed part.
const HEAD: usize = 4 + 8;
/// Content is filled up to a multiple of this.
const GRAIN: usize = 128;
/// The most bytes of a record's sealed part.
const MOST: usize = 64 << 20;

/// Kinds of data that a person's key seals. The kind is authenticated, so one cannot replace another.
const OWN_KEY: &[u8] = b"key";
pub(crate) const DETAILS: &[u8] = b"details";
pub(crate) const TEMPLATES: &[u8] = b"templates";
pub(crate) const CROPS: &[u8] = b"crops";
/// The most templates with crops in a record, so that none is longer than a record may be.
const MOST_CROPS: usize = 128;

/// The content of a record. Data of a person is sealed once more by that person's own key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// A person begins: the own key, sealed by the gallery's.
    Person { id: PersonId, wrapped: Vec<u8> },
    /// Name and circumstances, in place of those before.
    Details { id: PersonId, sealed: Vec<u8> },
    /// Further templates.
    Templates { id: PersonId, sealed: Vec<u8> },
    /// An entry of the audit list.
    Audit(AuditEntry),
    /// All records up to here belong together and count from now on.
    Commit { generation: u64 },
    /// Further templates with their stored crops; since version 0.8.
    Crops { id: PersonId, sealed: Vec<u8> },
    /// An entry of the audit list about copies outside of the gallery; since version 0.8.
    Transfer(AuditEntry, Transfer),
}

impl From<&AuditEntry> for Content {
    fn from(entry: &AuditEntry) -> Content {
        match &entry.transfer {
            Some(transfer) => Content::Transfer(entry.clone(), transfer.clone()),
            None => Content::Audit(entry.clone()),
        }
    }
}

/// A template with the bytes of its crop, as they are sealed.
pub(crate) type TemplateWithCrop = (StoredTemplate, Option<Vec<u8>>);

/// The place of the next record: its number, and the tag of the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    file_id: [u8; ID],
    pub number: u64,
    previous: [u8; TAG],
}

impl Link {
    /// Returns the place of the first record after a header with that hash.
    pub fn first(file_id: [u8; ID], header_hash: &[u8; 32]) -> Link {
        let mut previous = [0; TAG];
        previous.copy_from_slice(&header_hash[..TAG]);
        Link { file_id, number: 0, previous }
    }

    fn context(&self, length: usize) -> Vec<u8> {
        let numbers = [length as u64, self.number].map(u64::to_le_bytes).concat();
        [&b"faceptor gallery record"[..], &self.file_id, &numbers, &self.previous].concat()
    }

    fn after(self, sealed: &[u8]) -> Link {
        let previous = sealed.last_chunk().copied().unwrap_or(self.previous);
        Link { number: self.number + 1, previous, ..self }
    }
}

/// Appends a record to `bytes`. Returns the place of the next one.
pub(crate) fn write(
    bytes: &mut Vec<u8>,
    key: &Key,
    platform: &Platform,
    link: Link,
    content: &Content,
) -> Result<Link> {
    let refused = |_| GalleryError::Refused("a record cannot be encoded".into());
    let encoded = Zeroizing::new(postcard::to_allocvec(content).map_err(refused)?);
    write_bytes(bytes, key, platform, link, &encoded)
}

/// Appends a record with encoded content.
pub(crate) fn write_bytes(
    bytes: &mut Vec<u8>,
    key: &Key,
    platform: &Platform,
    link: Link,
    encoded: &[u8],
) -> Result<Link> {
    let mut plain = Zeroizing::new(Vec::with_capacity(encoded.len() + GRAIN));
    plain.extend((encoded.len() as u32).to_le_bytes());
    plain.extend_from_slice(encoded);
    let filled = plain.len().next_multiple_of(GRAIN);
    plain.resize(filled, 0);
    let length = plain.len() + OVERHEAD;
    if length > MOST {
        return Err(GalleryError::Refused("too many photos at once: enrol them in several commands".into()));
    }
    let sealed = cipher::seal(key, platform, &link.context(length), &plain)?;
    bytes.extend((length as u32).to_le_bytes());
    bytes.extend(link.number.to_le_bytes());
    bytes.extend_from_slice(&sealed);
    Ok(link.after(&sealed))
}

/// Reads the record at a place of the file. Returns its content, the place after it, and the link of the next one.
pub(crate) fn read(file: &[u8], at: usize, key: &Key, link: Link) -> Result<(Content, usize, Link)> {
    let damaged = |reason| GalleryError::DamagedRecord { record: link.number, at: at as u64, reason };
    let rest = file.get(at..).unwrap_or_default();
    let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return Err(damaged("it is cut off")) };
    let length = u32::from_le_bytes(std::array::from_fn(|byte| head[byte])) as usize;
    let number = u64::from_le_bytes(std::array::from_fn(|byte| head[4 + byte]));
    let Some(sealed) = rest.get(..length).filter(|sealed| (OVERHEAD + GRAIN..=MOST).contains(&sealed.len())) else {
        return Err(damaged("its length does not fit the file"));
    };
    let plain = cipher::open(key, &link.context(length), sealed);
    let Some(plain) = plain.filter(|_| number == link.number) else {
        return Err(match number == link.number {
            true => damaged("its seal does not match"),
            false => GalleryError::OutOfOrder { expected: link.number, found: number, at: at as u64 },
        });
    };
    let content = plain.split_first_chunk().and_then(|(length, rest)| rest.get(..u32::from_le_bytes(*length) as usize));
    let content = content.and_then(|content| postcard::from_bytes(content).ok());
    let content = content.ok_or_else(|| damaged("its content is unknown to this program"))?;
    Ok((content, at + HEAD + length, link.after(sealed)))
}

/// Seals a person's key by the gallery's.
pub(crate) fn wrap(key: &Key, platform: &Platform, gallery: &[u8; ID], id: PersonId, own: &Key) -> Result<Vec<u8>> {
    cipher::seal(key, platform, &personal(OWN_KEY, gallery, id), own.bytes())
}

/// Opens a person's key; `None` if the gallery's key did not seal it.
pub(crate) fn unwrap(key: &Key, gallery: &[u8; ID], id: PersonId, wrapped: &[u8]) -> Option<Key> {
    let plain = cipher::open(key, &personal(OWN_KEY, gallery, id), wrapped)?;
    plain.first_chunk::<KEY>().filter(|_| plain.len() == KEY).map(|own| Key::from_bytes(*own))
}

/// Opens what [`seal_personal`] sealed.
pub(crate) fn open_personal<T: serde::de::DeserializeOwned>(
    own: &Key,
    kind: &[u8],
    gallery: &[u8; ID],
    id: PersonId,
    sealed: &[u8],
) -> Result<T, &'static str> {
    let plain = cipher::open(own, &personal(kind, gallery, id), sealed);
    let plain = plain.ok_or("what is held on a person cannot be opened")?;
    postcard::from_bytes(&plain).map_err(|_| "what is held on a person cannot be read")
}

/// Seals what is held on a person by that person's key.
pub(crate) fn seal_personal(
    own: &Key,
    platform: &Platform,
    kind: &[u8],
    gallery: &[u8; ID],
    id: PersonId,
    value: &impl Serialize,
) -> Result<Vec<u8>> {
    let refused = |_| GalleryError::Refused("what is held on a person cannot be encoded".into());
    let plain = Zeroizing::new(postcard::to_allocvec(value).map_err(refused)?);
    seal_bytes(own, platform, kind, gallery, id, &plain)
}

/// Seals the templates of a person, in their order. Those without crops are written as by earlier versions.
pub(crate) fn seal_templates(
    own: &Key,
    platform: &Platform,
    gallery: &[u8; ID],
    id: PersonId,
    templates: &[StoredTemplate],
) -> Result<Vec<Content>> {
    if templates.iter().all(|stored| stored.crop.is_none()) {
        let sealed = seal_personal(own, platform, TEMPLATES, gallery, id, &templates)?;
        return Ok(vec![Content::Templates { id, sealed }]);
    }
    let seal = |part: &[StoredTemplate]| {
        // Borrows the crops: a copy would stay in memory.
        let part: Vec<(&StoredTemplate, Option<&[u8]>)> =
            part.iter().map(|stored| (stored, stored.crop.as_ref().map(Crop::bytes))).collect();
        Ok(Content::Crops { id, sealed: seal_personal(own, platform, CROPS, gallery, id, &part)? })
    };
    templates.chunks(MOST_CROPS).map(seal).collect()
}

/// Seals encoded bytes as [`seal_personal`] does.
pub(crate) fn seal_bytes(
    own: &Key,
    platform: &Platform,
    kind: &[u8],
    gallery: &[u8; ID],
    id: PersonId,
    plain: &[u8],
) -> Result<Vec<u8>> {
    cipher::seal(own, platform, &personal(kind, gallery, id), plain)
}

/// Returns the context of what a person's key seals.
fn personal(kind: &[u8], gallery: &[u8; ID], id: PersonId) -> Vec<u8> {
    [&b"faceptor person "[..], kind, gallery, id.bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PLATFORM;

    #[test]
    fn kinds_of_records_keep_their_numbers() {
        // Earlier versions wrote the first five: a new kind has to follow them.
        let id = PersonId::from_bytes([4; 16]);
        let event = crate::AuditEvent::Created;
        let entry = AuditEntry { at: 0, event, person: None, templates: 0, transfer: None };
        let kinds = [
            Content::Person { id, wrapped: Vec::new() },
            Content::Details { id, sealed: Vec::new() },
            Content::Templates { id, sealed: Vec::new() },
            Content::Audit(entry.clone()),
            Content::Commit { generation: 1 },
            Content::Crops { id, sealed: Vec::new() },
            Content::Transfer(entry, Transfer { by: String::new(), place: String::new() }),
        ];
        let numbers = kinds.iter().map(|kind| postcard::to_allocvec(kind).expect("encoded")[0]);
        assert!(numbers.eq(0..7));
    }

    #[test]
    fn records_form_a_chain() {
        let (key, first) = (Key::from_bytes([1; 32]), Link::first([2; ID], &[3; 32]));
        let contents = [Content::Commit { generation: 1 }, Content::Commit { generation: 2 }];
        let (mut bytes, mut link, mut ends) = (Vec::new(), first, vec![0]);
        for content in &contents {
            link = write(&mut bytes, &key, &PLATFORM, link, content).expect("written");
            ends.push(bytes.len());
        }
        let (mut at, mut link) = (0, first);
        for content in &contents {
            let (found, next, after) = read(&bytes, at, &key, link).expect("read");
            assert_eq!(found, *content);
            (at, link) = (next, after);
        }
        assert_eq!(at, bytes.len());
        // Equal lengths: the second record can stand where the first belongs, but not unnoticed.
        let swapped = [&bytes[ends[1]..], &bytes[..ends[1]]].concat();
        let error = read(&swapped, 0, &key, first).expect_err("swapped").to_string();
        assert!(error.contains("record 1") && error.contains("where record 0 belongs"), "{error}");
        // Renumbered as well, it does not fit its neighbour.
        let mut renumbered = swapped;
        renumbered[4] = 0;
        assert!(matches!(read(&renumbered, 0, &key, first), Err(GalleryError::DamagedRecord { record: 0, .. })));
        let other_file = Link::first([4; ID], &[3; 32]);
        assert!(read(&bytes, 0, &key, other_file).is_err());
    }
}
