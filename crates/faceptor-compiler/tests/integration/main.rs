//! Tests of compiled bundles: their answers against ONNX Runtime's, and what a reader refuses.

mod bundle;
mod fixtures;
mod recognizers;
mod systems;
