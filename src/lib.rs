//! Faceptor Edge: the program `faceptor`, which reads faces with one small quantized network on a CPU.
//!
//! ```text
//! cli        one file for each verb of the command line
//! capture    cameras, video streams, photos, the demo clip   -> ImageView: a frame in its own pixel format
//! live       the live loop: budget, schedule, fixed latency  -> FrameResult, by the library `faceptor`
//! outputs    JSON, text, recordings, a display, a preview page
//! recognition embeddings of photos, which of them may be enrolled, and names of tracks
//! control    the socket of `faceptor ctl`
//! files      the one function that writes files, and the recognition of own results
//! doctor     checks of a machine
//! lab        bench, profile, reference and verify
//! update     networks that updates put in, with the way back
//! platform   system calls and files of the kernel
//! ```
//!
//! The modules are public for the tests and benchmarks of this package only. Programs use the library `faceptor`.
//! `docs/architecture.md` describes the whole.
#![deny(unsafe_code)]

pub mod capture;
pub mod cli;
pub mod control;
mod doctor;
pub mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod lab;
pub mod live;
pub mod outputs;
pub mod platform;
pub mod recognition;
mod update;
