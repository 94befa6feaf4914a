//! Decides which heads are covered on the frames that are shown.

use crate::recognition::identities::Identities;
use faceptor::stages::{Detection, MAX_TRACKS, VideoFaces};
use faceptor_results::cover::{Covers, Style, landmarks};
use faceptor_results::cover_memory::{CoverMemory, Place};

/// Overlap of a track and what the detector has seen of its face.
const SAME_FACE: f32 = 0.3;

/// The heads that are covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All heads.
    All,
    /// Heads of people without a name, or without one yet.
    Unknown,
}

/// Style of the covers, and the heads that get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blur {
    pub whom: Whom,
    pub style: Style,
}

/// Covers the heads of a loop's frames. It allocates nothing.
pub struct Shield {
    whom: Whom,
    memory: CoverMemory,
    /// Width and height of the last frame.
    size: [usize; 2],
}

impl Shield {
    pub fn new(blur: Blur) -> Shield {
        Shield { whom: blur.whom, memory: CoverMemory::new(blur.style), size: [0; 2] }
    }

    /// Forgets what was covered: the next frame shows another scene.
    pub fn cut(&mut self) {
        self.memory.forget();
    }

    /// Returns the covers of the last frame.
    pub fn covers(&self) -> &Covers {
        self.memory.covers()
    }

    /// Takes the faces of a frame of `size` pixels, `elapsed_s` after the last one. `identities`: the gallery's answers for the
    /// visible faces, in their order.
    ///
    /// Covers all places that the detector has seen or the tracker follows, except visible faces with a name.
    pub fn update(&mut self, video: &VideoFaces, identities: Option<&Identities>, size: [usize; 2], elapsed_s: f32) {
        if std::mem::replace(&mut self.size, size) != size {
            self.memory.forget();
        }
        let is_named = |index: usize| {
            let answer = identities.and_then(|identities| identities.answer(index));
            answer.is_some_and(|answer| answer.person.is_some())
        };
        let mut tracks: heapless::Vec<Place<'_>, MAX_TRACKS> = heapless::Vec::new();
        for (index, (slot, face, _)) in video.visible().enumerate() {
            let is_shown = self.whom == Whom::Unknown && is_named(index);
            let detection = video.place(slot).unwrap_or(face.detection);
            // It has room for every track.
            let _ = tracks.push(Place { detection, landmarks: landmarks(face), track: face.id, is_shown });
        }
        let hidden = video.hidden();
        let hidden = hidden.map(|(track, detection)| Place { detection, landmarks: &[], track, is_shown: false });
        let sightings = video.sightings();
        // Each track has one sighting at most: a second one in its place is another face.
        let mut owners: heapless::Vec<usize, MAX_TRACKS> = heapless::Vec::new();
        for track in &tracks {
            let _ = owners.push(nearest(&track.detection, sightings.places(), &owners));
        }
        let seen = sightings.places().iter().enumerate().map(|(index, detection)| {
            let owner = owners.iter().position(|owner| *owner == index).map(|track| tracks[track]);
            let (track, is_shown) = owner.map_or((0, false), |track| (track.track, track.is_shown));
            Place { detection: *detection, landmarks: &[], track, is_shown }
        });
        let places = tracks.iter().copied().chain(hidden).chain(seen);
        self.memory.update(places, sightings.are_complete(), elapsed_s);
    }
}

/// Returns the index of the place that overlaps a track most and is not `taken`; one beyond all places without any.
fn nearest(track: &Detection, places: &[Detection], taken: &[usize]) -> usize {
    let free = places.iter().enumerate().filter(|(index, _)| !taken.contains(index));
    let overlaps = free.map(|(index, place)| (index, track.overlap(place)));
    let best = overlaps.max_by(|one, other| one.1.total_cmp(&other.1)).filter(|(_, overlap)| *overlap >= SAME_FACE);
    best.map_or(usize::MAX, |(index, _)| index)
}
