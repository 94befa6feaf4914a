//! The C library: what `include/faceptor.h` declares, which documents every function.
//!
//! ```text
//! border    reads what pointers of the caller point to and writes results there
//! failure   status codes, the message of the last failure, panics
//! handles   objects of the caller by number: a freed or invented handle is noticed
//! records   the structs of the header
//! network   analyzers and trackers
//! outcome   the results of an image
//! people    galleries
//! functions, gallery_functions  the functions of the header
//! ```
//!
//! A function of C cannot fail by a panic: every call is contained and becomes a status.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "C hands over nothing but pointers")]
mod border;
mod failure;
#[allow(unsafe_code, reason = "functions with names and pointers of C")]
mod functions;
#[allow(unsafe_code, reason = "functions with names and pointers of C")]
mod gallery_functions;
mod handles;
mod network;
#[allow(unsafe_code, reason = "lists of names are pointers, which no thread changes")]
mod outcome;
mod people;
pub mod records;

pub use functions::*;
pub use gallery_functions::*;
