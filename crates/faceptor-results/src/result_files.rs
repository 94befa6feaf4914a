//! The paths of the files that were written for a picture.

/// Paths that the text and JSON of a picture name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultFiles {
    /// The annotated picture, if one was requested; `Some(None)` when it could not be written.
    pub annotated: Option<Option<String>>,
    /// The mask, by face and decoder; may be empty.
    pub masks: Vec<Vec<Option<String>>>,
}

impl ResultFiles {
    /// Returns the masks of a face, by decoder.
    pub fn masks_of(&self, face: usize) -> &[Option<String>] {
        self.masks.get(face).map(Vec::as_slice).unwrap_or_default()
    }
}
