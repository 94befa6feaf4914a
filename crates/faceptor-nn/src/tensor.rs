//! Values of a plan: type, shape, quantization, and access to their elements.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Largest number of elements of one value.
pub(crate) const MAX_ELEMENTS: usize = 1 << 26;

/// The type of the elements of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Element {
    /// 32 bit floats.
    F32,
    /// Quantized activations; the compiler shifts signed ones by 128.
    U8,
    /// Quantized weights.
    I8,
}

impl Element {
    /// Returns the bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::U8 | Element::I8 => 1,
        }
    }
}

/// A tensor of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Type of the elements.
    pub element: Element,
    /// Index in the bundle's tensor table, if the value is known when compiling.
    pub constant: Option<u32>,
}

impl Value {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A mapping of 8 bit numbers to real ones: `real = (quantized - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    /// Real distance of neighbouring numbers, above zero.
    pub scale: f32,
    /// Number that stands for zero.
    pub zero_point: u8,
}

/// The elements of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
    I8(&'a [i8]),
}

impl<'a> Data<'a> {
    /// Returns float elements; an error if it has others, which the plan's check excludes.
    #[inline]
    pub(crate) fn floats(self) -> Result<&'a [f32], Error> {
        if let Data::F32(values) = self { Ok(values) } else { Err(wrong_element("float32")) }
    }

    /// Returns unsigned elements; an error if it has others, which the plan's check excludes.
    #[inline]
    pub(crate) fn bytes(self) -> Result<&'a [u8], Error> {
        if let Data::U8(values) = self { Ok(values) } else { Err(wrong_element("unsigned 8 bit")) }
    }

    /// Returns signed elements; an error if it has others, which the plan's check excludes.
    #[inline]
    pub(crate) fn weights(self) -> Result<&'a [i8], Error> {
        if let Data::I8(values) = self { Ok(values) } else { Err(wrong_element("signed 8 bit")) }
    }

    /// Returns the elements for an operator that only moves them: signed ones as the bytes that they are.
    #[inline]
    pub(crate) fn movable(self) -> Movable<'a> {
        match self {
            Data::F32(values) => Movable::Floats(values),
            Data::U8(values) => Movable::Bytes(values),
            Data::I8(values) => Movable::Bytes(bytemuck::cast_slice(values)),
        }
    }
}

/// Elements that an operator moves without looking at them.
pub(crate) enum Movable<'a> {
    Floats(&'a [f32]),
    Bytes(&'a [u8]),
}

/// Reports an operand whose elements are of another type than its step needs.
#[cold]
pub(crate) fn wrong_element(expected: &str) -> Error {
    Error::new(ErrorKind::Network, format!("an operand of a step is not {expected}"))
}
