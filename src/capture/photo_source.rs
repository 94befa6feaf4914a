//! Photos as a source: one frame for each file, available at once.

use std::path::{Path, PathBuf};

use crate::capture::photo_files;
use crate::capture::source::{Poll, Source, SourceCounters, SourceError, Stamp};
use crate::platform::clock;
use faceptor::stages::{ImageView, Picture, read_photo};

/// Photos in the order of their paths. The first polls report folders that cannot be read.
pub(crate) struct PhotoSource {
    name: String,
    failures: Vec<SourceError>,
    paths: Vec<PathBuf>,
    /// Index of the next photo in this round.
    at: usize,
    /// Frame count over all rounds.
    sequence: u64,
    shown: Option<usize>,
    /// True when this round has delivered or skipped a photo.
    has_delivered: bool,
    picture: Picture,
    counters: SourceCounters,
}

impl PhotoSource {
    /// Opens a photo, or every photo below a folder.
    pub(crate) fn open(path: &Path) -> PhotoSource {
        let listing = photo_files::list(&[path.to_owned()], &[]);
        let failures = listing.failures.into_iter().rev();
        let failure = |(path, reason): (PathBuf, _)| SourceError::Frame { name: path.display().to_string(), reason };
        PhotoSource {
            name: path.display().to_string(),
            failures: failures.map(failure).collect(),
            paths: listing.photos,
            at: 0,
            sequence: 0,
            shown: None,
            has_delivered: false,
            picture: Picture::default(),
            counters: SourceCounters::default(),
        }
    }
}

impl Source for PhotoSource {
    fn poll(&mut self, _until_us: u64) -> Result<Poll, SourceError> {
        if let Some(failure) = self.failures.pop() {
            return Err(failure);
        }
        let Some(path) = self.paths.get(self.at) else { return Ok(Poll::Ended) };
        let stamp = Stamp { sequence: self.sequence, captured_us: clock::now_us(), stale_dropped: 0 };
        let read = read_photo(path);
        let index = self.at;
        self.at += 1;
        self.sequence += 1;
        match read {
            Ok(photo) => {
                for warning in photo.warnings() {
                    log::warn!("{}: {warning}", path.display());
                }
                self.picture = photo.into_picture();
            }
            Err(reason) => {
                self.counters.decode_errors += 1;
                return Err(SourceError::Frame {
                    name: self.paths[index].display().to_string(),
                    reason: reason.into(),
                });
            }
        }
        self.shown = Some(index);
        self.has_delivered = true;
        self.counters.frames += 1;
        Ok(Poll::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }

    fn counters(&self) -> SourceCounters {
        self.counters
    }

    fn describe(&self) -> String {
        match self.paths.len() {
            1 => format!("{}: one photo", self.name),
            count => format!("{}: {count} photos", self.name),
        }
    }

    fn path(&self) -> Option<&Path> {
        self.paths.get(self.shown?).map(PathBuf::as_path)
    }

    fn skip(&mut self) -> Result<bool, SourceError> {
        if self.at >= self.paths.len() {
            return Ok(false);
        }
        self.at += 1;
        self.sequence += 1;
        self.has_delivered = true;
        Ok(true)
    }

    fn rewind(&mut self) -> bool {
        self.at = 0;
        std::mem::take(&mut self.has_delivered)
    }

    fn scene(&self) -> u64 {
        self.shown.map_or(0, |index| index as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::Result;

    use super::*;

    fn sequence(source: &mut impl Source) -> u64 {
        match source.poll(0).expect("readable") {
            Poll::Frame(stamp) => stamp.sequence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bad_photos_are_errors_of_their_frame() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        fs::write(root.path().join("a.jpg"), b"not a photo")?;
        fs::write(root.path().join("b.jpg"), include_bytes!("../../models/demo/astronaut.jpg"))?;
        let mut source = PhotoSource::open(root.path());
        let error = source.poll(0).expect_err("a.jpg is text");
        assert!(matches!(&error, SourceError::Frame { name, .. } if name.ends_with("a.jpg")), "{error}");
        assert_eq!(sequence(&mut source), 1);
        assert!(source.path().is_some_and(|path| path.ends_with("b.jpg")));
        assert_eq!(source.poll(0)?, Poll::Ended);
        assert!(source.rewind());
        assert!(source.poll(0).is_err());
        assert_eq!((sequence(&mut source), source.counters().decode_errors), (3, 2));
        Ok(())
    }

    #[test]
    fn photos_that_were_only_skipped_are_shown_again() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        let path = root.write("a.jpg", include_bytes!("../../models/demo/astronaut.jpg"));
        let mut source = PhotoSource::open(Path::new(&path));
        for _ in 0..2 {
            // A slow reader skips the only photo of a round.
            assert!(source.skip()? && !source.skip()?);
            assert!(source.rewind());
        }
        assert_eq!(sequence(&mut source), 2);
        Ok(())
    }

    #[test]
    fn empty_folder_is_an_error_before_the_end() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        let mut source = PhotoSource::open(root.path());
        assert!(source.poll(0).is_err());
        assert_eq!(source.poll(0)?, Poll::Ended);
        assert!(!source.rewind(), "there is nothing to show again");
        Ok(())
    }
}
