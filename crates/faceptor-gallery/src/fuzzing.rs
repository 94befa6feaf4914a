//! The entry point of the fuzz target `gallery` in `fuzz/`. Only builds by cargo-fuzz have this module.
//!
//! A hostile file without the key ends at the first seal. So the target also seals what the fuzzer makes, as a program that has
//! the key and writes nonsense would.

use std::io;

use crate::audit::{AuditEntry, AuditEvent};
use crate::decision::Decision;
use crate::disk::Disk;
use crate::error::Result;
use crate::gallery::Gallery;
use crate::header::{Header, ID, Mark, Network, RECORDS_AT, mark_at};
use crate::key::{Derivation, Key, KeySource};
use crate::person::{Details, PersonId, StoredTemplate};
use crate::platform::Platform;
use crate::record::{self, Content, Link};
use crate::store::Store;
use crate::template::Template;

/// The key file of every gallery that is made here.
const KEY_FILE: &[u8; 32] = b"a key that only fuzzers will use";
const DIMENSION: usize = 4;
const NOW: u64 = 1_780_000_000;
const PLATFORM: Platform = Platform {
    // This does not change from run to run, so that an input has one outcome.
    random: |bytes| {
        bytes.fill(7);
        Ok(())
    },
    create: |_| Err(io::ErrorKind::Unsupported.into()),
};

/// Opens a gallery, reads all that it holds, and changes it. The first byte of the input decides: 0 and other even numbers, the
/// rest is the file; odd ones, the rest are records to be sealed.
pub fn gallery(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let file = match kind % 2 {
        0 => Some(bytes.to_vec()),
        _ => sealed(bytes).ok(),
    };
    if let Some(file) = file {
        examine(file);
    }
}

/// Makes a file of records. A record is its kind, its length u16, and its content as it is before it is sealed.
fn sealed(mut bytes: &[u8]) -> Result<Vec<u8>> {
    let key = KeySource::from_file_content(KEY_FILE)?.key(&Derivation::File)?;
    let network = Network { name: "fuzz".into(), recognition: [7; 32], dimension: DIMENSION };
    let header = Header { gallery_id: [1; ID], file_id: [2; ID], derivation: Derivation::File, network, generation: 0 };
    let (mut file, hash) = header.encode(&key, &PLATFORM)?;
    file.resize(RECORDS_AT, 0);
    let mut link = Link::first(header.file_id, &hash);
    let own = Key::from_bytes([3; 32]);
    let id = PersonId::from_bytes([4; 16]);
    let mut mark = Mark { generation: 0, length: RECORDS_AT as u64 };
    while let Some(([kind, low, high], rest)) = bytes.split_first_chunk() {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        bytes = rest;
        let personal = |kind: &[u8]| record::seal_bytes(&own, &PLATFORM, kind, &header.gallery_id, id, content);
        let number = || u64::from_le_bytes(std::array::from_fn(|at| content.get(at).copied().unwrap_or(0)));
        let made = match kind % 6 {
            0 => {
                link = record::write_bytes(&mut file, &key, &PLATFORM, link, content)?;
                continue;
            }
            1 => Content::Person { id, wrapped: record::wrap(&key, &PLATFORM, &header.gallery_id, id, &own)? },
            2 => Content::Details { id, sealed: personal(record::DETAILS)? },
            3 => Content::Templates { id, sealed: personal(record::TEMPLATES)? },
            4 => Content::Audit(AuditEntry {
                at: number(),
                event: AuditEvent::Enrolled,
                person: Some(id),
                templates: 1,
                transfer: None,
            }),
            _ => Content::Commit { generation: number() },
        };
        link = record::write(&mut file, &key, &PLATFORM, link, &made)?;
        if let Content::Commit { generation } = made {
            // An even kind (5 is odd, 11 even) leaves the mark where it was: a write that did not reach it.
            if kind % 2 == 1 {
                mark = Mark { generation, length: file.len() as u64 };
            }
        }
    }
    for place in [0, 1] {
        let bytes = header.encode_mark(&key, &PLATFORM, place, mark)?;
        file[mark_at(place)..][..bytes.len()].copy_from_slice(&bytes);
    }
    Ok(file)
}

/// Opens a file and does with it what the program does.
fn examine(file: Vec<u8>) {
    let Ok(source) = KeySource::from_file_content(KEY_FILE) else { return };
    let Ok(store) = Store::open_on(Box::new(MemoryDisk { main: file, part: Vec::new() }), &source, PLATFORM) else {
        return;
    };
    let mut gallery = Gallery::with(store.writing());
    gallery.notices().iter().for_each(|notice| drop(notice.to_string()));
    let dimension = gallery.network().dimension;
    let embedding: Vec<f32> = (0..dimension).map(|number| number as f32 - 0.5).collect();
    if let Ok(found) = gallery.identify(&embedding, &Decision::at(0.5), NOW) {
        assert!(found.person.is_none() || found.unknown.is_none());
    }
    let _ = gallery.check_network(&Network { name: "other".into(), ..gallery.network().clone() });
    let (size, generation) = (gallery.people().count(), gallery.generation());
    let name = gallery.people().next().map(|person| person.name().to_owned());
    if let Some(name) = &name {
        let _ = gallery.export(name, NOW);
        let _ = gallery.rename(name, "another name", NOW);
    }
    let details = Details {
        name: "a new person".into(),
        enrolled_at: NOW,
        enrolled_by: String::new(),
        purpose: String::new(),
        expires_at: None,
    };
    let Ok(template) = Template::of(&embedding, dimension) else { return };
    let stored = StoredTemplate { template, added_at: NOW, eyes_px: 60.0, forced: Vec::new(), crop: None };
    if let Ok(is_new) = gallery.enrol(details, vec![stored], NOW) {
        assert!(gallery.generation() > generation, "a change has a new generation");
        assert_eq!(gallery.people().count(), size + usize::from(is_new));
    }
    let _ = gallery.remove_expired(NOW);
    let _ = gallery.remove("a new person", NOW);
}

/// A file in memory.
struct MemoryDisk {
    main: Vec<u8>,
    part: Vec<u8>,
}

impl Disk for MemoryDisk {
    fn read(&mut self) -> Result<Vec<u8>> {
        Ok(self.main.clone())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (at, end) = (at as usize, at as usize + bytes.len());
        self.main.resize(self.main.len().max(end), 0);
        self.main[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.main.truncate(length as usize);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn write_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.part = bytes.to_vec();
        Ok(())
    }

    fn rename_part(&mut self) -> io::Result<()> {
        self.main = std::mem::take(&mut self.part);
        Ok(())
    }
}
