//! `faceptor enroll --source`: collects views of a person from a camera or film.

use anyhow::{Result, ensure};

use crate::capture::open;
use crate::capture::source::{Poll, SourceError, SourceRequest};
use crate::cli::enroll_writer::EmbeddedPhotos;
use crate::platform::{clock, redaction};
use crate::recognition::embedder::Embedder;
use crate::recognition::enrolment;
use crate::recognition::views::Views;

/// Longest wait for one frame of a camera.
const FRAME_PATIENCE_US: u64 = 500_000;
/// Longest time for the views of a camera. A film is read to its end.
const PATIENCE_US: u64 = 60_000_000;

/// Collects views from a source until they suffice, and logs what is missing.
///
/// # Errors
/// When the source cannot be opened, the network fails, or there is no good view.
pub(super) fn collect_views(source: &str, embedder: &mut Embedder, now: u64) -> Result<EmbeddedPhotos> {
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
    Ok(EmbeddedPhotos::of_views(candidates))
}
