//! Random bytes, a file in memory that can end its process, and people for the tests of this crate.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::Disk;
use crate::error::Result;
use crate::gallery::Gallery;
use crate::header::Network;
use crate::key::{KeySource, PassphraseCost};
use crate::person::{Details, Person, PersonId, StoredTemplate};
use crate::platform::Platform;
use crate::store::Store;
use crate::template::Template;

pub(crate) const PLATFORM: Platform = Platform {
    random: |bytes| File::open("/dev/urandom")?.read_exact(bytes),
    create: |path| -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(true).open(path)
    },
};

pub(crate) const NOW: u64 = 1_780_000_000;
pub(crate) const DIMENSION: usize = 16;

/// A disk in memory. Its clones are one disk, so that it outlives the gallery that writes to it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    main: Vec<u8>,
    part: Option<Vec<u8>>,
    /// Bytes of the main file that reached the disk for certain.
    flushed: Vec<u8>,
    /// Steps that are still made: a byte written, a cut, a rename. Then the process is killed.
    steps: u64,
    made: u64,
}

impl MemoryDisk {
    pub fn new(main: Vec<u8>) -> MemoryDisk {
        MemoryDisk(Arc::new(Mutex::new(Files { flushed: main.clone(), main, part: None, steps: u64::MAX, made: 0 })))
    }

    /// Returns the disk of a process that is killed after this many steps.
    pub fn killed_after(main: Vec<u8>, steps: u64) -> MemoryDisk {
        let disk = MemoryDisk::new(main);
        disk.files().steps = steps;
        disk
    }

    /// Makes room again.
    pub fn allow_more(&self) {
        self.files().steps = u64::MAX;
    }

    pub fn steps_made(&self) -> u64 {
        self.files().made
    }

    pub fn main(&self) -> Vec<u8> {
        self.files().main.clone()
    }

    /// Returns the file after a power failure: what was not flushed has its length, but no content.
    pub fn after_power_failure(&self) -> Vec<u8> {
        let files = self.files();
        let mut main = files.flushed.clone();
        main.resize(files.main.len().max(main.len()), 0);
        main
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("no test panics while it holds the lock")
    }
}

impl Files {
    /// Makes as many of the steps as are left. Returns how many.
    fn step(&mut self, wanted: usize) -> usize {
        let allowed = self.steps.saturating_sub(self.made).min(wanted as u64);
        self.made += allowed;
        allowed as usize
    }
}

fn killed() -> io::Error {
    io::Error::other("killed")
}

impl Disk for MemoryDisk {
    fn read(&mut self) -> Result<Vec<u8>> {
        Ok(self.main())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let allowed = files.step(bytes.len());
        let at = at as usize;
        let end = (at + allowed).max(files.main.len());
        files.main.resize(end, 0);
        files.main[at..at + allowed].copy_from_slice(&bytes[..allowed]);
        if allowed == bytes.len() { Ok(()) } else { Err(killed()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut files = self.files();
        if files.step(1) == 0 {
            return Err(killed());
        }
        files.main.truncate(length as usize);
        files.flushed.truncate(length as usize);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut files = self.files();
        if files.step(1) == 0 {
            return Err(killed());
        }
        files.flushed = files.main.clone();
        Ok(())
    }

    fn write_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let allowed = files.step(bytes.len());
        files.part = Some(bytes[..allowed].to_vec());
        if allowed == bytes.len() { Ok(()) } else { Err(killed()) }
    }

    fn rename_part(&mut self) -> io::Result<()> {
        let mut files = self.files();
        if files.step(1) == 0 {
            return Err(killed());
        }
        files.main = files.part.take().expect("a part was written");
        files.flushed = files.main.clone();
        Ok(())
    }
}

pub(crate) fn key(byte: u8) -> KeySource {
    let mut content = [byte; 32];
    content[0] = !byte;
    KeySource::from_file_content(&content).expect("a key")
}

pub(crate) fn network() -> Network {
    Network { name: "test 1".into(), recognition: [7; 32], dimension: DIMENSION }
}

/// Returns an embedding of a person, always the same for the same numbers.
pub(crate) fn embedding(person: u32, photo: u32) -> Vec<f32> {
    // The finishing steps of splitmix64.
    let value = |seed: u32| {
        let mut bits = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let one = |i: u32| value(person * 1000 + i + 1) + 0.2 * value(person * 1000 + 31 * (photo + 1) + i);
    (0..DIMENSION as u32).map(one).collect()
}

pub(crate) fn stored(person: u32, photo: u32) -> StoredTemplate {
    let template = Template::of(&embedding(person, photo), DIMENSION).expect("a direction");
    StoredTemplate { template, added_at: NOW, eyes_px: 60.0, forced: Vec::new(), crop: None }
}

pub(crate) fn details(name: &str) -> Details {
    Details {
        name: name.into(),
        enrolled_at: NOW,
        enrolled_by: "the test".into(),
        purpose: "to see".into(),
        expires_at: None,
    }
}

/// Returns a template of numbers of no meaning, which follow from the seed.
pub(crate) fn random_template(dimension: usize, seed: &mut u64) -> Template {
    let number = |_| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    Template::of(&(0..dimension).map(number).collect::<Vec<f32>>(), dimension).expect("a direction")
}

/// Returns a person with these templates.
pub(crate) fn person_with(templates: Vec<Template>, now: u64) -> Person {
    let stored = |template| StoredTemplate { template, added_at: now, eyes_px: 60.0, forced: Vec::new(), crop: None };
    let templates = templates.into_iter().map(stored).collect();
    Person { id: PersonId::from_bytes([1; 16]), details: details("Ada"), templates }
}

/// Returns the file of a gallery with three people under `key(1)`.
pub(crate) fn three_people() -> Vec<u8> {
    let disk = MemoryDisk::new(Vec::new());
    let cost = PassphraseCost { memory_kib: 8, passes: 1 };
    let store = Store::create_on(Box::new(disk.clone()), &key(1), &network(), cost, PLATFORM, NOW).expect("made");
    let mut gallery = Gallery::with(store);
    for (person, name) in ["Ada Lovelace", "Grace Hopper", "Katherine Johnson"].iter().enumerate() {
        let templates = (0..2).map(|photo| stored(person as u32, photo)).collect();
        gallery.enrol(details(name), templates, NOW).expect("enrolled");
    }
    disk.main()
}

pub(crate) fn open(file: &[u8]) -> Result<Gallery> {
    Store::open_on(Box::new(MemoryDisk::new(file.to_vec())), &key(1), PLATFORM).map(Gallery::with)
}

pub(crate) fn open_for_writing(disk: &MemoryDisk) -> Result<Gallery> {
    let store = Store::open_on(Box::new(disk.clone()), &key(1), PLATFORM)?;
    Ok(Gallery::with(store.writing()))
}

/// Returns all that a gallery holds.
pub(crate) fn content(gallery: &Gallery) -> (u64, Vec<Person>, usize) {
    (gallery.generation(), gallery.people().cloned().collect(), gallery.audit().len())
}
