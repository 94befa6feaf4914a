//! The canonical normal form of Unicode (NFC): one spelling of text that looks the same.
//!
//! "José" has four characters where Linux types it, and five in a file name of macOS. The tables are the program's own: those of
//! a crate for all forms of Unicode would take more than twice the space.

use std::borrow::Cow;

use crate::normal_form_tables::{CLASSES, EXCLUDED, PAIRS, SINGLE};

/// No character below this one decomposes into others that the normal form keeps, or joins the one before it.
const FIRST_MARK: char = '\u{300}';
/// The first syllable of Hangul, and the first of each kind of its parts with their number.
const SYLLABLE: u32 = 0xac00;
const LEADING: (u32, u32) = (0x1100, 19);
const VOWEL: (u32, u32) = (0x1161, 21);
/// The first one stands for no trailing part.
const TRAILING: (u32, u32) = (0x11a7, 28);

/// Returns a text in its canonical normal form.
pub(crate) fn composed(text: &str) -> Cow<'_, str> {
    if text.chars().all(|character| character < FIRST_MARK) {
        return Cow::Borrowed(text);
    }
    let mut parts: Vec<(u32, u8)> = Vec::with_capacity(text.len());
    text.chars().for_each(|character| decompose(character as u32, &mut parts));
    for marks in parts.split_mut(|(_, class)| *class == 0) {
        marks.sort_by_key(|(_, class)| *class);
    }
    let mut whole: Vec<(u32, u8)> = Vec::with_capacity(parts.len());
    // Place of the character that the next mark may join.
    let mut base: Option<usize> = None;
    for (part, class) in parts {
        if let Some(place) = base {
            let last = whole.len() - 1;
            let is_apart = last > place && (whole[last].1 >= class || whole[last].1 == 0);
            if let Some(joined) = compose(whole[place].0, part).filter(|_| !is_apart) {
                whole[place].0 = joined;
                continue;
            }
        }
        if class == 0 {
            base = Some(whole.len());
        }
        whole.push((part, class));
    }
    // They all come from a text or from the tables.
    Cow::Owned(whole.into_iter().filter_map(|(code, _)| char::from_u32(code)).collect())
}

/// Appends the parts of a character with their combining classes.
fn decompose(code: u32, parts: &mut Vec<(u32, u8)>) {
    if let Some(place) = code.checked_sub(SYLLABLE).filter(|place| *place < LEADING.1 * VOWEL.1 * TRAILING.1) {
        let (rest, trailing) = (place / TRAILING.1, place % TRAILING.1);
        parts.extend([(LEADING.0 + rest / VOWEL.1, 0), (VOWEL.0 + rest % VOWEL.1, 0)]);
        parts.extend((trailing > 0).then_some((TRAILING.0 + trailing, 0)));
        return;
    }
    let pair = |table: &[(u32, u32, u32)]| table.binary_search_by_key(&code, |row| row.0).ok().map(|row| table[row]);
    if let Some((_, first, second)) = pair(PAIRS).or_else(|| pair(EXCLUDED)) {
        decompose(first, parts);
        decompose(second, parts);
    } else if let Ok(row) = SINGLE.binary_search_by_key(&code, |row| row.0) {
        decompose(SINGLE[row].1, parts);
    } else {
        parts.push((code, class(code)));
    }
}

/// Returns the combining class: 0 for a character that is no mark.
fn class(code: u32) -> u8 {
    let after = CLASSES.partition_point(|(first, ..)| *first <= code);
    let run = after.checked_sub(1).map(|row| CLASSES[row]);
    run.filter(|(first, count, _)| code - first < u32::from(*count)).map_or(0, |(.., class)| class)
}

/// Returns the character that two others compose.
fn compose(first: u32, second: u32) -> Option<u32> {
    let part = |code: u32, kind: (u32, u32)| code.checked_sub(kind.0).filter(|place| *place < kind.1);
    if let (Some(leading), Some(vowel)) = (part(first, LEADING), part(second, VOWEL)) {
        return Some(SYLLABLE + (leading * VOWEL.1 + vowel) * TRAILING.1);
    }
    if let (Some(place), Some(trailing)) =
        (part(first, (SYLLABLE, LEADING.1 * VOWEL.1 * TRAILING.1)), part(second, TRAILING))
    {
        return (place % TRAILING.1 == 0 && trailing > 0).then_some(first + trailing);
    }
    // No pair has a second part below the marks.
    if second < FIRST_MARK as u32 {
        return None;
    }
    PAIRS.iter().find(|row| (row.1, row.2) == (first, second)).map(|row| row.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_become_one() {
        for (apart, whole) in [
            ("Jose\u{301}", "José"),
            // Marks in another order, and on a letter that is composed already.
            ("e\u{323}\u{302}", "\u{1ec7}"),
            ("e\u{302}\u{323}", "\u{1ec7}"),
            ("\u{ea}\u{323}", "\u{1ec7}"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            // Hangul, kana, Devanagari, and letters that are excluded from composition.
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            ("\u{1112}\u{1161}", "\u{d558}"),
            ("\u{d558}\u{11ab}", "\u{d55c}"),
            ("\u{30ab}\u{3099}", "\u{30ac}"),
            ("\u{928}\u{93c}", "\u{929}"),
            ("\u{958}", "\u{915}\u{93c}"),
            ("\u{fb2a}", "\u{5e9}\u{5c1}"),
            // The signs of \u{e5}ngstr\u{f6}m and ohm, and a Korean duplicate of a Chinese character.
            ("\u{212b}", "\u{c5}"),
            ("\u{2126}", "\u{3a9}"),
            ("\u{f9e1}", "\u{674e}"),
            // Two marks of one class keep their order, and a mark that is blocked stays apart.
            ("a\u{315}\u{300}", "\u{e0}\u{315}"),
            ("a\u{300}\u{301}", "\u{e0}\u{301}"),
            ("a\u{5ae}\u{301}\u{300}", "\u{e1}\u{5ae}\u{300}"),
            ("\u{9c7}\u{334}\u{9be}", "\u{9c7}\u{334}\u{9be}"),
            ("\u{301}e", "\u{301}e"),
            ("\u{11099}\u{110ba}", "\u{1109a}"),
            ("Ada \u{1f468}\u{200d}\u{1f469}", "Ada \u{1f468}\u{200d}\u{1f469}"),
            ("", ""),
        ] {
            assert_eq!(composed(apart), whole, "{}", apart.escape_unicode());
            assert_eq!(composed(whole), whole, "{}", whole.escape_unicode());
        }
    }

    #[test]
    fn each_composed_character_equals_its_parts() {
        for &(code, first, second) in PAIRS {
            let text = |codes: &[u32]| codes.iter().filter_map(|code| char::from_u32(*code)).collect::<String>();
            assert_eq!(composed(&text(&[first, second])), text(&[code]), "{code:x}");
        }
        for syllable in ('\u{ac00}'..='\u{d7a3}').map(String::from) {
            let mut parts = Vec::new();
            decompose(u32::from(syllable.chars().next().unwrap_or('x')), &mut parts);
            let apart: String = parts.iter().filter_map(|(code, _)| char::from_u32(*code)).collect();
            assert!(apart != syllable && composed(&apart) == syllable, "{syllable}");
        }
        assert!([PAIRS, EXCLUDED].iter().all(|table| table.is_sorted()) && SINGLE.is_sorted() && CLASSES.is_sorted());
    }
}
