//! Where the faces are: the finder, the way of a face from frame to frame, and the transform to its aligned frame.

pub mod alignment;
pub mod detection;
pub mod doubt;
pub mod finder;
pub mod follow;
pub mod follower;
pub mod letterbox;
pub mod one_euro;

pub use alignment::{Point, Similarity};
pub use detection::{Detection, Detections, MAX_FACES};
pub use doubt::Glance;
pub use finder::{Finder, Purpose};
pub use follow::{FollowOptions, Followers, MAX_FOLLOWED};
pub use follower::Follower;
pub use letterbox::Normalization;
