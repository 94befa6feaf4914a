//! The sources of a run by name: `--source A --source door=B`.
//!
//! A name stands in every line, file name, topic and address of the preview, so it consists of few kinds of characters.

use std::path::Path;

use crate::capture::child::commands::{LIBCAMERA, PIPELINE};

/// Most sources of a run.
pub(crate) const MAX_SOURCES: usize = 8;
/// Most characters of a name.
const MAX_NAME: usize = 32;

/// A source with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedSource {
    pub name: String,
    /// What is opened.
    pub place: String,
}

/// Reason why the sources of a run are refused. No message contains an address, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceNameError {
    #[error("{0} sources are given: a run reads at most {MAX_SOURCES}; start another run for the rest")]
    TooMany(usize),
    #[error(
        "{0:?} is no name of a source: a name has at most {MAX_NAME} letters of ASCII, digits, '-', '_' and '.', and begins with a \
         letter or digit"
    )]
    Name(String),
    #[error("the source {0} has a name and no place: --source {0}=/dev/video0")]
    NoPlace(String),
    #[error("two sources have the name {0}: give one of them another, --source NAME={0}")]
    SameName(String),
    #[error("{0} is given twice, and can be read once only")]
    SamePlace(String),
}

/// Returns the sources with their names. A source without one is named after its device, file or host.
///
/// # Errors
/// When there are too many, a name is wrong or given twice, or two sources are one that can be read once only.
pub(crate) fn parse(texts: &[String]) -> Result<Vec<NamedSource>, SourceNameError> {
    if texts.len() > MAX_SOURCES {
        return Err(SourceNameError::TooMany(texts.len()));
    }
    let given: Vec<(Option<&str>, &str)> = texts.iter().map(|text| split(text)).collect::<Result<_, _>>()?;
    let mut names: Vec<String> = Vec::new();
    for name in given.iter().filter_map(|(name, _)| *name) {
        if names.iter().any(|other| other == name) {
            return Err(SourceNameError::SameName(name.to_owned()));
        }
        names.push(name.to_owned());
    }
    let mut sources: Vec<NamedSource> = Vec::new();
    for (name, place) in given {
        if is_read_once(place) && sources.iter().any(|other| is_same(&other.place, place)) {
            return Err(SourceNameError::SamePlace(place.to_owned()));
        }
        let name = name.map_or_else(|| free_name(&usual_name(place), &mut names), str::to_owned);
        sources.push(NamedSource { name, place: place.to_owned() });
    }
    Ok(sources)
}

/// Divides `NAME=SOURCE`. An equals sign may also belong to an address, a pipeline or a file.
fn split(text: &str) -> Result<(Option<&str>, &str), SourceNameError> {
    let Some((name, place)) = text.split_once('=') else { return Ok((None, text)) };
    let is_part_of_place = name.contains('/') || name.starts_with(PIPELINE) || Path::new(text).exists();
    match is_part_of_place {
        true => Ok((None, text)),
        false if !is_name(name) => Err(SourceNameError::Name(name.to_owned())),
        false if place.is_empty() => Err(SourceNameError::NoPlace(name.to_owned())),
        false => Ok((Some(name), place)),
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_allowed)
}

/// Returns the name of a source without a given one: that of its device, file or host.
fn usual_name(place: &str) -> String {
    let base = match place.split_once("://") {
        Some((_, address)) => {
            let host = address.split(['/', '?', '#']).next().unwrap_or_default();
            // A password may contain an @ that was not escaped.
            host.rsplit('@').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
        }
        None if place == "-" => "stdin".to_owned(),
        None if place.starts_with(PIPELINE) => PIPELINE.trim_end_matches(':').to_owned(),
        None => Path::new(place).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let allowed: String = base.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
    let trimmed = allowed.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name: String = trimmed.chars().take(MAX_NAME - 2).collect();
    if name.is_empty() { "source".to_owned() } else { name }
}

/// Returns the name, or with a number after it if it is taken, and takes it.
fn free_name(name: &str, taken: &mut Vec<String>) -> String {
    let numbered = (2..=MAX_SOURCES + 1).map(|number| format!("{name}-{number}"));
    let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
    let free = candidates.find(|candidate| !taken.contains(candidate)).unwrap_or_else(|| name.to_owned());
    taken.push(free.clone());
    free
}

/// Returns true for standard input and cameras.
fn is_read_once(place: &str) -> bool {
    place == "-" || place == LIBCAMERA || place.starts_with("/dev/")
}

fn is_same(one: &str, other: &str) -> bool {
    let real = |place: &str| Path::new(place).canonicalize().ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> Result<Vec<(String, String)>, SourceNameError> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse(&texts).map(|sources| sources.into_iter().map(|source| (source.name, source.place)).collect())
    }

    #[test]
    fn names_come_from_the_user_or_the_device_file_or_host() {
        for (text, name, place) in [
            ("door=/dev/video0", "door", "/dev/video0"),
            ("/dev/video12", "video12", "/dev/video12"),
            ("demo", "demo", "demo"),
            ("-", "stdin", "-"),
            ("films/Front Door (2).mp4", "Front-Door--2", "films/Front Door (2).mp4"),
            (
                "rtsp://me:p@ss@192.168.1.20:554/s?token=x=y",
                "192.168.1.20",
                "rtsp://me:p@ss@192.168.1.20:554/s?token=x=y",
            ),
            ("yard=rtsp://me:pw@host/s?a=b", "yard", "rtsp://me:pw@host/s?a=b"),
            ("gst:v4l2src device=/dev/video0", "gst", "gst:v4l2src device=/dev/video0"),
            ("a=gst:x b=c", "a", "gst:x b=c"),
            ("/films/a=b.mp4", "a-b", "/films/a=b.mp4"),
            ("häuschen.mp4", "h-uschen", "häuschen.mp4"),
            ("日本.mp4", "source", "日本.mp4"),
        ] {
            assert_eq!(named(&[text]), Ok(vec![(name.to_owned(), place.to_owned())]), "{text}");
        }
    }

    #[test]
    fn a_name_is_given_once_and_others_are_numbered() {
        let names = |texts: &[&str]| named(texts).map(|all| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        let three = names(&["demo", "demo", "demo-2=a.mp4"]).expect("good");
        assert_eq!(three, ["demo", "demo-3", "demo-2"]);
        assert_eq!(names(&["a=demo", "a=b.mp4"]), Err(SourceNameError::SameName("a".to_owned())));
        assert_eq!(names(&["demo"; 9]), Err(SourceNameError::TooMany(9)));
        assert_eq!(names(&["demo"; 8]).expect("good")[7], "demo-8");
    }

    #[test]
    fn odd_names_are_refused() {
        let long = format!("{}=demo", "x".repeat(33));
        for text in [
            "my cam=demo",
            "=demo",
            "-x=demo",
            ".=demo",
            "..=demo",
            "tür=demo",
            "a\n=demo",
            "a:b=demo",
            "a#=demo",
            &long,
        ] {
            assert!(matches!(named(&[text]), Err(SourceNameError::Name(_))), "{text}");
        }
        assert_eq!(named(&["door="]), Err(SourceNameError::NoPlace("door".to_owned())));
    }

    #[test]
    fn what_can_be_read_once_is_given_once() {
        for place in ["-", "/dev/video77", "/dev/null", "libcamera"] {
            let twice = [format!("a={place}"), format!("b={place}")];
            assert_eq!(parse(&twice), Err(SourceNameError::SamePlace(place.to_owned())));
        }
        assert!(named(&["a=film.mp4", "b=film.mp4"]).is_ok());
        assert!(matches!(named(&["/dev/null", "/dev/../dev/null"]), Err(SourceNameError::SamePlace(_))));
    }
}
