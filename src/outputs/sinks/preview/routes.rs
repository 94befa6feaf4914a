//! The dynamic routes of the preview page: the state of the run, and the choice of tasks.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::outputs::draw::overlay::Legend;
use crate::outputs::http::request::HttpRefusal;
use crate::outputs::sinks::preview::broadcast::{Broadcast, Kind};

/// The page of several sources.
const OVERVIEW: &str = include_str!("overview.html");

/// Chooses tasks of the running loop by their names, separated by commas, or `none`. Returns at once.
pub type SetTasks = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The facts of the run that the routes report, and its controls.
pub struct Routes {
    /// The source in a few words, such as a camera's name.
    pub source: String,
    /// The names of the sources, if there are several.
    pub names: Vec<String>,
    pub legend: Arc<Legend>,
    pub set_tasks: Arc<SetTasks>,
}

impl Routes {
    /// Divides the path of a request: the place of its source, and the path below it. `None` for what is common to several
    /// sources, and for a name that none has.
    pub fn source_of<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        if self.names.is_empty() {
            return Some((0, path));
        }
        let (name, _) = path.strip_prefix('/')?.split_once('/')?;
        let place = self.names.iter().position(|other| other == name)?;
        Some((place, &path[1 + name.len()..]))
    }

    /// Returns the page that shows all sources, each with a link to its own page.
    pub fn overview(&self) -> String {
        // Nothing of a name has to be escaped.
        let figure = |name: &String| {
            format!(
                "<a href=\"{name}/\"><figure><img src=\"{name}/stream.mjpg\" alt=\"Live picture of {name}\">\
                 <figcaption>{name}</figcaption></figure></a>\n"
            )
        };
        let figures: String = self.names.iter().map(figure).collect();
        OVERVIEW.replace("{sources}", &figures)
    }

    /// Answers `GET /state` of several sources: their names.
    pub fn overall_state(&self) -> Value {
        json!({ "program": concat!("faceptor ", env!("CARGO_PKG_VERSION")), "sources": self.names })
    }

    /// Answers `GET /state`: the run and its newest frame, null before the first.
    pub fn state(&self, place: usize, broadcast: &Broadcast) -> Value {
        let (number, event) = broadcast.newest(Kind::Event);
        let newest: Value = serde_json::from_slice(&event).unwrap_or(Value::Null);
        let tasks: Vec<Value> = (self.legend.decoders.iter())
            .map(|decoder| json!({ "name": decoder.task().name, "kind": decoder.task().kind }))
            .collect();
        json!({
            "program": concat!("faceptor ", env!("CARGO_PKG_VERSION")),
            "source": self.names.get(place).unwrap_or(&self.source),
            "tasks": tasks,
            "events": number,
            "viewers": broadcast.viewers(),
            "newest": newest,
        })
    }

    /// Answers `POST /tasks`: chooses the tasks that the loop decodes from the next frame on.
    ///
    /// # Errors
    /// When there is no task of a name, or the loop's command queue is full.
    pub fn choose(&self, names: &[&str]) -> Result<(), HttpRefusal> {
        let known = |name: &&str| self.legend.decoders.iter().any(|decoder| decoder.task().name == **name);
        if !names.iter().all(known) {
            return Err(HttpRefusal::new(422, "there is no such task"));
        }
        let list = if names.is_empty() { "none".to_owned() } else { names.join(",") };
        (self.set_tasks)(&list).map_err(|reason| {
            log::debug!("the preview cannot choose tasks: {reason}");
            HttpRefusal::new(503, "the loop takes no commands now, try again")
        })
    }
}
