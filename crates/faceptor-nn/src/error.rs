//! The error of engines, kernels and threads.

use std::error::Error as StdError;
use std::fmt;

/// The kind of failure that an [`Error`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This build has no kernel of that name.
    UnknownKernel,
    /// This CPU lacks instructions that the kernel needs.
    UnsupportedKernel,
    /// The number of threads is out of range, or the system starts no more of them.
    Threads,
    /// The bundle has no tensor of that name.
    UnknownTensor,
    /// The caller uses a tensor as an input that is none, or as elements of another type.
    TensorUse,
    /// The caller asks for a tensor before it has written an input that the tensor depends on.
    MissingInput,
    /// The parts of a network contradict each other.
    Network,
}

/// Reports why a network cannot be run. Its text names the tensor, kernel or number at fault; `{:#}` adds the causes.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    /// Returns an error of the same kind that says what was being done.
    pub(crate) fn context(self, message: impl Into<String>) -> Error {
        Error { kind: self.kind, message: message.into(), source: Some(Box::new(self)) }
    }

    /// Returns an error of the given kind that another error has caused.
    pub(crate) fn caused_by(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Error {
        Error { kind, message: message.into(), source: Some(Box::new(source)) }
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source().filter(|_| f.alternate());
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_keeps_the_kind_and_the_cause() {
        let error = Error::new(ErrorKind::MissingInput, "an input is missing").context("computing tensor y");
        assert_eq!(error.kind(), ErrorKind::MissingInput);
        assert_eq!(error.to_string(), "computing tensor y");
        assert_eq!(format!("{error:#}"), "computing tensor y: an input is missing");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("an input is missing"));
    }
}
