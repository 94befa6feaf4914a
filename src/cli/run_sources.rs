//! The sources of `faceptor run`: one, which the loop polls itself, or several that share it.

use anyhow::Result;

use crate::capture::open;
use crate::capture::source::{Source, SourceRequest};
use crate::capture::source_names::{self, NamedSource};
use crate::cli::UsageError;
use crate::platform::redaction;

/// The sources of a run.
pub(super) struct RunSources {
    pub named: Vec<NamedSource>,
    /// All have a rate: frames are dropped instead of queued.
    pub is_live: bool,
    /// The one source. Several are opened by threads of their own.
    pub alone: Option<Box<dyn Source>>,
}

impl RunSources {
    /// Names the sources and opens the one, if there is only one.
    ///
    /// # Errors
    /// When a name is wrong, the one source cannot be opened, or live sources and others are mixed.
    pub fn open(texts: &[String], request: &SourceRequest) -> Result<RunSources> {
        let named = source_names::parse(texts).map_err(|error| UsageError(error.to_string()))?;
        if let [source] = named.as_slice() {
            let alone = open::open(&source.place, request)?;
            return Ok(RunSources { is_live: alone.period_us().is_some(), alone: Some(alone), named });
        }
        let mut live = Vec::new();
        let mut waiting = Vec::new();
        for source in &named {
            let of_kind = if open::is_live(&source.place, request)? { &mut live } else { &mut waiting };
            of_kind.push(source.name.as_str());
        }
        if let ([live, ..], [waiting, ..]) = (live.as_slice(), waiting.as_slice()) {
            return Err(UsageError(format!(
                "the source {live} drops frames when there is no time for them, {waiting} gives each one: --fps F plays all of \
                 them at a rate, as cameras"
            ))
            .into());
        }
        Ok(RunSources { is_live: waiting.is_empty(), alone: None, named })
    }

    /// Reports whether sources share the loop.
    pub fn are_several(&self) -> bool {
        self.named.len() > 1
    }

    /// Returns the name of each source where a run has several; none for one.
    pub fn names(&self) -> Vec<String> {
        let several = self.named.iter().filter(|_| self.are_several());
        several.map(|source| source.name.clone()).collect()
    }

    /// Returns the time from frame to frame of the one source.
    pub fn period_us(&self) -> Option<u64> {
        self.alone.as_ref().and_then(|source| source.period_us())
    }

    /// Returns what the one source is; nothing for several.
    pub fn description(&self) -> String {
        self.alone.as_ref().map(|source| source.describe()).unwrap_or_default()
    }

    /// Returns what a source is, without credentials.
    pub fn shown(&self, place: usize) -> String {
        self.named.get(place).map(|source| redaction::without_credentials(&source.place)).unwrap_or_default()
    }
}
