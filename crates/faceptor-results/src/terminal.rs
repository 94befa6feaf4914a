//! Text that does nothing to a terminal but appear on it. Names of files, cameras and labels come from elsewhere: control
//! characters in them could move the cursor, hide text or forge a line.

use std::borrow::Cow;

use serde::ser::{Error, Serialize, Serializer};
use serde_json::value::RawValue;

/// Returns whether a terminal obeys the character instead of showing it: control characters, separators of lines, and
/// characters that reverse the direction of the text after them.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |character: char| is_obeyed(character) && !is_kept(character);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_bad(character) {
            true => safe.extend(character.escape_default()),
            false => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// Returns a text as one line, with escapes such as `\u{1b}` and `\n` in place of control characters.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Returns a text like [`one_line`], with its line feeds and tabs.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

/// Returns whether JSON of a text holds characters that a terminal obeys.
pub fn is_risky_in_json(text: &str) -> bool {
    text.contains(is_obeyed_in_json)
}

/// Returns whether JSON allows the character in a string, although a terminal obeys it.
fn is_obeyed_in_json(character: char) -> bool {
    is_obeyed(character) && character > '\u{1f}'
}

/// Returns JSON with `\u009b` and the like in place of the characters that JSON allows in a string and a terminal obeys.
pub fn json(text: &str) -> Cow<'_, str> {
    if !is_risky_in_json(text) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_obeyed_in_json(character) {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

/// The name of a file or a person. Characters that JSON allows and a terminal obeys are escaped.
pub(crate) struct Name<'a>(pub &'a str);

impl Serialize for Name<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_risky_in_json(self.0) {
            return serializer.serialize_str(self.0);
        }
        let text = serde_json::to_string(self.0).map_err(Error::custom)?;
        let text = RawValue::from_string(json(&text).into_owned()).map_err(Error::custom)?;
        text.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_obeys_nothing_in_it() {
        let hostile = "a\u{1b}[2Jb\u{7}\r\nc\u{9b}31m\u{7f}\u{202e}gpj.\u{2028}\td é 🙂";
        let line = one_line(hostile);
        assert_eq!(line, "a\\u{1b}[2Jb\\u{7}\\r\\nc\\u{9b}31m\\u{7f}\\u{202e}gpj.\\u{2028}\\td é 🙂");
        assert_eq!(one_line(&line), line);
        assert_eq!(lines("x\n\ty\r\u{1b}\n"), "x\n\ty\\r\\u{1b}\n");
        assert!(matches!(lines("plain é\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_value() {
        let name = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{feff}b\nc é";
        let text = serde_json::to_string(&[name]).expect("a text") + "\n";
        let safe = json(&text);
        assert!(!safe.trim_end().contains(is_obeyed), "{safe}");
        let read: Vec<String> = serde_json::from_str(&safe).expect("JSON");
        assert_eq!(read, [name]);
    }
}
