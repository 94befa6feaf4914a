//! Reads ONNX through tract: quantized operators stay as they are, integer products are put in their place.

pub(crate) mod integer;
pub(crate) mod quantization;
