//! Reads the records of a gallery up to the last complete write.

use crate::audit::AuditEntry;
use crate::error::{GalleryError, Result};
use crate::header::{Header, Mark, RECORDS_AT};
use crate::key::Key;
use crate::person::{Crop, Details, Person, PersonId, StoredTemplate};
use crate::record::{self, Content, Link, TemplateWithCrop};

/// Something about the file that did not keep it from being read, and that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// One of the two marks of complete writes is damaged: a write was interrupted there, or its bytes have changed.
    DamagedMark,
    /// So many bytes follow the last complete write: a write was interrupted, or something was appended. They are ignored.
    Unfinished {
        /// Bytes that are ignored.
        bytes: u64,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Notice::DamagedMark => formatter.write_str(
                "one of the gallery's two marks of complete writes is damaged (an interrupted write, or changed bytes); the \
                 other one was used, and the next change renews it",
            ),
            Notice::Unfinished { bytes } => write!(
                formatter,
                "{bytes} bytes after the gallery's last complete write are ignored (an interrupted write, or something was \
                 appended); the next change removes them"
            ),
        }
    }
}

/// The state of a gallery, as its file says.
#[derive(Debug)]
pub(crate) struct Log {
    pub generation: u64,
    /// End of the last complete write.
    pub end: u64,
    /// Place of the next record.
    pub link: Link,
    /// The older mark, which the next write renews.
    pub next_mark: usize,
    pub people: Vec<Member>,
    pub audit: Vec<AuditEntry>,
    pub notices: Vec<Notice>,
}

/// A person with the key that seals what is held on it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub key: Key,
    pub person: Person,
}

/// Reads a file whose header is checked.
pub(crate) fn read(file: &[u8], header: &Header, header_hash: &[u8; 32], key: &Key) -> Result<Log> {
    let marks = header.marks(file, key);
    let place = (0..2).max_by_key(|&place| marks[place].map(|mark| mark.generation)).unwrap_or(0);
    let mark = marks[place].ok_or(GalleryError::DamagedHeader("both marks of complete writes are"))?;
    if (file.len() as u64) < mark.length {
        return Err(GalleryError::Truncated { expected: mark.length, found: file.len() as u64 });
    }
    let mut state = State { header, key, people: Vec::new(), audit: Vec::new() };
    let (mut at, mut link) = (RECORDS_AT, Link::first(header.file_id, header_hash));
    let mut generation = None;
    while (at as u64) < mark.length {
        let (content, next, after) = record::read(file, at, key, link)?;
        let damaged = |reason| GalleryError::DamagedRecord { record: link.number, at: at as u64, reason };
        if let Content::Commit { generation: reached } = content {
            generation = Some((reached, next));
        }
        state.apply(content).map_err(damaged)?;
        (at, link) = (next, after);
    }
    if generation != Some((mark.generation, mark.length as usize)) || at as u64 != mark.length {
        return Err(GalleryError::DamagedHeader("its mark of the last write does not fit the records"));
    }
    // Complete writes whose mark was not reached, and what is left of incomplete ones.
    let (mut next_mark, mut reached) = (1 - place, mark);
    let mut ahead = Vec::new();
    let mut end_link = link;
    let (mut from, mut walk) = (at, link);
    while let Ok((content, next, after)) = record::read(file, from, key, walk) {
        (from, walk) = (next, after);
        let Content::Commit { generation } = content else {
            ahead.push(content);
            continue;
        };
        let follows = reached.generation.checked_add(1) == Some(generation);
        if !follows || ahead.drain(..).any(|content| state.apply(content).is_err()) {
            break;
        }
        reached = Mark { generation, length: next as u64 };
        end_link = walk;
    }
    let mut notices = Vec::new();
    if marks.iter().any(Option::is_none) {
        notices.push(Notice::DamagedMark);
        next_mark = usize::from(marks[0].is_some());
    }
    let bytes = file.len() as u64 - reached.length;
    if bytes > 0 {
        notices.push(Notice::Unfinished { bytes });
    }
    let State { people, audit, .. } = state;
    Ok(Log { generation: reached.generation, end: reached.length, link: end_link, next_mark, people, audit, notices })
}

/// The state up to a record.
struct State<'a> {
    header: &'a Header,
    key: &'a Key,
    people: Vec<Member>,
    audit: Vec<AuditEntry>,
}

impl State<'_> {
    fn apply(&mut self, content: Content) -> Result<(), &'static str> {
        let gallery = &self.header.gallery_id;
        match content {
            Content::Person { id, wrapped } => {
                let own = record::unwrap(self.key, gallery, id, &wrapped).ok_or("a person's key cannot be opened")?;
                let details = Details {
                    name: String::new(),
                    enrolled_at: 0,
                    enrolled_by: String::new(),
                    purpose: String::new(),
                    expires_at: None,
                };
                self.people.push(Member { key: own, person: Person { id, details, templates: Vec::new() } });
            }
            Content::Details { id, sealed } => {
                let member = self.member(id)?;
                member.person.details = record::open_personal(&member.key, record::DETAILS, gallery, id, &sealed)?;
            }
            Content::Templates { id, sealed } => {
                let member = self.member(id)?;
                let templates = record::open_personal(&member.key, record::TEMPLATES, gallery, id, &sealed)?;
                self.extend(id, templates)?;
            }
            Content::Crops { id, sealed } => {
                let member = self.member(id)?;
                let templates: Vec<TemplateWithCrop> =
                    record::open_personal(&member.key, record::CROPS, gallery, id, &sealed)?;
                let with_crop =
                    |(stored, crop): TemplateWithCrop| StoredTemplate { crop: crop.map(Crop::new), ..stored };
                self.extend(id, templates.into_iter().map(with_crop).collect())?;
            }
            Content::Audit(entry) => self.audit.push(entry),
            Content::Transfer(entry, transfer) => {
                self.audit.push(AuditEntry { transfer: Some(transfer), ..entry });
            }
            Content::Commit { .. } => {}
        }
        Ok(())
    }

    fn extend(&mut self, id: PersonId, templates: Vec<StoredTemplate>) -> Result<(), &'static str> {
        let dimension = self.header.network.dimension;
        if templates.iter().any(|stored| stored.template.numbers().len() != dimension) {
            return Err("a template has another length than the header says");
        }
        self.member(id)?.person.templates.extend(templates);
        Ok(())
    }

    fn member(&mut self, id: PersonId) -> Result<&mut Member, &'static str> {
        // Mostly the last one: records of a person follow each other.
        self.people.iter_mut().rev().find(|member| member.person.id == id).ok_or("it belongs to no person")
    }
}
