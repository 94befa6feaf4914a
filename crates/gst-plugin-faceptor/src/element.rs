//! The element `faceptor`.

use std::sync::LazyLock;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::StaticType;
use gstreamer_base as gst_base;

mod imp;

glib::wrapper! {
    /// Analyzes the faces of a video stream and passes its frames on.
    pub struct Faceptor(ObjectSubclass<imp::Faceptor>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// The category of the element's log lines: `GST_DEBUG=faceptor:5`.
static LOG: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("faceptor", gst::DebugColorFlags::empty(), Some("faces of a video stream"))
});

/// Registers the element with its plugin.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "faceptor", gst::Rank::NONE, Faceptor::static_type())
}
