//! Where pictures come from: photos, folders and the embedded demo clip.

mod clip;
pub mod colour;
pub mod demo;
pub mod feed;
pub mod folder;
mod jpeg_end;
mod open;
mod paced;
pub mod photo;
pub mod picture;
mod sampler;
pub mod source;
pub mod view;

pub use clip::{DemoFeed, Photos};
pub use colour::Colour;
pub use feed::{Feed, FeedCounters, FeedError, Grab, Stamp};
pub use open::{FeedRequest, open};
pub use paced::Paced;
pub use picture::{Picture, Pixels, Pyramid};
pub use source::{Frame, Source, SourceError};
pub use view::{PixelFormat, Still, View};
