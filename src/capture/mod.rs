//! Where pictures come from: cameras, photos, folders, video streams and the embedded demo clip.
//!
//! The live loop reads any of them as a [`Feed`], which [`open`] makes from a name; each frame is a [`View`] in the
//! format in which it came.

pub mod camera;
mod clip;
pub mod colour;
pub mod demo;
pub mod feed;
pub mod folder;
mod inflow;
mod jpeg;
mod jpeg_end;
mod mjpg;
mod open;
mod paced;
pub mod photo;
pub mod picture;
mod sampler;
mod shrunk;
pub mod view;
mod y4m;

pub use camera::Camera;
pub use clip::{DemoFeed, Photos};
pub use colour::Colour;
pub use feed::{Feed, FeedCounters, FeedError, Grab, Stamp};
pub use mjpg::Mjpg;
pub use open::{FeedRequest, open};
pub use paced::Paced;
pub use picture::{Picture, Pixels, Pyramid};
pub use shrunk::{MAX_HALVINGS, Part, Shrunk};
pub use view::{PixelFormat, Still, View};
pub use y4m::Y4m;
