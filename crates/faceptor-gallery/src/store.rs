//! The state of a gallery and its file: every change is written before it counts.

use crate::audit::{AuditEntry, AuditEvent};
use crate::disk::{self, Disk, FileDisk};
use crate::error::{GalleryError, Result};
use crate::header::{Header, Mark, Network, RECORDS_AT, mark_at};
use crate::key::{Derivation, KEY, Key, KeySource, PassphraseCost};
use crate::log::{self, Log, Member, Notice};
use crate::person::{Person, PersonId, StoredTemplate};
use crate::platform::Platform;
use crate::record::{self, Content, Link};

const RANDOM: &str = "cannot get random numbers";

/// A gallery's file with the state that was read from it.
pub(crate) struct Store {
    disk: Box<dyn Disk>,
    platform: Platform,
    key: Key,
    header: Header,
    log: Log,
    /// Changes are allowed.
    writer: bool,
    /// A write failed: the file is read again before the next one.
    must_reread: bool,
}

/// Reports whether the header names a passphrase.
pub(crate) fn needs_passphrase(mut disk: FileDisk) -> Result<bool> {
    let file = disk.read()?;
    Ok(matches!(Header::decode(&file)?.0.derivation, Derivation::Passphrase { .. }))
}

impl Store {
    pub fn create(
        mut disk: FileDisk,
        source: &KeySource,
        network: &Network,
        cost: PassphraseCost,
        platform: Platform,
        now: u64,
    ) -> Result<Store> {
        disk.lock()?;
        if disk.exists() {
            let reason = std::io::ErrorKind::AlreadyExists.into();
            return Err(GalleryError::Io { action: "cannot make the gallery", reason });
        }
        Store::create_on(Box::new(disk), source, network, cost, platform, now)
    }

    pub fn create_on(
        disk: Box<dyn Disk>,
        source: &KeySource,
        network: &Network,
        cost: PassphraseCost,
        platform: Platform,
        now: u64,
    ) -> Result<Store> {
        let derivation = source.derivation(platform.bytes().map_err(GalleryError::io(RANDOM))?, cost);
        let key = source.key(&derivation)?;
        let [gallery_id, file_id] = [platform.bytes(), platform.bytes()];
        let (gallery_id, file_id) =
            (gallery_id.map_err(GalleryError::io(RANDOM))?, file_id.map_err(GalleryError::io(RANDOM))?);
        let header = Header { gallery_id, file_id, derivation, network: network.clone(), generation: 0 };
        let log = Log {
            generation: 0,
            end: 0,
            link: Link::first(file_id, &[0; 32]),
            next_mark: 0,
            people: Vec::new(),
            audit: Vec::new(),
            notices: Vec::new(),
        };
        let mut store = Store { disk, platform, key, header, log, writer: true, must_reread: false };
        let entry = AuditEntry { at: now, event: AuditEvent::Created, person: None, templates: 0, transfer: None };
        store.rewrite(|_| (), &[entry])?;
        Ok(store)
    }

    pub fn open(disk: FileDisk, source: &KeySource, platform: Platform) -> Result<Store> {
        let lock = disk.lock_probe();
        let mut store = Store::open_on(Box::new(disk), source, platform)?;
        if !store.log.notices.is_empty() {
            // An unfinished write may be another process's, in progress: that is not a fault of the file.
            let busy = lock();
            store.read_again()?;
            if busy {
                store.log.notices.clear();
            }
        }
        Ok(store)
    }

    pub fn open_for_writing(mut disk: FileDisk, source: &KeySource, platform: Platform) -> Result<Store> {
        // A path that leads to no gallery is reported as such, and no lock is left beside it.
        Header::decode(&disk.read()?)?;
        disk.lock()?;
        Ok(Store { writer: true, ..Store::open_on(Box::new(disk), source, platform)? })
    }

    pub fn open_on(mut disk: Box<dyn Disk>, source: &KeySource, platform: Platform) -> Result<Store> {
        let file = disk.read()?;
        let (header, hash) = Header::decode(&file)?;
        let key = source.key(&header.derivation)?;
        Header::check_key(&file, &key)?;
        let log = log::read(&file, &header, &hash, &key)?;
        Ok(Store { disk, platform, key, header, log, writer: false, must_reread: false })
    }

    /// Allows changes, for tests on a disk without locks.
    #[cfg(any(test, fuzzing))]
    pub fn writing(self) -> Store {
        Store { writer: true, ..self }
    }

    pub fn network(&self) -> &Network {
        &self.header.network
    }

    pub fn id(&self) -> [u8; 16] {
        self.header.gallery_id
    }

    pub fn generation(&self) -> u64 {
        self.log.generation
    }

    pub fn notices(&self) -> &[Notice] {
        &self.log.notices
    }

    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.log.people.iter().map(|member| &member.person)
    }

    pub fn person_at(&self, place: usize) -> Option<&Person> {
        self.log.people.get(place).map(|member| &member.person)
    }

    pub fn audit(&self) -> &[AuditEntry] {
        &self.log.audit
    }

    /// Returns the number of a new person.
    pub fn new_id(&self) -> Result<PersonId> {
        self.platform.bytes().map(PersonId::from_bytes).map_err(GalleryError::io(RANDOM))
    }

    /// Appends a person under a new key.
    pub fn add(&mut self, person: Person, entry: AuditEntry) -> Result<()> {
        let key: [u8; KEY] = self.platform.bytes().map_err(GalleryError::io(RANDOM))?;
        let member = Member { key: Key::from_bytes(key), person };
        let mut records = self.person_records(&member, &self.key)?;
        records.push(Content::from(&entry));
        self.append(&records)?;
        self.log.people.push(member);
        self.log.audit.push(entry);
        Ok(())
    }

    /// Appends templates of a person that is there.
    pub fn extend(&mut self, id: PersonId, templates: Vec<StoredTemplate>, entry: AuditEntry) -> Result<()> {
        let place = self.log.people.iter().position(|member| member.person.id == id);
        let place = place.ok_or(GalleryError::NoSuchPerson)?;
        let (own, gallery) = (&self.log.people[place].key, &self.header.gallery_id);
        let mut records = record::seal_templates(own, &self.platform, gallery, id, &templates)?;
        records.push(Content::from(&entry));
        self.append(&records)?;
        self.log.people[place].person.templates.extend(templates);
        self.log.audit.push(entry);
        Ok(())
    }

    /// Appends an entry of the audit list.
    pub fn note(&mut self, entry: AuditEntry) -> Result<()> {
        self.append(&[Content::from(&entry)])?;
        self.log.audit.push(entry);
        Ok(())
    }

    /// Changes the people, and writes the whole file anew.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Vec<Member>), entries: &[AuditEntry]) -> Result<()> {
        self.ready()?;
        let mut people = self.log.people.clone();
        change(&mut people);
        self.write_all(people, entries, self.key.clone(), self.header.clone())
    }

    /// Changes the people, and writes the whole file anew for another network.
    pub fn migrate(
        &mut self,
        network: &Network,
        change: impl FnOnce(&mut Vec<Member>),
        entries: &[AuditEntry],
    ) -> Result<()> {
        self.ready()?;
        let mut people = self.log.people.clone();
        change(&mut people);
        let header = Header { network: network.clone(), ..self.header.clone() };
        self.write_all(people, entries, self.key.clone(), header)
    }

    /// Writes the whole file anew under another key.
    pub fn rotate_key(&mut self, to: &KeySource, cost: PassphraseCost, entry: AuditEntry) -> Result<()> {
        self.ready()?;
        let salt = self.platform.bytes().map_err(GalleryError::io(RANDOM))?;
        let derivation = to.derivation(salt, cost);
        let header = Header { derivation, ..self.header.clone() };
        self.write_all(self.log.people.clone(), &[entry], to.key(&derivation)?, header)
    }

    /// Checks that changes are allowed, and that the state is the file's.
    fn ready(&mut self) -> Result<()> {
        if !self.writer {
            return Err(GalleryError::ReadOnly);
        }
        match self.must_reread {
            true => self.read_again(),
            false => Ok(()),
        }
    }

    fn next_generation(&self) -> Result<u64> {
        let refused =
            || GalleryError::Refused("the gallery was changed as often as it can be: export its people".into());
        self.log.generation.checked_add(1).ok_or_else(refused)
    }

    fn read_again(&mut self) -> Result<()> {
        let file = self.disk.read()?;
        let (header, hash) = Header::decode(&file)?;
        Header::check_key(&file, &self.key)?;
        (self.log, self.header) = (log::read(&file, &header, &hash, &self.key)?, header);
        self.must_reread = false;
        Ok(())
    }

    /// Appends records that belong together.
    fn append(&mut self, contents: &[Content]) -> Result<()> {
        self.ready()?;
        let generation = self.next_generation()?;
        let (mut bytes, mut link) = (Vec::new(), self.log.link);
        for content in contents.iter().chain([&Content::Commit { generation }]) {
            link = record::write(&mut bytes, &self.key, &self.platform, link, content)?;
        }
        let (at, place) = (self.log.end, self.log.next_mark);
        let end = at + bytes.len() as u64;
        let mark = self.header.encode_mark(&self.key, &self.platform, place, Mark { generation, length: end })?;
        self.must_reread = true;
        if self.log.notices.iter().any(|notice| matches!(notice, Notice::Unfinished { .. })) {
            self.disk.cut(at).map_err(GalleryError::io(disk::WRITE))?;
        }
        disk::append(&mut *self.disk, at, &bytes, mark_at(place) as u64, &mark)?;
        self.must_reread = false;
        self.log.notices.clear();
        (self.log.generation, self.log.end, self.log.link, self.log.next_mark) = (generation, end, link, 1 - place);
        Ok(())
    }

    fn write_all(&mut self, people: Vec<Member>, entries: &[AuditEntry], key: Key, header: Header) -> Result<()> {
        let generation = self.next_generation()?;
        let file_id = self.platform.bytes().map_err(GalleryError::io(RANDOM))?;
        let header = Header { file_id, generation, ..header };
        let (mut file, hash) = header.encode(&key, &self.platform)?;
        file.resize(RECORDS_AT, 0);
        let mut link = Link::first(file_id, &hash);
        let mut audit = self.log.audit.clone();
        audit.extend_from_slice(entries);
        for member in &people {
            for content in self.person_records(member, &key)? {
                link = record::write(&mut file, &key, &self.platform, link, &content)?;
            }
        }
        for content in audit.iter().map(Content::from).chain([Content::Commit { generation }]) {
            link = record::write(&mut file, &key, &self.platform, link, &content)?;
        }
        let mark = Mark { generation, length: file.len() as u64 };
        for place in [0, 1] {
            let bytes = header.encode_mark(&key, &self.platform, place, mark)?;
            file[mark_at(place)..mark_at(place + 1)].copy_from_slice(&bytes);
        }
        disk::replace(&mut *self.disk, &file)?;
        let log = Log { generation, end: mark.length, link, next_mark: 0, people, audit, notices: Vec::new() };
        (self.header, self.key, self.log) = (header, key, log);
        Ok(())
    }

    /// Seals the records of a person with the person's key, and that key with the gallery's.
    fn person_records(&self, member: &Member, key: &Key) -> Result<Vec<Content>> {
        let (id, gallery, platform) = (member.person.id, &self.header.gallery_id, &self.platform);
        let wrapped = record::wrap(key, platform, gallery, id, &member.key)?;
        let (own, Person { details, templates, .. }) = (&member.key, &member.person);
        let details = record::seal_personal(own, platform, record::DETAILS, gallery, id, details)?;
        let mut records = vec![Content::Person { id, wrapped }, Content::Details { id, sealed: details }];
        records.extend(record::seal_templates(own, platform, gallery, id, templates)?);
        Ok(records)
    }
}
