//! Who is it: embeddings of photos, which of them may be enrolled, dates of enrolments, and names of tracks.

pub(crate) mod counter;
pub(crate) mod dates;
pub(crate) mod embedder;
pub(crate) mod enrolment;
pub(crate) mod face_in_view;
pub mod identities;
pub(crate) mod recognizer;
pub(crate) mod roster_keeper;
pub mod track_names;
#[cfg(test)]
mod track_names_tests;
pub(crate) mod views;
