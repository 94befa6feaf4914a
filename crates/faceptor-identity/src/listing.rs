//! Lists the content of a gallery as the JSON of `faceptor gallery list`.

use faceptor_gallery::{Gallery, Person};
use serde::Serialize;

use crate::dates;

/// The people of a gallery.
#[derive(Serialize)]
pub struct List<'a> {
    people: Vec<Entry<'a>>,
    generation: u64,
    network: &'a str,
}

impl<'a> List<'a> {
    /// Lists the people in the order of their enrolment.
    pub fn of(gallery: &'a Gallery, now: u64) -> List<'a> {
        let people = gallery.people().map(|person| Entry::of(person, now)).collect();
        List { people, generation: gallery.generation(), network: &gallery.network().name }
    }
}

/// A person of a gallery.
#[derive(Serialize)]
pub struct Entry<'a> {
    /// The person's number in this gallery, as `gallery push` writes it.
    pub id: String,
    /// The name.
    pub name: &'a str,
    /// Number of templates.
    pub templates: usize,
    /// Date of the enrolment.
    pub enrolled: String,
    /// Who enrolled the person.
    pub enrolled_by: &'a str,
    /// Purpose of the enrolment.
    pub purpose: &'a str,
    /// End of the enrolment.
    pub expires: Option<String>,
    /// The end is over.
    pub expired: bool,
    /// A photo was accepted despite reasons against it.
    pub forced: bool,
}

impl<'a> Entry<'a> {
    /// Describes a person.
    pub fn of(person: &'a Person, now: u64) -> Entry<'a> {
        let details = person.details();
        Entry {
            id: person.id().digits(),
            name: person.name(),
            templates: person.templates().len(),
            enrolled: dates::text(details.enrolled_at),
            enrolled_by: &details.enrolled_by,
            purpose: &details.purpose,
            expires: details.expires_at.map(dates::text),
            expired: person.is_expired(now),
            forced: person.is_forced(),
        }
    }
}
