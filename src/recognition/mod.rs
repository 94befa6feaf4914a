//! Who is it: embeddings of photos, which of them may be enrolled, and dates of enrolments.

pub(crate) mod counter;
pub(crate) mod dates;
pub(crate) mod embedder;
pub(crate) mod enrolment;
