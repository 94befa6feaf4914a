//! The files that this program writes.
//!
//! ```text
//! output_file   the one function that writes them: what may be written where
//! destination   what a path designates: nothing yet, a file, a device or a pipe
//! part_file     a file that gets its name when it is complete
//! result_log    a file of results that grows line by line, and goes on after a kill
//! result_kind   recognizes results of this program by their content
//! png_mark      the text in this program's PNGs that says so, and what they were made of
//! inputs        files that no output may replace
//! signature     the signature beside a bundle, and the key to verify it with
//! ```

pub(crate) mod destination;
pub mod inputs;
pub mod output_file;
mod part_file;
pub(crate) mod png_mark;
pub(crate) mod result_kind;
pub(crate) mod result_log;
pub(crate) mod signature;
