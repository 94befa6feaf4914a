//! The compiled part of the Python package `faceptor`: the module `faceptor._native`.
//!
//! The package's Python files hold what users see, with its types and texts. This module has five classes for them: `Image`
//! (pixels), `Session` (the network), `Record` (the results of one image), `Tracker` and `Gallery`. No call panics into Python: what the
//! library cannot do becomes one of the exceptions of `faceptor._errors`.
#![forbid(unsafe_code)]

mod array;
mod failure;
mod gallery;
mod image;
mod interpreter_exit;
mod record;
mod session;
mod tracker;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::gallery::Gallery;
    #[pymodule_export]
    use crate::image::Image;
    #[pymodule_export]
    use crate::record::Record;
    #[pymodule_export]
    use crate::session::Session;
    #[pymodule_export]
    use crate::tracker::Tracker;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let end = wrap_pyfunction!(crate::interpreter_exit::end, module)?;
        module.py().import("atexit")?.call_method1("register", (end,))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
