//! The roster: the people of a gallery as a live loop searches them. A search allocates nothing.

use crate::decision::Decision;
use crate::gallery::Gallery;
use crate::person::PersonId;
use crate::ranking::Ranking;
use crate::search::SearchIndex;

/// The templates and names of a gallery in memory, with the rule that decides about them.
///
/// It is made once, from the people whose enrolment is not over, and does not change. People whose enrolment ends later are
/// left out of a search by its time.
#[derive(Default)]
pub struct Roster {
    index: SearchIndex,
    people: Vec<Entry>,
    rule: Option<Decision>,
}

/// A person of a roster.
struct Entry {
    id: PersonId,
    name: String,
    expires_at: Option<u64>,
}

impl std::fmt::Debug for Roster {
    /// Shows no names and no numbers, so that they reach no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Roster({} people, {} templates)", self.people.len(), self.templates())
    }
}

impl Gallery {
    /// Copies the people whose enrolment is not over at `now`, for a live loop that decides by `rule`.
    pub fn roster(&self, rule: Decision, now: u64) -> Roster {
        let valid = || self.people().filter(|person| !person.is_expired(now));
        let entry = |person: &crate::person::Person| Entry {
            id: person.id(),
            name: person.name().to_owned(),
            expires_at: person.details().expires_at,
        };
        Roster {
            index: SearchIndex::new(self.network().dimension, valid()),
            people: valid().map(entry).collect(),
            rule: Some(rule),
        }
    }
}

impl Roster {
    /// Returns the length of a template.
    pub fn dimension(&self) -> usize {
        self.index.dimension()
    }

    /// Returns the number of people.
    pub fn size(&self) -> usize {
        self.people.len()
    }

    /// Returns the number of templates.
    pub fn templates(&self) -> usize {
        self.index.templates()
    }

    /// Returns the rule of the decision.
    pub fn rule(&self) -> Decision {
        self.rule.unwrap_or(Decision::at(1.0))
    }

    /// Returns the name of a person by place.
    pub fn name(&self, place: usize) -> Option<&str> {
        self.people.get(place).map(|entry| entry.name.as_str())
    }

    /// Returns the lasting identity of a person by place.
    pub fn id(&self, place: usize) -> Option<PersonId> {
        self.people.get(place).map(|entry| entry.id)
    }

    /// Ranks the people by their similarity to a template; those whose enrolment is over at `now` are left out. A query of another
    /// length is like no one. Allocates nothing where the best template gives a person's score.
    pub fn rank(&self, query: &[i8], now: u64) -> Ranking<usize> {
        self.index.rank(query, self.rule().aggregation, |place| self.is_valid(place, now))
    }

    /// Returns the place of a person.
    pub fn place_of(&self, id: PersonId) -> Option<usize> {
        self.people.iter().position(|entry| entry.id == id)
    }

    /// Reports whether the enrolment of a person by place is not over at `now`.
    pub fn is_valid(&self, place: usize, now: u64) -> bool {
        self.people.get(place).is_some_and(|entry| entry.expires_at.is_none_or(|end| now < end))
    }

    /// Returns the similarity of a template to one person by place; `None` once the enrolment is over at `now`.
    pub fn score_of(&self, place: usize, query: &[i8], now: u64) -> Option<f32> {
        let score = || self.index.score_of(place, query, self.rule().aggregation);
        self.is_valid(place, now).then(score)?
    }
}
