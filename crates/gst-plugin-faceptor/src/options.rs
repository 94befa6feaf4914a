//! The values of the element's properties.

use faceptor::stages::MAX_TRACKS;
use faceptor_nn::thread_pool::MAX_THREADS;
use gstreamer::glib;
use gstreamer::prelude::*;

/// What the user set.
#[derive(Clone, Debug)]
pub struct Options {
    pub bundle: Option<String>,
    pub tasks: Option<String>,
    pub threads: u32,
    pub max_faces: u32,
    pub draw: bool,
    pub messages: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { bundle: None, tasks: None, threads: 1, max_faces: 4, draw: false, messages: true }
    }
}

impl Options {
    /// Returns the properties that the element has besides `qos`, which it has from its base class.
    pub fn specifications() -> Vec<glib::ParamSpec> {
        let Options { threads, max_faces, draw, messages, .. } = Options::default();
        vec![
            glib::ParamSpecString::builder("tasks")
                .nick("Tasks")
                .blurb("Names separated by commas, or all, or none for the face detector alone; unset: what the bundle says")
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("bundle")
                .nick("Bundle")
                .blurb("File of the network; unset: the network inside the plugin")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads that run the network")
                .minimum(1)
                .maximum(MAX_THREADS as u32)
                .default_value(threads)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("max-faces")
                .nick("Most faces")
                .blurb("Most faces of a frame; those with the highest score are kept")
                .minimum(1)
                .maximum(MAX_TRACKS as u32)
                .default_value(max_faces)
                .mutable_ready()
                .build(),
            glib::ParamSpecBoolean::builder("draw")
                .nick("Draw")
                .blurb("Draw the results into the frames")
                .default_value(draw)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoolean::builder("messages")
                .nick("Messages")
                .blurb("Post an element message with the JSON of each analyzed frame")
                .default_value(messages)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt64::builder("analyzed")
                .nick("Analyzed frames")
                .blurb("Frames that were analyzed since the element started")
                .read_only()
                .build(),
            glib::ParamSpecUInt64::builder("late")
                .nick("Late frames")
                .blurb("Frames that came too late (qos) and were passed on without an analysis")
                .read_only()
                .build(),
        ]
    }

    /// Takes the value of a property; the bindings have checked its type and its range.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "tasks" => take(&mut self.tasks, value),
            "bundle" => take(&mut self.bundle, value),
            "threads" => take(&mut self.threads, value),
            "max-faces" => take(&mut self.max_faces, value),
            "draw" => take(&mut self.draw, value),
            "messages" => take(&mut self.messages, value),
            _ => {}
        }
    }

    /// Returns the value of a property that the user sets.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "tasks" => self.tasks.to_value(),
            "bundle" => self.bundle.to_value(),
            "threads" => self.threads.to_value(),
            "max-faces" => self.max_faces.to_value(),
            "draw" => self.draw.to_value(),
            "messages" => self.messages.to_value(),
            _ => return None,
        })
    }
}

fn take<T: for<'a> glib::value::FromValue<'a>>(place: &mut T, value: &glib::Value) {
    if let Ok(given) = value.get::<T>() {
        *place = given;
    }
}
