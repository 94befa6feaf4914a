//! Where the faces are: the finder, the way of a face from frame to frame, and the transform to its aligned frame.

pub mod alignment;
pub mod detection;
pub mod finder;
pub mod follow;
pub mod letterbox;
pub mod one_euro;

pub use alignment::{Point, Similarity};
pub use detection::{Detection, Detections, MAX_FACES};
pub use finder::{Finder, Purpose};
pub use follow::{FollowOptions, Follower, Followers, MAX_FOLLOWED};
pub use letterbox::Normalization;
