//! `faceptor ctl`: controls a running loop over its socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::gallery_arguments::EnrolmentArguments;
use crate::cli::{Outcome, UsageError, output, report_text};
use crate::control::{client, socket_paths};
use faceptor_gallery::check_name;

/// Longest wait for the loop.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for the gallery: a key from a passphrase takes time on a board.
const GALLERY_PATIENCE: Duration = Duration::from_secs(40);

#[derive(Args)]
pub struct CtlArguments {
    /// The socket of the loop, as given to `faceptor run --control` [default: the first of $XDG_RUNTIME_DIR/faceptor.sock,
    /// /run/faceptor/faceptor.sock and faceptor.sock in a private directory under $TMPDIR].
    #[arg(long, value_name = "SOCKET", global = true)]
    control: Option<PathBuf>,
    /// Print the answer as one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print the chosen tasks, and the available ones.
    Tasks,
    /// Choose tasks, from the next frame on.
    SetTasks {
        /// Names separated by commas, in order of priority; `all`, or `none` for the face detector alone.
        #[arg(value_name = "NAMES")]
        names: String,
    },
    /// Set the time budget of a frame, or print it.
    Budget {
        #[arg(value_name = "MS")]
        ms: Option<f64>,
    },
    /// Print the state of the loop.
    Status {
        #[command(flatten)]
        source: SourceArgument,
    },
    /// Print latency statistics.
    Stats {
        #[command(flatten)]
        source: SourceArgument,
    },
    /// Write the next frame, annotated, as a PNG.
    Snapshot {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Overwrite a file that faceptor did not write. Inputs of the loop are never overwritten.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        source: SourceArgument,
    },
    /// Do something with the loop's gallery.
    Gallery {
        #[command(subcommand)]
        verb: GalleryVerb,
    },
    /// Enrol the one face in view in the loop's gallery; refused with its reason when there is none, or it cannot be seen well.
    Enroll {
        /// The person's name, of any script, on one line. If the gallery holds the person already, the view is added.
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        enrolment: EnrolmentArguments,
        #[command(flatten)]
        source: SourceArgument,
    },
    /// End the loop.
    Quit,
}

#[derive(Args)]
struct SourceArgument {
    /// The source by its name, where the loop has several.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

impl SourceArgument {
    /// Adds the source to a request. Loops of earlier versions do not know the key.
    fn add_to(&self, mut request: Value) -> Value {
        if let Some(source) = &self.source {
            request["source"] = json!(source);
        }
        request
    }
}

#[derive(Subcommand)]
enum GalleryVerb {
    /// Read the gallery anew, after a change by another command.
    Reload,
}

pub fn run(arguments: CtlArguments) -> Result<Outcome> {
    let request = request(&arguments.verb)?;
    let path = arguments.control.unwrap_or_else(socket_paths::path_to_connect_to);
    let patience = match arguments.verb {
        Verb::Gallery { .. } | Verb::Enroll { .. } => GALLERY_PATIENCE,
        _ => PATIENCE,
    };
    let mut response = client::ask(&path, &request, patience)?;
    if response["ok"] == true {
        match arguments.json {
            true => output::print_json(&response["result"])?,
            false => output::print(&report_text::text(&response["result"]))?,
        }
        return Ok(Outcome::Done);
    }
    let error = response["error"].take();
    let message = error["message"].as_str().unwrap_or("the loop refused without a reason").to_owned();
    match error["code"].as_str() {
        Some("bad-argument") => Err(UsageError(message).into()),
        _ => Err(anyhow!(message)),
    }
}

fn request(verb: &Verb) -> Result<Value> {
    Ok(match verb {
        Verb::Tasks => json!({"verb": "tasks"}),
        Verb::SetTasks { names } => json!({"verb": "set-tasks", "tasks": names}),
        Verb::Budget { ms } => match ms {
            // Neither has a form in JSON.
            Some(ms) if !ms.is_finite() => bail!(UsageError(format!("budget: {ms} is not a number of milliseconds"))),
            Some(ms) => json!({"verb": "budget", "ms": ms}),
            None => json!({"verb": "budget"}),
        },
        Verb::Status { source } => source.add_to(json!({"verb": "status"})),
        Verb::Stats { source } => source.add_to(json!({"verb": "stats"})),
        Verb::Snapshot { file, force, source } => {
            // The loop may run in another folder.
            let file = std::path::absolute(file).with_context(|| format!("cannot write {}", file.display()))?;
            let Some(file) = file.to_str() else {
                bail!(UsageError(format!("{}: the path is not UTF-8", file.display())));
            };
            source.add_to(match force {
                // Loops of earlier versions do not know the key.
                false => json!({"verb": "snapshot", "file": file}),
                true => json!({"verb": "snapshot", "file": file, "force": true}),
            })
        }
        Verb::Gallery { verb: GalleryVerb::Reload } => json!({"verb": "reload-gallery"}),
        Verb::Enroll { name, enrolment, source } => {
            let name = check_name(name).map_err(|reason| UsageError(reason.to_string()))?;
            let (by, EnrolmentArguments { purpose, expires, .. }) = (enrolment.by(), enrolment);
            let request = json!({"verb": "enroll", "name": name, "by": by, "purpose": purpose, "expires": expires});
            source.add_to(request)
        }
        Verb::Quit => json!({"verb": "quit"}),
    })
}
