//! Names tracks, collects views for an enrolment, and takes the rules of enrolments from `faceptor-identity`.

pub(crate) use faceptor_identity::{dates, embedder, enrolment, enrolment_photos, recognizer};

pub(crate) mod counter;
pub(crate) mod face_in_view;
pub mod identities;
pub(crate) mod roster_keeper;
pub mod track_names;
#[cfg(test)]
mod track_names_tests;
pub(crate) mod views;
