//! Finds where the parts of a multipart stream begin, also in the middle of a JPEG that was cut off.

/// A search for an empty line followed by the first bytes of a JPEG, over bytes that may arrive in pieces.
///
/// A JPEG that was cut off inside a segment would otherwise take the next part for the rest of that segment. Boundaries are
/// not searched for: they may stand inside of a JPEG, and their text is not always that of the response's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PartStart {
    #[default]
    Nothing,
    LineEnd,
    /// After the end of a line and a carriage return.
    Return,
    EmptyLine,
    /// After `ff`.
    Mark,
    /// After `ff d8`.
    StartOfImage,
}

impl PartStart {
    /// Searches `bytes`, the continuation of those of earlier calls. Returns the number of bytes up to and including the
    /// `ff` that follows `ff d8`.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if *self == PartStart::Nothing && byte != b'\n' {
                at += bytes[at..].iter().position(|&byte| byte == b'\n')?;
                continue;
            }
            at += 1;
            *self = match (*self, byte) {
                (PartStart::LineEnd | PartStart::EmptyLine, b'\r') => PartStart::Return,
                (PartStart::LineEnd | PartStart::Return | PartStart::EmptyLine, b'\n') => PartStart::EmptyLine,
                (PartStart::EmptyLine, 0xff) => PartStart::Mark,
                (PartStart::Mark, 0xd8) => PartStart::StartOfImage,
                (PartStart::StartOfImage, 0xff) => {
                    *self = PartStart::Nothing;
                    return Some(at);
                }
                (_, b'\n') => PartStart::LineEnd,
                _ => PartStart::Nothing,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_after_an_empty_line_is_found_wherever_the_pieces_end() {
        for (text, expected) in [
            ("a: b\r\n\r\n", true),
            ("a: b\n\n", true),
            ("\r\n\r\n\r\n", true),
            ("a: b\r\n", false),
            ("\n\r", false),
            ("\n\nx", false),
        ] {
            let bytes = [b"12", text.as_bytes(), &[0xff, 0xd8, 0xff, 0xe0]].concat();
            for piece in 1..=bytes.len() {
                let (mut search, mut at, mut found) = (PartStart::default(), 0, None);
                for bytes in bytes.chunks(piece) {
                    found = found.or(search.find(bytes).map(|end| at + end));
                    at += bytes.len();
                }
                assert_eq!(found, expected.then_some(bytes.len() - 1), "{text:?} in pieces of {piece}");
            }
        }
    }
}
