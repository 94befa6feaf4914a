//! Tests of the program as users run it, and of the runtime on scripted sources and clocks. One binary, so that the
//! library is linked once; run a module alone with `cargo test --test integration MODULE::`.
//!
//! The tests share a process: none changes its environment, working directory, limits or signal handlers. What needs
//! that runs in a child process, mostly the program itself.

mod pictures;
mod program;

mod augmentation;
mod bad_input;
mod batches;
mod bench;
mod blur;
mod buses;
mod capture;
mod control;
mod cuts;
mod damaged_photos;
mod devices;
mod doctor;
mod downloads;
mod enrolment;
mod expression;
mod files;
mod films;
mod finding;
mod gallery;
mod gallery_disk;
mod gallery_place;
mod jpeg_layouts;
mod live;
mod migration;
mod names;
mod outputs;
mod overload;
mod parity;
mod people;
mod photo_names;
mod photos;
mod preview;
mod push;
mod run;
mod service;
mod several_sources;
mod signals;
mod signatures;
mod strangers;
mod streams;
mod system_updates;
#[cfg(feature = "compiler")]
mod systems;
mod tasks;
mod threads;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_server;
mod tracking;
mod trust;
mod updates;
mod vector_store;
mod video;

/// Counts the allocations of each thread by itself, so tests beside each other do not disturb the counts.
#[global_allocator]
static ALLOCATOR: faceptor_edge::platform::allocations::Counting = faceptor_edge::platform::allocations::Counting;
