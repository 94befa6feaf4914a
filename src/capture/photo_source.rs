//! The demo clip and photos as feeds: a whole number of frames, each at once.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::capture::demo_clip::{self, Demo};
use crate::capture::folder;
use crate::capture::source::{Feed, FeedCounters, FeedError, Grab, Stamp};
use crate::platform::clock;
use faceptor::stages::{ImageView, Picture, read_photo};

/// The demo clip, once through.
pub struct DemoFeed {
    clip: Demo,
    picture: Picture,
    /// Counts over all rounds.
    next: u64,
    end: u64,
    counters: FeedCounters,
}

impl DemoFeed {
    pub fn new() -> Result<DemoFeed> {
        let mut picture = Picture::default();
        picture.reshape(demo_clip::WIDTH, demo_clip::HEIGHT);
        Ok(DemoFeed { clip: Demo::new()?, picture, next: 0, end: demo_clip::PERIOD, counters: FeedCounters::default() })
    }
}

impl Feed for DemoFeed {
    fn grab(&mut self, _until_us: u64) -> Result<Grab, FeedError> {
        if self.next == self.end {
            return Ok(Grab::Ended);
        }
        let stamp = Stamp { sequence: self.next, captured_us: clock::now_us(), stale_dropped: 0 };
        self.clip.render(self.next, &mut self.picture);
        self.next += 1;
        self.counters.frames += 1;
        Ok(Grab::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }

    fn counters(&self) -> FeedCounters {
        self.counters
    }

    fn describe(&self) -> String {
        format!("demo: {} frames of {} x {}", demo_clip::PERIOD, demo_clip::WIDTH, demo_clip::HEIGHT)
    }

    fn skip(&mut self) -> Result<bool, FeedError> {
        // Not `self.next += u64::from(more)`: LLVM makes one step too many of a loop of that on arm64 (its issue 205799).
        if self.next == self.end {
            return Ok(false);
        }
        self.next += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> bool {
        self.end = self.next + demo_clip::PERIOD;
        true
    }
}

/// Photos, each once. Folders that cannot be read are the first errors.
pub struct Photos {
    name: String,
    failures: Vec<FeedError>,
    paths: Vec<PathBuf>,
    /// Index of the next photo in this round.
    at: usize,
    /// Counts over all rounds.
    sequence: u64,
    shown: Option<usize>,
    /// This round gave a frame.
    fruitful: bool,
    picture: Picture,
    counters: FeedCounters,
}

impl Photos {
    /// A photo, or every photo below a folder in sorted order.
    pub fn open(path: &Path) -> Photos {
        let listing = folder::list(&[path.to_owned()], &[]);
        let failures = listing.failures.into_iter().rev();
        let failure = |(path, reason): (PathBuf, _)| FeedError::Frame { name: path.display().to_string(), reason };
        Photos {
            name: path.display().to_string(),
            failures: failures.map(failure).collect(),
            paths: listing.photos,
            at: 0,
            sequence: 0,
            shown: None,
            fruitful: false,
            picture: Picture::default(),
            counters: FeedCounters::default(),
        }
    }
}

impl Feed for Photos {
    fn grab(&mut self, _until_us: u64) -> Result<Grab, FeedError> {
        if let Some(failure) = self.failures.pop() {
            return Err(failure);
        }
        let Some(path) = self.paths.get(self.at) else { return Ok(Grab::Ended) };
        let stamp = Stamp { sequence: self.sequence, captured_us: clock::now_us(), stale_dropped: 0 };
        let read = read_photo(path);
        let index = self.at;
        self.at += 1;
        self.sequence += 1;
        match read {
            Ok(photo) => self.picture = photo.picture,
            Err(reason) => {
                self.counters.decode_errors += 1;
                return Err(FeedError::Frame { name: self.paths[index].display().to_string(), reason });
            }
        }
        self.shown = Some(index);
        self.fruitful = true;
        self.counters.frames += 1;
        Ok(Grab::Frame(stamp))
    }

    fn view(&self) -> ImageView<'_> {
        self.picture.view()
    }

    fn counters(&self) -> FeedCounters {
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

    fn skip(&mut self) -> Result<bool, FeedError> {
        if self.at >= self.paths.len() {
            return Ok(false);
        }
        self.at += 1;
        self.sequence += 1;
        Ok(true)
    }

    fn rewind(&mut self) -> bool {
        self.at = 0;
        std::mem::take(&mut self.fruitful)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sequence(feed: &mut impl Feed) -> u64 {
        match feed.grab(0).expect("readable") {
            Grab::Frame(stamp) => stamp.sequence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_demo_ends_after_its_period_and_begins_again() -> Result<()> {
        let mut feed = DemoFeed::new()?;
        assert_eq!(sequence(&mut feed), 0);
        let first = feed.picture.clone();
        assert!(feed.skip()?);
        assert_eq!(sequence(&mut feed), 2);
        while feed.skip()? {}
        assert_eq!(feed.grab(0)?, Grab::Ended);
        assert!(feed.rewind());
        assert_eq!(sequence(&mut feed), demo_clip::PERIOD);
        assert_eq!(feed.picture, first);
        assert_eq!((feed.view().width(), feed.view().height(), feed.counters().frames), (640, 480, 3));
        Ok(())
    }

    #[test]
    fn a_bad_photo_is_an_error_of_its_own_frame() -> Result<()> {
        let root = crate::scratch::Folder::new()?;
        fs::write(root.path().join("a.jpg"), b"not a photo")?;
        fs::write(root.path().join("b.jpg"), include_bytes!("../../models/demo/astronaut.jpg"))?;
        let mut feed = Photos::open(root.path());
        let error = feed.grab(0).expect_err("a.jpg is text");
        assert!(matches!(&error, FeedError::Frame { name, .. } if name.ends_with("a.jpg")), "{error}");
        assert_eq!(sequence(&mut feed), 1);
        assert!(feed.path().is_some_and(|path| path.ends_with("b.jpg")));
        assert_eq!(feed.grab(0)?, Grab::Ended);
        assert!(feed.rewind());
        assert!(feed.grab(0).is_err());
        assert_eq!((sequence(&mut feed), feed.counters().decode_errors), (3, 2));
        Ok(())
    }

    #[test]
    fn an_empty_folder_is_an_error_and_then_the_end() -> Result<()> {
        let root = crate::scratch::Folder::new()?;
        let mut feed = Photos::open(root.path());
        assert!(feed.grab(0).is_err());
        assert_eq!(feed.grab(0)?, Grab::Ended);
        assert!(!feed.rewind(), "there is nothing to show again");
        Ok(())
    }
}
