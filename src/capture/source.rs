//! A source of frames for the loop: `demo`, a photo or a folder of photos.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::demo::{self, Demo};
use super::picture::Picture;
use super::{folder, photo};
use crate::pace::clock;

/// What is known of a frame besides its pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The source's own count; a gap tells of frames that were lost.
    pub sequence: u64,
    /// When it was taken, on the clock of `pace::clock::now_us`.
    pub captured_us: u64,
    /// The file it was read from.
    pub path: Option<PathBuf>,
}

/// A frame that could not be read; the next one may.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason:#}", path.display())]
pub struct SourceError {
    pub path: PathBuf,
    pub reason: anyhow::Error,
}

/// Frames in order. It starts over when it has ended, so a caller counts them: `length` frames show each once.
pub enum Source {
    Demo { clip: Demo, next: u64 },
    Photos { paths: Vec<PathBuf>, next: u64 },
}

impl Source {
    /// Opens `demo`, a photo or a folder. Folders that could not be read are returned beside it.
    pub fn open(name: &str) -> Result<(Source, Vec<SourceError>)> {
        if name == "demo" {
            return Ok((Source::Demo { clip: Demo::new()?, next: 0 }, Vec::new()));
        }
        let path = Path::new(name);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if name == "-" || matches!(extension, "y4m" | "mjpg") || is_device(path) {
            bail!(
                "source {name} is not supported in this version: cameras and streams come with the live loop; \
                 use demo, a photo or a folder"
            );
        }
        if !path.exists() {
            bail!("source {name} does not exist: use demo, a photo or a folder");
        }
        let listing = folder::list(&[path.to_owned()], &[]);
        let failures = listing.failures.into_iter().map(|(path, reason)| SourceError { path, reason }).collect();
        Ok((Source::Photos { paths: listing.photos, next: 0 }, failures))
    }

    /// How many frames show everything once.
    pub fn length(&self) -> u64 {
        match self {
            Source::Demo { .. } => demo::PERIOD,
            Source::Photos { paths, .. } => paths.len() as u64,
        }
    }

    /// Reads the next frame into `picture`, using its memory again where it can; `None` when there is nothing at all.
    pub fn next(&mut self, picture: &mut Picture) -> Result<Option<Frame>, SourceError> {
        match self {
            Source::Demo { clip, next } => {
                let sequence = *next;
                *next += 1;
                let captured_us = clock::now_us();
                clip.render(sequence, picture);
                Ok(Some(Frame { sequence, captured_us, path: None }))
            }
            Source::Photos { paths, next } => {
                let sequence = *next;
                let Some(path) = paths.get((sequence % paths.len().max(1) as u64) as usize) else { return Ok(None) };
                *next += 1;
                let captured_us = clock::now_us();
                match photo::read(path) {
                    Ok(photo) => *picture = photo.picture,
                    Err(reason) => return Err(SourceError { path: path.clone(), reason }),
                }
                Ok(Some(Frame { sequence, captured_us, path: Some(path.clone()) }))
            }
        }
    }
}

#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let known_prefix = path.starts_with("/dev");
    known_prefix || path.metadata().is_ok_and(|data| data.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device(_path: &Path) -> bool {
    false
}
