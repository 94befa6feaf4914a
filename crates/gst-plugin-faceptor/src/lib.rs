//! The GStreamer plugin `faceptor`: an element that analyzes the faces of a video stream and passes its frames on.
//!
//! ```text
//! element   the element: properties, states, frames
//! options   the values of the properties
//! session   the network: faces from frame to frame
//! pixels    the planes of a frame, as the library views them
//! drawing   annotated pixels written back into a frame
//! lateness  QoS: which frames come too late to be analyzed
//! report    messages on the bus and metadata of a frame
//! ```
//!
//! No panic crosses the border to C: the bindings contain those of an element's functions, and `element` those of the network.
#![deny(unsafe_code)]

mod drawing;
mod element;
mod lateness;
mod options;
mod pixels;
mod report;
mod session;

use element::register;

gstreamer::plugin_define!(
    faceptor,
    env!("CARGO_PKG_DESCRIPTION"),
    register,
    env!("CARGO_PKG_VERSION"),
    // GStreamer's name for MIT; the program may be used under Apache-2.0 too.
    "MIT/X11",
    "faceptor",
    "faceptor",
    "https://docs.rs/faceptor"
);
