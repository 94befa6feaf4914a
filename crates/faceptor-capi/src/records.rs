//! The structs of the header. `tests/layout.rs` compares their layouts with those of the C compiler.

use std::ffi::{c_char, c_void};

/// `faceptor_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Options {
    pub struct_size: usize,
    pub model_path: *const c_char,
    pub model_data: *const c_void,
    pub model_size: usize,
    pub tasks: *const c_char,
    pub threads: u32,
    pub looks: u32,
    pub max_faces: u32,
    pub min_face: f32,
    pub upright: u32,
    pub fine_masks: u32,
}

/// `faceptor_image`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Image {
    pub struct_size: usize,
    pub data: *const u8,
    pub size: usize,
    pub stride: usize,
    pub width: u32,
    pub height: u32,
    pub format: u32,
    pub colour: u32,
}

/// `faceptor_face`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Face {
    pub struct_size: usize,
    pub id: u32,
    pub results: u32,
    pub score: f32,
    pub box_: [f32; 4],
    pub keypoints: [[f32; 2]; 5],
    pub trusted: u32,
    pub eyes_px: f32,
    pub turn: f32,
    pub roll: f32,
    pub age_years: f32,
    pub age_std: f32,
    pub landmarks: *const [f32; 2],
    pub landmark_count: usize,
    pub parsing_share: *const f32,
    pub parsing_classes: *const *const c_char,
    pub parsing_count: usize,
    pub expression_scores: *const f32,
    pub expression_labels: *const *const c_char,
    pub expression_count: usize,
    pub expression_best: usize,
    pub attribute_probabilities: *const f32,
    pub attribute_labels: *const *const c_char,
    pub attribute_count: usize,
    pub embedding: *const f32,
    pub embedding_count: usize,
}

/// `faceptor_gallery_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GalleryOptions {
    pub struct_size: usize,
    pub key_path: *const c_char,
    pub passphrase: *const c_char,
    pub access: u32,
}

/// `faceptor_naming`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Naming {
    pub struct_size: usize,
    pub fpir: f64,
    pub threshold: f32,
    pub margin: f32,
}

/// `faceptor_identity`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Identity {
    pub struct_size: usize,
    pub name: *const c_char,
    pub unknown: *const c_char,
    pub similarity: f32,
    pub second_similarity: f32,
    pub threshold: f32,
}

/// `faceptor_enrolment`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Enrolment {
    pub struct_size: usize,
    pub by: *const c_char,
    pub purpose: *const c_char,
    pub expires: *const c_char,
    pub force: u32,
}

/// Bytes of `faceptor_photo.reasons`.
pub const REASONS: usize = 256;

/// `faceptor_photo`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Photo {
    pub struct_size: usize,
    pub path: *const c_char,
    pub image: *const Image,
    pub enrolled: u32,
    pub known: u32,
    pub reasons: [c_char; REASONS],
}

/// `FACEPTOR_HAS_...`: bits of `Face::results`.
pub mod has {
    pub const LANDMARKS: u32 = 1;
    pub const PARSING: u32 = 2;
    pub const AGE: u32 = 4;
    pub const EXPRESSION: u32 = 8;
    pub const ATTRIBUTES: u32 = 16;
    pub const RECOGNITION: u32 = 32;
}

/// Checks that the caller was compiled with this version of a struct, or a later and longer one.
pub(crate) fn is_known_size<T>(struct_size: usize) -> bool {
    // A struct of a later version begins like this one; a number that is not a size is a struct without one.
    (size_of::<T>()..=size_of::<T>() + 4096).contains(&struct_size)
}
