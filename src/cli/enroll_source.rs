//! `faceptor enroll --source`: views of the person before a camera.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::capture::open;
use crate::capture::source::{Poll, SourceError, SourceRequest};
use crate::cli::enroll_writer::{Fate, Looked};
use crate::platform::{clock, redaction};
use crate::recognition::embedder::Embedder;
use crate::recognition::enrolment;
use crate::recognition::views::Views;

/// Wait for one frame of a camera.
const FRAME_PATIENCE_US: u64 = 500_000;
/// Time for the views before a camera. A film gives what it has.
const PATIENCE_US: u64 = 60_000_000;

/// Looks at a source until there are good views, and prints what is missing on standard error.
///
/// # Errors
/// When the source cannot be opened or the network fails, and without any good view.
pub(super) fn look(source: &str, embedder: &mut Embedder, now: u64) -> Result<Looked> {
    let request = SourceRequest { exit_on_lost: true, ..SourceRequest::default() };
    let mut frames = open::open(source, &request)?;
    let (mut views, mut said, mut frame) = (Views::default(), None, 0);
    let until_us = clock::now_us() + PATIENCE_US;
    while frames.period_us().is_none() || clock::now_us() < until_us {
        match frames.poll(clock::now_us() + FRAME_PATIENCE_US) {
            Ok(Poll::Frame(_)) => {}
            Ok(Poll::Nothing) => continue,
            Ok(Poll::Ended) => break,
            Err(error @ SourceError::Frame { .. }) => {
                log::warn!("{error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let faces = embedder.faces_in(&frames.view())?;
        let pose = faces.analysis.faces.first().and_then(|face| face.pose());
        let seen = enrolment::candidate(embedder, &faces, now).map(|candidate| (candidate, pose));
        let Some(advice) = views.take(frame, seen) else { break };
        if said.replace(advice) != Some(advice) {
            log::info!("{advice}");
        }
        frame += 1;
    }
    let (candidates, missing) = views.into_parts();
    let source = redaction::without_credentials(source);
    ensure!(!candidates.is_empty(), "{source}: no good view of one face: {}", said.unwrap_or("it gave no frame"));
    if !missing.is_empty() {
        log::warn!("fewer views than wanted, which costs accuracy; missing: {}", missing.join(", "));
    }
    let photos = (1..=candidates.len()).map(|view| PathBuf::from(format!("view {view}"))).collect();
    let fates = (0..candidates.len()).map(Fate::Candidate).collect();
    Ok(Looked { photos, fates, candidates })
}
