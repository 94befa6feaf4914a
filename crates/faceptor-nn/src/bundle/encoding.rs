//! The encodings in which parts exchange tensors.

use std::fmt;

/// The encoding of a named tensor that parts exchange.
///
/// A bundle stores it as a suffix of the tensor's name; [`TensorName::parse`] takes the two apart once, when the bundle is
/// loaded. Parts hand on what they compute in the encoding that suits their readers. The tensor as the ONNX file has it is
/// then made by a view: a plan after those of the manifest's parts, which runs only if the caller asks for that tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// The tensor as the ONNX file has it: float32, its own order of axes.
    Plain,
    /// Unsigned 8 bit, as a part hands it to another.
    Quantized,
    /// Float32 in another order of axes, as a part hands it to another.
    Reordered,
    /// Left factor of parsing logits: a query for each pixel of a cell and each class, as the part hands it to the views.
    Queries,
    /// Right factor of parsing logits: the features of each cell, as the part hands it to the views.
    Pixels,
    /// Parsing logits `[rows of cells, columns of cells, rows in a cell, columns in a cell, classes]`, made by a view.
    Cells,
    /// The best class of each pixel, unsigned 8 bit `[1, height, width]`, made by a view.
    Labels,
}

impl Encoding {
    const SUFFIXES: [(&'static str, Encoding); 6] = [
        (" (u8)", Encoding::Quantized),
        (" (f32)", Encoding::Reordered),
        (" (queries)", Encoding::Queries),
        (" (pixels)", Encoding::Pixels),
        (" (cells)", Encoding::Cells),
        (" (labels)", Encoding::Labels),
    ];

    fn suffix(self) -> &'static str {
        Encoding::SUFFIXES.iter().find(|(_, encoding)| *encoding == self).map_or("", |(suffix, _)| suffix)
    }
}

/// The name of a tensor that parts exchange, with its encoding. Its text is the name in the bundle.
///
/// ```
/// use faceptor_nn::bundle::{Encoding, TensorName};
///
/// let name = TensorName::parse("feature16 (u8)");
/// assert_eq!((name.tensor, name.encoding), ("feature16", Encoding::Quantized));
/// assert_eq!(name.to_string(), "feature16 (u8)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorName<'a> {
    /// The tensor's name in the manifest.
    pub tensor: &'a str,
    /// The encoding of its elements.
    pub encoding: Encoding,
}

impl<'a> TensorName<'a> {
    /// Names a tensor in an encoding.
    pub fn new(tensor: &'a str, encoding: Encoding) -> TensorName<'a> {
        TensorName { tensor, encoding }
    }

    /// Takes the name of a bundle's tensor apart. A name without a known suffix is that of a plain tensor.
    pub fn parse(name: &'a str) -> TensorName<'a> {
        let encoded = |(suffix, encoding): &(&str, Encoding)| {
            name.strip_suffix(suffix).map(|tensor| TensorName { tensor, encoding: *encoding })
        };
        Encoding::SUFFIXES.iter().find_map(encoded).unwrap_or(TensorName { tensor: name, encoding: Encoding::Plain })
    }
}

impl fmt::Display for TensorName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.tensor, self.encoding.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_read_as_it_is_written() {
        let encodings = Encoding::SUFFIXES.iter().map(|(_, encoding)| *encoding).chain([Encoding::Plain]);
        let written: Vec<String> = encodings
            .map(|encoding| {
                let name = TensorName::new("t", encoding);
                let text = name.to_string();
                assert_eq!(TensorName::parse(&text), name);
                text
            })
            .collect();
        assert_eq!(written, ["t (u8)", "t (f32)", "t (queries)", "t (pixels)", "t (cells)", "t (labels)", "t"]);
    }

    #[test]
    fn other_suffixes_belong_to_the_name() {
        for name in ["t (i8)", "t(u8)", "t (u8) "] {
            assert_eq!(TensorName::parse(name), TensorName::new(name, Encoding::Plain));
        }
    }
}
