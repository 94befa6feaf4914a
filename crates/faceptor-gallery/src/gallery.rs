//! The gallery: people in an encrypted file. Names the person whom a face is most similar to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::audit::{AuditEntry, AuditEvent, Transfer};
use crate::decision::{Decision, Match, decide};
use crate::disk::FileDisk;
use crate::error::{GalleryError, Result};
use crate::header::Network;
use crate::key::{KeySource, PassphraseCost};
use crate::log::{Member, Notice};
use crate::name::{check_name, spelled};
use crate::person::{Details, Person, PersonId, StoredTemplate};
use crate::platform::Platform;
use crate::search::{Aggregation, SearchIndex};
use crate::store::{self, Store};
use crate::template::Template;

/// People with their templates, in an encrypted file.
///
/// Many processes may read a gallery while one changes it: each reader has the state that was complete when it opened the
/// file. A change is on the disk when its function returns; killed at any moment, the file has the state before or after it.
pub struct Gallery {
    store: Store,
    index: SearchIndex,
    /// Places of people whose name an earlier version stored in another spelling.
    otherwise_spelled: Vec<usize>,
}

impl Gallery {
    /// Makes an empty gallery for a network, and becomes its writer.
    ///
    /// # Errors
    /// When there is a file already, or it cannot be written.
    pub fn create(
        path: &Path,
        key: &KeySource,
        network: &Network,
        cost: PassphraseCost,
        platform: Platform,
        now: u64,
    ) -> Result<Gallery, GalleryError> {
        Store::create(FileDisk::new(path, platform), key, network, cost, platform, now).map(Gallery::with)
    }

    /// Opens a gallery for reading.
    ///
    /// # Errors
    /// When it cannot be read, the key is another one, or any byte of it has changed.
    pub fn open(path: &Path, key: &KeySource, platform: Platform) -> Result<Gallery, GalleryError> {
        Store::open(FileDisk::new(path, platform), key, platform).map(Gallery::with)
    }

    /// Opens a gallery, and becomes its writer.
    ///
    /// # Errors
    /// As [`Gallery::open`], and [`GalleryError::Busy`] while another process changes it.
    pub fn open_for_writing(path: &Path, key: &KeySource, platform: Platform) -> Result<Gallery, GalleryError> {
        Store::open_for_writing(FileDisk::new(path, platform), key, platform).map(Gallery::with)
    }

    /// Reports whether a gallery's key is a passphrase; needs no key.
    ///
    /// # Errors
    /// When the file is not a gallery.
    pub fn needs_passphrase(path: &Path, platform: Platform) -> Result<bool, GalleryError> {
        store::needs_passphrase(FileDisk::new(path, platform))
    }

    pub(crate) fn with(store: Store) -> Gallery {
        let index = SearchIndex::new(store.network().dimension, store.people());
        let mut gallery = Gallery { store, index, otherwise_spelled: Vec::new() };
        gallery.note_spellings();
        gallery
    }

    /// Returns the network that the gallery is bound to.
    pub fn network(&self) -> &Network {
        self.store.network()
    }

    /// Checks that the templates are of this network.
    ///
    /// # Errors
    /// [`GalleryError::OtherNetwork`] otherwise.
    pub fn check_network(&self, network: &Network) -> Result<(), GalleryError> {
        let own = self.network();
        if (own.recognition, own.dimension) == (network.recognition, network.dimension) {
            return Ok(());
        }
        let digits = |hash: &[u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Err(GalleryError::OtherNetwork {
            gallery: own.name.clone(),
            gallery_hash: digits(&own.recognition),
            network: network.name.clone(),
            network_hash: digits(&network.recognition),
        })
    }

    /// Returns the gallery's identity, which it keeps for its life; not secret.
    pub fn id(&self) -> [u8; 16] {
        self.store.id()
    }

    /// Returns the number of changes so far. An older file put back in place of a newer one has a smaller number.
    pub fn generation(&self) -> u64 {
        self.store.generation()
    }

    /// Checks that the gallery is no older than a generation that was seen before.
    ///
    /// # Errors
    /// [`GalleryError::Older`] otherwise.
    pub fn check_generation(&self, seen: u64) -> Result<(), GalleryError> {
        match self.generation() < seen {
            true => Err(GalleryError::Older { found: self.generation(), seen }),
            false => Ok(()),
        }
    }

    /// Returns what the owner of the file should know about it; empty for an intact file.
    pub fn notices(&self) -> &[Notice] {
        self.store.notices()
    }

    /// Returns the people, in the order of their enrolment.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.store.people()
    }

    /// Returns the person of that name, in any spelling: composed or decomposed characters, more or other spaces.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.named(name).into_iter().next()
    }

    /// Returns the people of that name: the one in just this spelling first. More than one has it only where an earlier version
    /// stored two spellings.
    fn named(&self, name: &str) -> Vec<&Person> {
        let (given, usual) = (name.trim(), spelled(name));
        let others = self.otherwise_spelled.iter().filter_map(|&place| self.store.person_at(place));
        let others = others.filter(|person| person.name() != given && spelled(person.name()) == usual);
        let same = self.people().filter(|person| person.name() == given || person.name() == usual);
        let mut found: Vec<&Person> = same.chain(others.filter(|person| person.name() != usual)).collect();
        found.sort_by_key(|person| person.name() != given);
        found
    }

    /// Takes notice of the people whose name is stored in another spelling than this version's.
    fn note_spellings(&mut self) {
        let people = self.store.people().enumerate();
        let places = people.filter(|(_, person)| spelled(person.name()) != person.name()).map(|(place, _)| place);
        self.otherwise_spelled = places.collect();
    }

    /// Returns the audit list, oldest entry first.
    pub fn audit(&self) -> &[AuditEntry] {
        self.store.audit()
    }

    /// Returns the number of people whose enrolment is not over.
    pub fn size(&self, now: u64) -> usize {
        self.people().filter(|person| !person.is_expired(now)).count()
    }

    /// Returns the number of comparisons with a stranger: the templates of all people whose enrolment is not over. The
    /// threshold follows from it ([`ImpostorScores::threshold`](crate::ImpostorScores::threshold)).
    pub fn comparisons(&self, now: u64) -> usize {
        self.people().filter(|person| !person.is_expired(now)).map(|person| person.templates.len()).sum()
    }

    /// Decides whose face an embedding belongs to. People whose enrolment is over are not considered.
    ///
    /// # Errors
    /// When the embedding does not fit the gallery.
    pub fn identify(&self, embedding: &[f32], rule: &Decision, now: u64) -> Result<Match<'_>, GalleryError> {
        let query = Template::of(embedding, self.network().dimension)?;
        let person = |place| self.store.person_at(place);
        let is_valid = |place| person(place).is_some_and(|person| !person.is_expired(now));
        Ok(decide(self.index.rank(query.numbers(), rule.aggregation, is_valid), person, rule))
    }

    /// Returns the similarity of a template to every person whose enrolment is not over.
    pub fn scores(&self, query: &Template, aggregation: Aggregation, now: u64) -> impl Iterator<Item = (&Person, f32)> {
        let scores = self.people().zip(self.index.scores(query.numbers(), aggregation));
        scores.filter(move |(person, _)| !person.is_expired(now)).filter_map(|(person, score)| Some((person, score?)))
    }

    /// Enrols a person, or adds templates to the person of that name, whose other details then stay. Returns whether the
    /// person is new.
    ///
    /// # Errors
    /// When the name or another detail cannot be stored, a template does not fit, or the file cannot be written.
    pub fn enrol(&mut self, details: Details, templates: Vec<StoredTemplate>, now: u64) -> Result<bool, GalleryError> {
        let details = details.checked()?;
        check_templates(&templates, self.network().dimension)?;
        let count = templates.len() as u32;
        let present = self.person(&details.name).map(Person::id);
        let event = if present.is_some() { AuditEvent::Extended } else { AuditEvent::Enrolled };
        match present {
            Some(id) => self.store.extend(id, templates, entry(now, event, Some(id), count))?,
            None => {
                let id = self.store.new_id()?;
                let person = Person { id, details, templates };
                self.store.add(person, entry(now, event, Some(id), count))?;
            }
        }
        // Many people are enrolled one after the other: the others' templates stay where they are.
        if let (None, Some(new)) = (present, self.store.person_at(self.index.people())) {
            self.index.push(new);
        }
        // After a write that failed, the file may hold more than was thought.
        if self.index.templates() != self.people().map(|person| person.templates.len()).sum::<usize>() {
            self.changed();
        }
        Ok(present.is_none())
    }

    /// Removes a person: the file is written anew without the person's key and records.
    ///
    /// # Errors
    /// When there is no such person, or the file cannot be written.
    pub fn remove(&mut self, name: &str, now: u64) -> Result<(), GalleryError> {
        let person = self.person(name).ok_or(GalleryError::NoSuchPerson)?;
        let (id, count) = (person.id, person.templates.len() as u32);
        self.store.rewrite(
            |members| members.retain(|member| member.person.id != id),
            &[entry(now, AuditEvent::Removed, Some(id), count)],
        )?;
        self.changed();
        Ok(())
    }

    /// Removes everyone whose enrolment is over. Returns how many there were.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove_expired(&mut self, now: u64) -> Result<usize, GalleryError> {
        let expired = self.people().filter(|person| person.is_expired(now));
        let entry = |person: &Person| entry(now, AuditEvent::Expired, Some(person.id), person.templates.len() as u32);
        let entries: Vec<AuditEntry> = expired.map(entry).collect();
        if !entries.is_empty() {
            self.store.rewrite(|members| members.retain(|member| !member.person.is_expired(now)), &entries)?;
            self.changed();
        }
        Ok(entries.len())
    }

    /// Gives a person another name. The former name does not stay in the file.
    ///
    /// # Errors
    /// When there is no such person, the other name is taken or cannot be stored, or the file cannot be written.
    pub fn rename(&mut self, name: &str, to: &str, now: u64) -> Result<(), GalleryError> {
        let to = check_name(to)?;
        let id = self.person(name).ok_or(GalleryError::NoSuchPerson)?.id;
        if self.person(&to).is_some_and(|other| other.id != id) {
            return Err(GalleryError::NameTaken);
        }
        let rename = |members: &mut Vec<Member>| {
            members.iter_mut().filter(|m| m.person.id == id).for_each(|m| m.person.details.name.clone_from(&to));
        };
        self.store.rewrite(rename, &[entry(now, AuditEvent::Renamed, Some(id), 0)])?;
        self.changed();
        Ok(())
    }

    /// Joins two entries that are one person: the templates of `other` go to `name`, and `other` is removed.
    ///
    /// # Errors
    /// When one of the two does not exist, both are the same, or the file cannot be written.
    pub fn merge(&mut self, name: &str, other: &str, now: u64) -> Result<(), GalleryError> {
        let id = self.person(name).ok_or(GalleryError::NoSuchPerson)?.id;
        let others = self.named(other);
        if others.is_empty() {
            return Err(GalleryError::NoSuchPerson);
        }
        let from = others.into_iter().find(|person| person.id != id);
        let from = from.ok_or_else(|| GalleryError::Refused("these are one entry already".into()))?;
        let (from, templates) = (from.id, from.templates.clone());
        let count = templates.len() as u32;
        let merge = |members: &mut Vec<Member>| {
            members.retain(|member| member.person.id != from);
            let target = members.iter_mut().find(|member| member.person.id == id);
            target.into_iter().for_each(|member| member.person.templates.extend(templates.iter().cloned()));
        };
        self.store.rewrite(merge, &[entry(now, AuditEvent::Merged, Some(id), count)])?;
        self.changed();
        Ok(())
    }

    /// Enters into the audit list that all that is held on a person was exported, and returns it.
    ///
    /// # Errors
    /// When there is no such person, or the file cannot be written.
    pub fn export(&mut self, name: &str, now: u64) -> Result<(&Person, Vec<AuditEntry>), GalleryError> {
        let person = self.person(name).ok_or(GalleryError::NoSuchPerson)?;
        let (id, count) = (person.id, person.templates.len() as u32);
        self.store.note(entry(now, AuditEvent::Exported, Some(id), count))?;
        let entries = self.audit().iter().filter(|entry| entry.person == Some(id)).cloned().collect();
        let person = self.people().find(|person| person.id == id).ok_or(GalleryError::NoSuchPerson)?;
        Ok((person, entries))
    }

    /// Enters into the audit list that templates are copied to another place, or that the copies there are deleted.
    ///
    /// # Errors
    /// When a text of `transfer` cannot be stored, or the file cannot be written.
    pub fn note_transfer(
        &mut self,
        event: AuditEvent,
        templates: usize,
        transfer: Transfer,
        now: u64,
    ) -> Result<(), GalleryError> {
        let templates = u32::try_from(templates).unwrap_or(u32::MAX);
        let transfer = Some(transfer.checked()?);
        self.store.note(AuditEntry { transfer, ..entry(now, event, None, templates) })
    }

    /// Adds a person from an export.
    ///
    /// # Errors
    /// When the name is taken or cannot be stored, a template does not fit, or the file cannot be written.
    pub fn import(&mut self, details: Details, templates: Vec<StoredTemplate>, now: u64) -> Result<(), GalleryError> {
        let details = details.checked()?;
        check_templates(&templates, self.network().dimension)?;
        if self.person(&details.name).is_some() {
            return Err(GalleryError::NameTaken);
        }
        let (id, count) = (self.store.new_id()?, templates.len() as u32);
        self.store.add(Person { id, details, templates }, entry(now, AuditEvent::Imported, Some(id), count))?;
        self.changed();
        Ok(())
    }

    /// Writes the file anew under another key. The former key then opens nothing of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rotate_key(&mut self, to: &KeySource, cost: PassphraseCost, now: u64) -> Result<(), GalleryError> {
        self.store.rotate_key(to, cost, entry(now, AuditEvent::KeyRotated, None, 0))
    }

    /// Binds the gallery to another network, with the templates that this network has made from the crops. Removes all people
    /// that are not among `people`.
    ///
    /// # Errors
    /// When there is no such person, a template does not fit the network, or the file cannot be written.
    pub fn migrate(
        &mut self,
        network: &Network,
        people: Vec<(PersonId, Vec<StoredTemplate>)>,
        now: u64,
    ) -> Result<(), GalleryError> {
        let present: BTreeSet<PersonId> = self.people().map(Person::id).collect();
        for (id, templates) in &people {
            check_templates(templates, network.dimension)?;
            if !present.contains(id) {
                return Err(GalleryError::NoSuchPerson);
            }
        }
        let count = people.iter().map(|(_, templates)| templates.len() as u32).sum();
        let migrated = entry(now, AuditEvent::Migrated, None, count);
        let mut people: BTreeMap<PersonId, Vec<StoredTemplate>> = people.into_iter().collect();
        let gone = self.people().filter(|person| !people.contains_key(&person.id)).map(|person| {
            let event = if person.is_expired(now) { AuditEvent::Expired } else { AuditEvent::Removed };
            entry(now, event, Some(person.id), person.templates.len() as u32)
        });
        let entries: Vec<AuditEntry> = gone.chain([migrated]).collect();
        let take = |members: &mut Vec<Member>| {
            members.retain_mut(|member| {
                people.remove(&member.person.id).map(|templates| member.person.templates = templates).is_some()
            });
        };
        self.store.migrate(network, take, &entries)?;
        self.changed();
        Ok(())
    }

    fn changed(&mut self) {
        self.index = SearchIndex::new(self.network().dimension, self.store.people());
        self.note_spellings();
    }
}

fn entry(at: u64, event: AuditEvent, person: Option<PersonId>, templates: u32) -> AuditEntry {
    AuditEntry { at, event, person, templates, transfer: None }
}

fn check_templates(templates: &[StoredTemplate], expected: usize) -> Result<()> {
    if templates.is_empty() {
        return Err(GalleryError::Refused("a person needs at least one template".into()));
    }
    templates.iter().try_for_each(StoredTemplate::check)?;
    let lengths = templates.iter().map(|stored| stored.template.numbers().len());
    match lengths.into_iter().find(|length| *length != expected) {
        Some(found) => Err(GalleryError::Dimension { expected, found }),
        None => Ok(()),
    }
}
