//! `faceptor gallery push`: copies the templates of a gallery to a vector store, and deletes there what the gallery holds no longer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::change;
use super::vector_store::{Access, Collection, Payload, Point};
use crate::cli::gallery_arguments::GalleryArguments;
use crate::cli::progress::Progress;
use crate::cli::{UsageError, output};
use crate::platform::{account, key_file};
use faceptor_gallery::{AuditEvent, Gallery, Person, Transfer};
use faceptor_nn::bundle::hexadecimal;

/// The variable that holds the key of the vector store.
const API_KEY: &str = "FACEPTOR_QDRANT_API_KEY";
/// Points that are written or deleted by a call: half a megabyte with 128 numbers each.
const BATCH: usize = 500;

/// Names the vector store, and what it gets.
#[derive(Args)]
pub struct PushArguments {
    /// The collection: qdrant://HOST[:PORT]/COLLECTION (qdrants:// in builds with TLS), with the port of Qdrant's REST interface (6333 unless given). A
    /// collection that does not exist is made. Each point is a template; its payload has the numbers of gallery and person, the
    /// network's hash and the end of the enrolment, and no name.
    #[arg(value_name = "URL")]
    to: String,
    /// Also write the people's names. A later push without this option removes them.
    #[arg(long, conflicts_with = "delete")]
    with_names: bool,
    /// Delete all points of this gallery from the collection, and push none.
    #[arg(long)]
    delete: bool,
    /// The file that holds the store's API key; only its owner may read it [default: $FACEPTOR_QDRANT_API_KEY].
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Also connect to another machine by qdrant://, without encryption: everyone on the way can read templates and API key.
    #[arg(long)]
    insecure: bool,
    /// Trust the authorities of this file of certificates (PEM), and no others, for qdrants:// [default: those that the system
    /// trusts].
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Longest time of a call to the store, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,
    /// Who pushes; entered into the audit list [default: the account's name].
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
}

/// What a push has changed in the store.
#[derive(Default, Serialize)]
struct Report {
    collection: String,
    /// The collection did not exist.
    created: bool,
    people: usize,
    /// Templates that were written.
    pushed: usize,
    /// Points that were deleted.
    deleted: usize,
    /// Templates that the store held already.
    unchanged: usize,
}

impl PushArguments {
    /// Returns the collection of the address; nothing is connected yet.
    fn collection(&self) -> Result<Collection> {
        let patience = Duration::from_secs(u64::from(self.timeout));
        let access =
            Access { api_key: self.api_key()?, authorities: self.tls_ca.clone(), insecure: self.insecure, patience };
        Ok(Collection::parse(&self.to, access).map_err(UsageError)?)
    }

    fn api_key(&self) -> Result<Option<Zeroizing<String>>> {
        let (bytes, place) = match &self.api_key_file {
            Some(file) => (key_file::read(file)?, format!("{}", file.display())),
            None => match std::env::var(API_KEY).ok().filter(|key| !key.is_empty()) {
                Some(key) => (Zeroizing::new(key.into_bytes()), format!("${API_KEY}")),
                None => return Ok(None),
            },
        };
        let key = bytes.trim_ascii();
        let is_key = !key.is_empty() && key.iter().all(u8::is_ascii_graphic);
        ensure!(is_key, "{place}: an API key is one line of visible ASCII characters");
        Ok(Some(Zeroizing::new(String::from_utf8_lossy(key).into_owned())))
    }
}

/// Makes the collection hold the templates of all people whose enrolment is not over, and no other point of this gallery.
///
/// # Errors
/// When the gallery cannot be opened as its writer, the store fails, or the collection belongs to another network.
pub(super) fn push(arguments: &GalleryArguments, to: &PushArguments, now: u64, json: bool) -> Result<()> {
    let collection = to.collection()?;
    let mut report = Report { collection: collection.to_string(), ..Report::default() };
    change(arguments, now, |gallery| {
        let by = to.by.clone().unwrap_or_else(account::name);
        let transfer = Transfer { by, place: report.collection.clone() };
        let done = match to.delete {
            true => withdraw(gallery, &collection, transfer, now, &mut report),
            false => synchronize(gallery, &collection, transfer, to.with_names, now, &mut report),
        };
        done.with_context(|| collection.to_string())
    })?;
    match json {
        true => output::print_json(&report),
        false => output::print(&report.text(to.delete)),
    }
}

impl Report {
    fn text(&self, is_withdrawal: bool) -> String {
        let Report { collection, created, people, pushed, deleted, unchanged } = self;
        if is_withdrawal {
            return format!("{collection}: {deleted} templates of this gallery deleted, none are left\n");
        }
        let made = if *created { "a new collection; " } else { "" };
        format!(
            "{collection}: {made}{pushed} templates pushed, {deleted} deleted, {unchanged} there already; it holds all {} of \
             {people} people\n",
            pushed + unchanged
        )
    }
}

fn synchronize(
    gallery: &mut Gallery,
    collection: &Collection,
    transfer: Transfer,
    with_names: bool,
    now: u64,
    report: &mut Report,
) -> Result<()> {
    let (id, network) = (hexadecimal(&gallery.id()), hexadecimal(&gallery.network().recognition));
    report.created = collection.prepare(gallery.network().dimension, &network)?;
    let present = if report.created { Vec::new() } else { collection.points(&id)? };

    // Before the first template leaves: the list must not miss one, even if the push breaks off.
    gallery.note_transfer(AuditEvent::Pushed, gallery.comparisons(now), transfer, now)?;

    let gallery_id = gallery.id();
    let people = gallery.people().filter(|person| !person.is_expired(now));
    let wanted = people.flat_map(|person| {
        (0..person.templates().len()).map(move |template| Wanted::new(&gallery_id, person, template))
    });
    let mut wanted: HashMap<u128, Wanted> = wanted.map(|wanted| (wanted.id, wanted)).collect();
    (report.people, report.unchanged) = (gallery.size(now), wanted.len());

    let mut gone: Vec<Value> = Vec::new();
    for (point, payload) in present {
        let number = point.as_str().and_then(number_of);
        let Some((number, found)) = number.and_then(|number| Some((number, wanted.get(&number)?))) else {
            gone.push(point);
            continue;
        };
        if serde_json::to_value(found.payload(&id, &network, with_names))? == payload {
            wanted.remove(&number);
        }
    }
    report.pushed = wanted.len();
    report.unchanged -= wanted.len();
    report.deleted = gone.len();
    // What must not be there any more goes first.
    gone.chunks(BATCH).try_for_each(|ids| collection.delete(ids))?;

    let mut progress = Progress::of(wanted.len());
    let mut rest: Vec<Wanted> = wanted.into_values().collect();
    rest.sort_unstable_by_key(|wanted| wanted.id);
    for batch in rest.chunks(BATCH) {
        let points = batch.iter().map(|wanted| Point {
            id: uuid(wanted.id),
            vector: wanted.numbers(),
            payload: wanted.payload(&id, &network, with_names),
        });
        collection.put(&points.collect::<Vec<_>>())?;
        batch.iter().for_each(|_| progress.step());
    }
    drop(progress);
    collection.check_count(&id, report.pushed + report.unchanged)
}

fn withdraw(
    gallery: &mut Gallery,
    collection: &Collection,
    transfer: Transfer,
    now: u64,
    report: &mut Report,
) -> Result<()> {
    let id = hexadecimal(&gallery.id());
    let ids: Vec<Value> = collection.points(&id)?.into_iter().map(|(id, _)| id).collect();
    report.deleted = ids.len();
    ids.chunks(BATCH).try_for_each(|ids| collection.delete(ids))?;
    collection.check_count(&id, 0)?;
    // Afterwards: the list must not say that copies are gone that could not be deleted.
    Ok(gallery.note_transfer(AuditEvent::Withdrawn, report.deleted, transfer, now)?)
}

/// A template that the store has to hold.
struct Wanted<'a> {
    id: u128,
    person: &'a Person,
    template: usize,
}

impl<'a> Wanted<'a> {
    /// Derives the point's id from the gallery, the person and the template, so that an equal template has an equal id in every
    /// push. Only this gallery knows the person's random number, so no one else can derive it.
    fn new(gallery: &[u8; 16], person: &'a Person, template: usize) -> Wanted<'a> {
        let mut hash = Sha256::new();
        hash.update(b"faceptor point");
        hash.update(gallery);
        hash.update(person.id().bytes());
        hash.update((template as u64).to_le_bytes());
        let numbers = person.templates()[template].template.numbers();
        hash.update(numbers.iter().map(|&number| number as u8).collect::<Vec<u8>>());
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        // RFC 9562: version 8, whose bits have a meaning of their own.
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        Wanted { id: u128::from_be_bytes(id), person, template }
    }

    fn numbers(&self) -> &'a [i8] {
        self.person.templates()[self.template].template.numbers()
    }

    fn payload(&self, gallery: &'a str, network: &'a str, with_names: bool) -> Payload<'a> {
        Payload {
            gallery,
            network,
            person: self.person.id().digits(),
            template: self.template,
            expires_at: self.person.details().expires_at,
            name: with_names.then(|| self.person.name()),
        }
    }
}

/// Writes an id as Qdrant takes it.
fn uuid(id: u128) -> String {
    let digits = format!("{id:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Reads an id as Qdrant writes it.
fn number_of(uuid: &str) -> Option<u128> {
    u128::from_str_radix(&uuid.replace('-', ""), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_and_read() {
        let text = "00112233-4455-8677-8899-aabbccddeeff";
        let number = number_of(text).expect("an id");
        assert_eq!((number, uuid(number).as_str()), (0x0011_2233_4455_8677_8899_aabb_ccdd_eeff, text));
        assert_eq!((number_of("7"), number_of("x"), number_of("")), (Some(7), None, None));
    }
}
