//! Names of people: what may be a name, and how it is spelled.

use crate::error::GalleryError;
use crate::normal_form::composed;

/// The most characters of a name.
const MOST_NAME: usize = 200;

/// Checks a name: 1 to 200 characters of any script, on one line. Returns it in the one spelling that a gallery stores: in the
/// canonical normal form of Unicode (NFC), with single spaces and none at its ends. Upper and lower case stay distinct.
///
/// # Errors
/// When the name is empty, too long, or has characters with which it could pose as another: control characters, line ends,
/// marks that reverse the direction of writing, and characters that cannot be seen.
pub fn check_name(name: &str) -> Result<String, GalleryError> {
    let name = name.trim();
    if name.chars().any(|character| matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{85}')) {
        return Err(GalleryError::Name("it has more than one line"));
    }
    if name.chars().any(is_control) {
        return Err(GalleryError::Name("it has control characters"));
    }
    if has_invisible(name) {
        return Err(GalleryError::Name("it has characters that cannot be seen: type it anew"));
    }
    let name = spelled(name);
    if !name.chars().any(is_visible) {
        return Err(GalleryError::Name("it is empty"));
    }
    if name.chars().count() > MOST_NAME {
        return Err(GalleryError::Name("it has more than 200 characters"));
    }
    Ok(name)
}

/// Returns the spelling of a name in which it is stored and looked for.
pub(crate) fn spelled(name: &str) -> String {
    composed(name).split_whitespace().collect::<Vec<&str>>().join(" ")
}

/// Reports control characters, those of the direction of writing included.
pub(crate) fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Reports whether a text has characters that take no space: those without a use in names, and joiners where the script has none.
fn has_invisible(text: &str) -> bool {
    let mut before = None;
    text.chars().any(|character| {
        let is_joiner = matches!(character, '\u{200c}' | '\u{200d}');
        let is_invisible = match is_joiner {
            true => !before.is_some_and(uses_joiners),
            false => is_filler(character),
        };
        before = Some(character);
        is_invisible
    })
}

/// Reports fillers, tags, soft hyphens, marks of the direction of writing, and spaces without a width.
fn is_filler(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}'
    )
}

/// Reports characters after which a joiner has a meaning: of Arabic, the scripts of India and their relatives, and pictures.
fn uses_joiners(character: char) -> bool {
    matches!(
        character,
        '\u{600}'..='\u{109f}' | '\u{1700}'..='\u{1cff}' | '\u{2190}'..='\u{2bff}' | '\u{a800}'..='\u{abff}' | '\u{fb50}'..='\u{fdff}'
            | '\u{fe0f}' | '\u{fe70}'..='\u{fefc}' | '\u{10a00}'..='\u{11fff}' | '\u{1e900}'..='\u{1e95f}' | '\u{1f000}'..='\u{1faff}'
    )
}

/// Reports characters other than spaces and those that only choose the shape of the one before them.
fn is_visible(character: char) -> bool {
    let is_selector =
        matches!(character, '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
    !is_selector && !character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_are_accepted() {
        let long = "\u{1d538}".repeat(MOST_NAME);
        // Persian and Malayalam need joiners, families of pictures too; a selector chooses the shape of a Japanese name.
        for name in [
            "Eileen Collins",
            "李小龍",
            "Ольга",
            "عائشة",
            "می\u{200c}خواهم",
            "അനില\u{d4d}\u{200d}",
            "O'Brien-Šimić",
            "葛\u{e0100}城",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{2764}\u{fe0f}\u{200d}\u{1f525}",
            &long,
            "7",
        ] {
            assert_eq!(check_name(name).expect("a name"), name);
        }
    }

    #[test]
    fn one_name_has_one_spelling() {
        for (typed, stored) in [
            ("  Ada Lovelace\u{3000}", "Ada Lovelace"),
            ("Ada\u{a0} Lovelace", "Ada Lovelace"),
            ("山田\u{3000}太郎", "山田 太郎"),
            ("Jose\u{301}", "Jos\u{e9}"),
            ("Nguye\u{302}\u{303}n", "Nguy\u{1ec5}n"),
            ("\u{1100}\u{1175}\u{11b7}", "\u{ae40}"),
            ("\u{30ab}\u{3099}", "\u{30ac}"),
        ] {
            assert_eq!(check_name(typed).expect("a name"), stored);
        }
        // 200 letters are 400 characters of a file name of macOS.
        assert_eq!(check_name(&"e\u{301}".repeat(MOST_NAME)).expect("a name").chars().count(), MOST_NAME);
        // Case is kept, and so are letters of other widths.
        for [one, other] in [["Ada", "ada"], ["Ada", "\u{ff21}da"], ["Straße", "Strasse"]] {
            assert_ne!(check_name(one).expect("a name"), check_name(other).expect("a name"));
        }
    }

    #[test]
    fn names_that_cannot_stand_on_a_line_are_refused() {
        let refused = |name: &str| check_name(name).expect_err("no name").to_string();
        for name in ["", " \u{3000}\n ", "\u{fe0f}", "\u{a0}\u{e0100}"] {
            assert!(refused(name).contains("empty"), "{name:?}");
        }
        assert!(refused(&"x".repeat(10_000)).contains("200 characters"));
        for name in ["Ada\nLovelace", "Ada\r\nLovelace", "Ada\u{2028}Lovelace"] {
            assert!(refused(name).contains("one line"), "{name:?}");
        }
        for name in ["Ada\0", "\u{1b}[31mAda", "Ada\u{202e}ecila", "a\tb"] {
            assert!(refused(name).contains("control"), "{name:?}");
        }
    }

    #[test]
    fn names_that_look_like_others_are_refused() {
        for character in [
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{61c}',
            '\u{2060}',
            '\u{feff}',
            '\u{ad}',
            '\u{34f}',
            '\u{3164}',
            '\u{e0041}',
        ] {
            for name in
                [format!("A{character}da"), format!("Ada{character}"), format!("{character}Ada"), character.to_string()]
            {
                let reason = check_name(&name).expect_err("no name").to_string();
                assert!(reason.contains("cannot be seen"), "{}", name.escape_unicode());
            }
        }
    }
}
