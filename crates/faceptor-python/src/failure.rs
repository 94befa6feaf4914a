//! The failures of a call and the exceptions that they become.

use faceptor::stages::contain_panic;
use faceptor::{Error, ErrorKind};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A reason why a call gave no result. It needs no interpreter, so it may come from code that runs without one.
#[derive(Debug)]
pub struct Failure {
    /// The name of a class of `faceptor._errors`.
    class: &'static str,
    text: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn image(text: impl Into<String>) -> Failure {
        Failure { class: "ImageError", text: text.into() }
    }

    /// Makes the failure of an argument of the wrong type.
    pub fn image_type(text: impl Into<String>) -> Failure {
        Failure { class: "ImageTypeError", text: text.into() }
    }

    pub fn bundle(text: impl Into<String>) -> Failure {
        Failure { class: "BundleError", text: text.into() }
    }

    pub fn task(text: impl Into<String>) -> Failure {
        Failure { class: "TaskError", text: text.into() }
    }

    pub fn gallery(text: impl Into<String>) -> Failure {
        Failure { class: "GalleryError", text: text.into() }
    }

    /// Makes the failure of an argument with a value that is not allowed.
    pub fn argument(text: impl Into<String>) -> Failure {
        Failure { class: "UnsupportedError", text: text.into() }
    }

    /// Puts a context before the text.
    pub fn within(self, context: impl std::fmt::Display) -> Failure {
        Failure { text: format!("{context}: {}", self.text), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let class = match error.kind() {
            ErrorKind::Bundle => "BundleError",
            ErrorKind::Task => "TaskError",
            ErrorKind::Image => "ImageError",
            ErrorKind::Unsupported => "UnsupportedError",
            _ => "NetworkError",
        };
        Failure { class, text: error.to_string() }
    }
}

impl From<anyhow::Error> for Failure {
    /// Takes what was wrong with a gallery or its key; a failure of the library keeps its class.
    fn from(error: anyhow::Error) -> Failure {
        let text = format!("{error:#}");
        match error.downcast_ref::<Error>() {
            Some(inner) => Failure { text, ..Failure::from(inner.clone()) },
            None => Failure::gallery(text),
        }
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> PyErr {
        let Failure { class, text } = failure;
        Python::attach(|python| {
            let found = python.import("faceptor._errors").and_then(|module| module.getattr(class));
            match found.and_then(|class| class.cast_into::<PyType>().map_err(PyErr::from)) {
                Ok(class) => PyErr::from_type(class, text),
                // The interpreter shuts down, or the package is incomplete.
                Err(_) => PyRuntimeError::new_err(text),
            }
        })
    }
}

/// Runs `work`, and turns a panic into a failure: a defect of the library costs one call.
pub fn contained<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    contain_panic(work).unwrap_or_else(|| {
        let text = "a defect of faceptor stopped this call; please report it with the image".to_owned();
        Err(Failure { class: "NetworkError", text })
    })
}
