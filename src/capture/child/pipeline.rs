//! Splits the text of `gst:PIPELINE` into words, as a shell would, but without expanding anything.

/// Reason why a pipeline cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PipelineError {
    #[error("the pipeline is empty: gst:videotestsrc, or gst:v4l2src device=/dev/video0")]
    Empty,
    #[error("a quotation mark of the pipeline is not closed")]
    OpenQuote,
    #[error("the pipeline begins with an option: it begins with an element, such as gst:v4l2src")]
    Option,
    #[error("the pipeline contains a control character")]
    Control,
}

/// Returns the words of a pipeline. Quotation marks and backslashes keep spaces, and are removed.
///
/// # Errors
/// When the text is no pipeline.
pub(crate) fn words(text: &str) -> Result<Vec<String>, PipelineError> {
    if text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
        return Err(PipelineError::Control);
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(PipelineError::OpenQuote);
    }
    words.extend(word);
    match words.first() {
        None => Err(PipelineError::Empty),
        Some(first) if first.starts_with('-') => Err(PipelineError::Option),
        Some(_) => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell_without_its_expansions() {
        let split = |text: &str| words(text).map(|words| words.join("|"));
        for (text, expected) in [
            ("videotestsrc is-live=true ! video/x-raw,width=64", "videotestsrc|is-live=true|!|video/x-raw,width=64"),
            ("  a\t b\n", "a|b"),
            ("filesrc location=\"my film.mp4\" ! x", "filesrc|location=my film.mp4|!|x"),
            ("a 'b \" c' d\\ e \"f\\\"g\"", "a|b \" c|d e|f\"g"),
            ("a $(reboot) `x` ; rm * > f", "a|$(reboot)|`x`|;|rm|*|>|f"),
            ("a ''", "a|"),
        ] {
            assert_eq!(split(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("", PipelineError::Empty),
            (" ", PipelineError::Empty),
            ("a 'b", PipelineError::OpenQuote),
            ("--version", PipelineError::Option),
            ("'-v' a", PipelineError::Option),
            ("a \u{1}", PipelineError::Control),
        ] {
            assert_eq!(split(text), Err(expected), "{text:?}");
        }
    }
}
