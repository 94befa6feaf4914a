//! The files that `faceptor image` writes for a photo: an annotated copy and parsing masks.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::files::output_file::OutputRules;
use crate::outputs::draw::{mask, overlay, png};
use crate::outputs::format::ResultFiles;
use crate::outputs::format::identity::Identity;
use crate::outputs::output_paths::{Origin, OutputPaths};
use faceptor::stages::{Analysis, Picture, Pipeline, Pixels};
use faceptor_results::cover::Covers;

/// Content of a photo's files.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub analysis: &'a Analysis,
    /// A gallery's answers by face; empty without a gallery.
    pub identities: &'a [Identity<'a>],
    /// Heads that are covered; `None` if none are.
    pub covers: Option<&'a Covers>,
}

/// The folders for results.
pub struct PhotoResults {
    annotated: Option<OutputPaths>,
    masks: Option<OutputPaths>,
}

impl PhotoResults {
    /// Makes the folders of `--out` and `--masks`.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn new(out: Option<&Path>, masks: Option<&Path>, rules: &OutputRules) -> Result<PhotoResults> {
        let paths = |folder: Option<&Path>| folder.map(|f| OutputPaths::new(f, rules.clone())).transpose();
        Ok(PhotoResults { annotated: paths(out)?, masks: paths(masks)? })
    }

    /// Reports whether any file is written.
    pub fn writes_files(&self) -> bool {
        self.annotated.is_some() || self.masks.is_some()
    }

    /// Writes the files of one photo; heads are covered first, if any are to be. Also returns why some could not be written; the others are.
    pub fn write(
        &mut self,
        origin: &Origin,
        picture: &Picture,
        Shown { analysis, identities, covers }: Shown<'_>,
        pipeline: &Pipeline,
    ) -> (ResultFiles, Vec<anyhow::Error>) {
        let (mut files, mut failures) = (ResultFiles::default(), Vec::new());
        let mut name = |written: Result<PathBuf>| {
            let path = written.map_err(|reason| failures.push(reason)).ok();
            path.map(|path| path.to_string_lossy().into_owned())
        };
        if let Some(names) = &mut self.masks {
            files.masks = vec![vec![None; pipeline.decoders().len()]; analysis.faces.len()];
            for (face, row) in analysis.faces.iter().zip(&mut files.masks) {
                for (index, parsing) in mask::parsings(face) {
                    let decoder = &pipeline.decoders()[index];
                    let labels = mask::labels(parsing, decoder, face, picture);
                    let ending = format!(".face{}.{}.png", face.id, decoder.task().name);
                    let size = [picture.width(), picture.height()];
                    row[index] =
                        name(names.write(origin, &ending, |file, source| {
                            png::encode_grey(file, &labels, size, Some(source))
                        }));
                }
            }
        }
        if let Some(names) = &mut self.annotated {
            let drawn = overlay::annotate_covered(picture, analysis, identities, pipeline.decoders(), covers);
            files.annotated =
                Some(name(names.write(origin, ".png", |file, source| png::encode_picture(file, &drawn, Some(source)))));
        }
        (files, failures)
    }
}
