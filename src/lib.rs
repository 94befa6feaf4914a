//! Faceptor Edge: one small quantized network that reads a face on a CPU.
//!
//! # A frame's way through the tree
//!
//! ```text
//! capture    camera, video stream, photos   -> ImageView: a frame in the format in which it came
//!    |       or the demo clip                  (each pixel is converted when it is needed)
//!    |
//! locate     letterbox -> finder -> NMS     -> Detection (score, box, five keypoints)
//!    |       follow: from frame to frame    -> Track (id, keypoints in the next frame)
//!    |       alignment                      -> Similarity: aligned frame (0..1) -> picture
//!    |
//! perceive   crop: alignment and fovea      -> the network's input
//!    |       model: encoder, memory (once a face), then one decoder for each chosen task
//!    |       answer: an interpreter for each kind of task, back through the fovea
//!    |                                      -> Analysis (faces with their answers, time of each stage)
//!    |
//! present    JSON lines, text, annotated PNG, parsing masks; of a run also recordings, a framebuffer, a preview page
//!
//! model      manifest, compiler (ONNX -> bundle), bundle, executor, kernels
//! pace       the live loop: budget, schedule, fixed latency, publisher; statistics, real-time set-up, temperatures
//! control    a Unix socket for `faceptor ctl`, signals
//! cli        one file for each verb
//! ```
//!
//! [`perceive::Pipeline`] is the middle of it: `Pipeline::analyze` takes a picture and gives its faces. A run goes the
//! same way step by step: [`pace::live::Live::run`] reads as one frame's way, [`pace::frame::Faces::process`] as that of
//! its faces.
//!
//! Photos have time for further looks at each face, mirrored and from elsewhere ([`perceive::aspect`]); a run looks once.
//!
//! What is drawn costs more than what is told: `Pipeline::for_masks` says whether parsing needs more than the best classes,
//! and the loop asks for it only while somebody watches.
//!
//! What each part costs and how fast the engine is beside others: `docs/engine.md`, `docs/peers.md`; the loop and its
//! figures: `docs/loop.md`, `docs/bench.md`.

pub mod capture;
pub mod cli;
pub mod control;
mod doctor;
pub mod lab;
pub mod live;
pub mod outputs;
pub mod platform;

#[cfg(test)]
mod scratch;
