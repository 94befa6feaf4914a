//! The library's error: one sentence for a person, and a kind for a program.

use std::fmt;

/// Result of the library's functions.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of failure.
///
/// Its text names the file or value, the reason and, where there is one, the remedy; [`Error::kind`] is for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

/// Kind of an [`Error`]: whose input it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bundle cannot be read, is damaged, contradicts itself, or cannot be run on this CPU.
    Bundle,
    /// The bundle has no task of that name.
    Task,
    /// The image cannot be read, or its size does not fit.
    Image,
    /// The bundle lacks what was requested, such as a face detector.
    Unsupported,
    /// The network failed on an image: a defect of the bundle or of this library.
    Network,
}

impl Error {
    /// Makes an error of that kind.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error { kind, text: text.into() }
    }

    /// Makes an error about the engine, in the words of all its causes.
    pub(crate) fn network(reason: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Network, format!("{reason:#}"))
    }

    /// Puts a context before the text: `context: text`.
    pub(crate) fn within(self, context: impl fmt::Display) -> Error {
        Error { kind: self.kind, text: format!("{context}: {}", self.text) }
    }

    /// Returns the kind, for a program that reacts to it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Turns what is missing into an error.
pub(crate) trait OrError<T> {
    /// Returns the value, or an error of that kind with the text that `text` makes.
    fn or_error(self, kind: ErrorKind, text: impl FnOnce() -> String) -> Result<T>;
}

impl<T> OrError<T> for Option<T> {
    fn or_error(self, kind: ErrorKind, text: impl FnOnce() -> String) -> Result<T> {
        self.ok_or_else(|| Error::new(kind, text()))
    }
}

/// Returns an error of a kind from the function: `bail!(Image, "no pixels")`.
macro_rules! bail {
    ($kind:ident, $($text:tt)+) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($text)+)))
    };
}

/// [`bail!`] unless a condition holds: `ensure!(width > 0, Image, "no pixels")`.
macro_rules! ensure {
    ($condition:expr, $kind:ident, $($text:tt)+) => {
        if !$condition {
            $crate::error::bail!($kind, $($text)+);
        }
    };
}

pub(crate) use {bail, ensure};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_carries_its_kind_and_context() {
        let fails = |width: usize| -> Result<()> {
            ensure!(width > 0, Image, "{width} pixels");
            Ok(())
        };
        let error = fails(0).expect_err("no pixels").within("a.jpg");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Image, "a.jpg: 0 pixels"));
        assert!(fails(1).is_ok());
    }
}
