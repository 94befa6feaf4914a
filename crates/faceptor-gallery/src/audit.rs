//! The audit list: who was enrolled, removed, exported, and when. It holds no names, scores or numbers of embeddings of the people.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::person::{PersonId, check_text};

/// An entry of the audit list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Unix time, seconds.
    pub at: u64,
    /// The event.
    pub event: AuditEvent,
    /// The person, by the number that only this gallery knows; `None` for what concerns the whole gallery.
    pub person: Option<PersonId>,
    /// Number of templates that the event concerned.
    pub templates: u32,
    /// Who moved templates, and to which place; `None` for events inside of the gallery.
    #[serde(skip)]
    pub transfer: Option<Transfer>,
}

/// Circumstances of an event that concerns copies of templates outside of the gallery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Who asked for it: an account of the machine, or what was given.
    pub by: String,
    /// The place of the copies, without credentials.
    pub place: String,
}

impl Transfer {
    /// Checks the texts.
    pub(crate) fn checked(self) -> Result<Transfer> {
        check_text("name of who asks", &self.by)?;
        check_text("place of the copies", &self.place)?;
        Ok(self)
    }
}

/// An event in the life of a gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AuditEvent {
    /// The gallery was made.
    Created,
    /// A person was enrolled.
    Enrolled,
    /// An enrolled person got further templates.
    Extended,
    /// A person was removed by request.
    Removed,
    /// A person was removed because the time of the enrolment was over.
    Expired,
    /// A person got another name.
    Renamed,
    /// All that is held on a person was exported.
    Exported,
    /// A person came from an export.
    Imported,
    /// A person was joined with another one, who is the same.
    Merged,
    /// The gallery got another key.
    KeyRotated,
    /// The templates were made again, by another network.
    Migrated,
    /// Templates were copied to a vector store.
    Pushed,
    /// The copies of all templates were deleted from a vector store.
    Withdrawn,
}

impl AuditEvent {
    /// Returns the word of the event, for lists and JSON.
    pub fn name(self) -> &'static str {
        match self {
            AuditEvent::Created => "created",
            AuditEvent::Enrolled => "enrolled",
            AuditEvent::Extended => "extended",
            AuditEvent::Removed => "removed",
            AuditEvent::Expired => "expired",
            AuditEvent::Renamed => "renamed",
            AuditEvent::Exported => "exported",
            AuditEvent::Imported => "imported",
            AuditEvent::Merged => "merged",
            AuditEvent::KeyRotated => "key_rotated",
            AuditEvent::Migrated => "migrated",
            AuditEvent::Pushed => "pushed",
            AuditEvent::Withdrawn => "withdrawn",
        }
    }
}
