//! Reads ONNX through tract, keeps its quantization operators and replaces quantized products by integer ones.

pub(crate) mod integer;
pub(crate) mod quantization;
