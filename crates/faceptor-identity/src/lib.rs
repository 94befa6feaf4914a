#![doc = include_str!("../README.md")]
//!
//! ```text
//! recognizer        the recognition task of a network, and its table of impostor scores
//! embedder          the faces of photos with their embeddings
//! consistency       the photos of a set that show one person
//! enrolment         which photos may be enrolled, and the reasons against the others
//! enrolment_photos  the photos of an enrolment, from the search for a face to the gallery
//! naming            the names of the faces of a photo
//! people            a gallery with its network, for other programs
//! listing           what a gallery holds, for JSON
//! account           the account that runs a program
//! dates             times and ends of enrolments
//! key_file          files that hold a secret
//! random            random bytes of the kernel
//! ```
#![forbid(unsafe_code)]

pub mod account;
mod consistency;
pub mod dates;
pub mod embedder;
pub mod enrolment;
pub mod enrolment_photos;
#[cfg(test)]
mod enrolment_tests;
pub mod key_file;
pub mod listing;
pub mod naming;
pub mod people;
pub mod random;
pub mod recognizer;

use faceptor_gallery::Platform;

/// Random bytes and file creation of this machine, for a gallery.
pub const PLATFORM: Platform = Platform { random: random::fill, create: key_file::create_private };
