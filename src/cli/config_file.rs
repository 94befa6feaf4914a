//! The configuration file of `faceptor run`: TOML whose keys are the command's long options.
//!
//! ```toml
//! source = "/dev/video0"
//! tasks = ["landmarks", "age"]
//! budget-ms = 25
//! json = true
//! ```
//! Each key becomes the option of that name, before the options of the command line, which therefore win.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Command};
use toml::{Spanned, Value};

use crate::capture::source_names;
use crate::cli::run_arguments::RunArguments;
use crate::files::inputs::Inputs;
use crate::files::output_file::{self, OutputRules};
use crate::files::result_kind::ResultKind;

/// The option that names the file.
pub(crate) const OPTION: &str = "config";
/// Name of the copy of the last good file, in the service's state directory.
const LAST_GOOD: &str = "last-good.toml";
/// Longest file, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Reason why a configuration is refused. The text names the file and the line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path}: {reason}", path = .0.display(), reason = .1)]
    Unreadable(PathBuf, String),
    #[error("{path}:{line}: {reason}", path = .path.display())]
    Line { path: PathBuf, line: usize, reason: String },
}

/// A configuration whose keys and values are right.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    text: String,
    options: Vec<OsString>,
}

impl ConfigFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has a key that is not an option of `run`, or a value that the option refuses.
    pub(crate) fn open(path: &Path) -> Result<ConfigFile, ConfigError> {
        let unreadable = |reason: String| ConfigError::Unreadable(path.to_owned(), reason);
        let data = path.metadata().map_err(|error| unreadable(format!("cannot read the configuration: {error}")))?;
        if !data.is_file() || data.len() > MAX_BYTES {
            return Err(unreadable("a configuration is a regular file of at most 1 MiB".to_owned()));
        }
        let text =
            fs::read_to_string(path).map_err(|error| unreadable(format!("cannot read the configuration: {error}")))?;
        let options =
            options_of(&text).map_err(|(line, reason)| ConfigError::Line { path: path.to_owned(), line, reason })?;
        Ok(ConfigFile { text, options })
    }

    /// Reads a file for a run. As a service (`STATE_DIRECTORY` is set), a good file is copied there, and if a later one is
    /// refused, the run reports why and goes on with the copy: a typing mistake must not stop a board in the field.
    ///
    /// # Errors
    /// When the file is refused and there is no copy.
    pub(crate) fn open_for_run(path: &Path, state_directory: Option<&Path>) -> Result<ConfigFile, ConfigError> {
        let copy = state_directory.map(|folder| folder.join(LAST_GOOD));
        let refused = match ConfigFile::open(path) {
            Ok(file) => {
                // The folder belongs to the service.
                let rules = OutputRules { force: true, inputs: Inputs::from_iter([path]) };
                if let Some(copy) = copy
                    && fs::read_to_string(&copy).ok().as_ref() != Some(&file.text)
                    && let Err(error) = output_file::write(&copy, ResultKind::Configuration, &rules, |out| {
                        Ok(out.write_all(file.text.as_bytes())?)
                    })
                {
                    log::warn!("the configuration is not kept for later: {error:#}");
                }
                return Ok(file);
            }
            Err(refused) => refused,
        };
        match copy.as_deref().map(ConfigFile::open) {
            Some(Ok(file)) => {
                log::error!("{refused}");
                log::error!("the last good configuration is used instead; check the file with `faceptor config check`");
                Ok(file)
            }
            _ => Err(refused),
        }
    }

    /// Returns the value of an option that is set once.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        let texts = self.options.iter().filter_map(|text| text.to_str());
        texts.filter_map(|text| text.strip_prefix("--")?.strip_prefix(option)?.strip_prefix('=')).next_back()
    }

    /// Returns the options, as the command line would have them.
    pub(crate) fn options(&self) -> &[OsString] {
        &self.options
    }
}

/// Returns the arguments with the options of `--config FILE` of `run` put before the command line's own.
///
/// # Errors
/// When the configuration is refused.
pub(crate) fn expand(arguments: Vec<OsString>, state_directory: Option<&Path>) -> Result<Vec<OsString>, ConfigError> {
    let verb = arguments.iter().skip(1).position(|argument| !argument.to_string_lossy().starts_with('-'));
    let Some(at) = verb.map(|at| at + 1).filter(|at| arguments[*at] == "run") else { return Ok(arguments) };
    let prefix = format!("--{OPTION}=");
    let own = &arguments[at + 1..];
    let named = own.iter().enumerate().find_map(|(i, argument)| match argument.to_str() {
        Some(text) if text == &prefix[..prefix.len() - 1] => own.get(i + 1).map(PathBuf::from),
        Some(text) => text.strip_prefix(&prefix).map(PathBuf::from),
        None => None,
    });
    let Some(path) = named else { return Ok(arguments) };
    let file = ConfigFile::open_for_run(&path, state_directory)?;
    // Other options of the command line replace those of the file; those that are given several times would be added.
    let command = command();
    let repeated = command.get_arguments().filter(|argument| matches!(argument.get_action(), ArgAction::Append));
    let repeated: Vec<String> =
        repeated.filter_map(|argument| argument.get_long()).map(|name| format!("--{name}")).collect();
    let is_of = |argument: &OsString, option: &str| {
        let text = argument.to_string_lossy();
        text.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let is_replaced = |option: &OsString| {
        repeated.iter().any(|name| is_of(option, name) && own.iter().any(|argument| is_of(argument, name)))
    };
    let mut expanded = arguments[..=at].to_vec();
    expanded.extend(file.options().iter().filter(|option| !is_replaced(option)).cloned());
    expanded.extend_from_slice(own);
    Ok(expanded)
}

/// Returns the definition of the options of `run`.
pub(crate) fn command() -> Command {
    RunArguments::augment_args(Command::new("run").no_binary_name(true))
}

/// Makes options of a configuration. An error has its line, from 1, and the reason.
fn options_of(text: &str) -> Result<Vec<OsString>, (usize, String)> {
    let line_of = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let entries: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        (line, error.message().to_owned())
    })?;
    let command = command();
    let mut lines = BTreeMap::new();
    let mut options = Vec::new();
    for (key, value) in entries {
        let line = line_of(key.span().start);
        let name = key.get_ref().replace('_', "-");
        let known = command.get_arguments().find(|argument| argument.get_long() == Some(&name) && name != OPTION);
        let Some(argument) = known else { return Err((line, unknown(key.get_ref(), &name, &command))) };
        lines.insert(name.clone(), line);
        let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
        let value_is_optional = argument.get_num_args().is_some_and(|range| range.min_values() == 0);
        let option = match value.into_inner() {
            Value::Boolean(true) if is_flag || value_is_optional => format!("--{name}"),
            Value::Boolean(false) if is_flag || value_is_optional => continue,
            _ if is_flag => return Err((line, format!("{name} must be true or false"))),
            // Each value is an option of its own: a source may contain a comma.
            Value::Array(values) if matches!(argument.get_action(), ArgAction::Append) => {
                let Some((last, others)) = values.split_last() else {
                    return Err((line, format!("{name} must not be an empty list")));
                };
                for value in others {
                    let Value::String(text) = value else {
                        return Err((line, format!("{name} must be a list of strings")));
                    };
                    options.push(OsString::from(format!("--{name}={text}")));
                }
                let Value::String(text) = last else { return Err((line, format!("{name} must be a list of strings"))) };
                format!("--{name}={text}")
            }
            value => match scalar(&value) {
                Some(text) => format!("--{name}={text}"),
                None => return Err((line, format!("{name} must be a string, a number, or a list of strings"))),
            },
        };
        options.push(OsString::from(option));
    }
    match command.try_get_matches_from(&options) {
        Ok(matches) => {
            let sources = matches.get_many::<String>("sources").into_iter().flatten().cloned().collect::<Vec<_>>();
            let line = lines.get("source").copied().unwrap_or(1);
            source_names::parse(&sources).map_err(|error| (line, error.to_string()))?;
            Ok(options)
        }
        Err(error) => Err(refusal(&error, &lines)),
    }
}

/// Returns a value as the text of an option; a list becomes names separated by commas.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Array(names) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            names.map(|names| if names.is_empty() { "none".to_owned() } else { names.join(",") })
        }
        _ => None,
    }
}

/// Describes an unknown key, with the nearest option.
fn unknown(key: &str, name: &str, command: &Command) -> String {
    let options = command.get_arguments().filter_map(|argument| argument.get_long()).filter(|long| *long != OPTION);
    // The one measure favours a common beginning, the other finds two letters that traded places. Their sum chooses among options
    // that both find near.
    let measures = |long| [strsim::jaro_winkler(name, long), strsim::normalized_damerau_levenshtein(name, long)];
    let nearest = options.max_by(|a, b| {
        let [a, b] = [a, b].map(|long| measures(long).iter().sum::<f64>());
        a.total_cmp(&b)
    });
    let nearest = nearest.filter(|long| measures(long).iter().any(|likeness| *likeness > 0.65));
    match nearest {
        Some(long) => format!("there is no option {key:?}: did you mean {long}?"),
        None => format!("there is no option {key:?}: `faceptor run --help` lists them"),
    }
}

/// Returns the line and the reason of what clap refuses.
fn refusal(error: &clap::Error, lines: &BTreeMap<String, usize>) -> (usize, String) {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    // clap names the option with its value: `--fps <F>`.
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let name = argument.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    let line = lines.get(&name).or(lines.values().next()).copied().unwrap_or(1);
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let reason = match (error.kind(), context(ContextKind::InvalidValue)) {
        (ErrorKind::MissingRequiredArgument, _) => format!("an option that needs {name} is set without it"),
        (_, Some(value)) => format!("{name} cannot be {value:?}{cause}"),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    (line, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    fn texts(options: &[OsString]) -> Vec<&str> {
        options.iter().map(|option| option.to_str().expect("UTF-8")).collect()
    }

    fn refused(text: &str) -> String {
        let (line, reason) = options_of(text).expect_err("is refused");
        format!("{line}: {reason}")
    }

    #[test]
    fn keys_become_options() {
        let text = "source = \"/dev/video0\"\ntasks = [\"landmarks\", \"age\"]\nbudget_ms = 12.5\njson = true\n\
                    no-smoothing = false\nmax-faces = 2\ncontrol = true\n";
        let options = options_of(text).expect("is right");
        let expected = [
            "--budget-ms=12.5",
            "--control",
            "--json",
            "--max-faces=2",
            "--source=/dev/video0",
            "--tasks=landmarks,age",
        ];
        assert_eq!(texts(&options), expected);
        assert!(options_of("").expect("an empty file").is_empty());
        let several = options_of("source = [\"/dev/video0\", \"yard=rtsp://host/a,b\"]").expect("is right");
        assert_eq!(texts(&several), ["--source=/dev/video0", "--source=yard=rtsp://host/a,b"]);
        assert_eq!(refused("json = true\nsource = []"), "2: source must not be an empty list");
        assert_eq!(refused("json = true\nsource = [\"a=demo\", \"a=b\"]").split(':').next(), Some("2"), "a name twice");
        assert_eq!(refused("source = [1, \"demo\"]"), "1: source must be a list of strings");
        assert_eq!(refused("source = [\"demo\", false]"), "1: source must be a list of strings");
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_the_nearest_option() {
        assert_eq!(refused("fsp = 20\n"), "1: there is no option \"fsp\": did you mean fps?");
        assert_eq!(
            refused("json = true\nmax-face = 2\n"),
            "2: there is no option \"max-face\": did you mean max-faces?"
        );
        assert_eq!(refused("\n\nzzz = 1"), "3: there is no option \"zzz\": `faceptor run --help` lists them");
        assert!(refused("json = true\nfps = -3\n").starts_with("2: fps cannot be \"-3\": a number above 0"));
        assert_eq!(refused("json = 3"), "1: json must be true or false");
        assert_eq!(refused("fps = true"), "1: fps must be a string, a number, or a list of strings");
        assert!(refused("json = true\nfps = = 2\n").starts_with("2: "), "{}", refused("json = true\nfps = = 2\n"));
        assert!(refused("[run]\nfps = 2\n").starts_with("1: there is no option \"run\""));
        assert!(refused("record-files = 3\n").contains("record"), "{}", refused("record-files = 3\n"));
        assert!(refused("config = \"other.toml\"\n").starts_with("1: there is no option \"config\""));
    }

    #[test]
    fn the_command_line_comes_after_the_file() {
        let folder = Folder::new();
        let path = folder.path().join("faceptor.toml");
        fs::write(&path, "tasks = \"age\"\n").expect("writable");
        let given = |option: &str| -> Vec<OsString> {
            ["faceptor", "-v", "run", option, path.to_str().expect("UTF-8"), "--tasks", "parsing"]
                .map(OsString::from)
                .to_vec()
        };
        let expanded = expand(given("--config"), None).expect("is right");
        assert_eq!(texts(&expanded)[..5], ["faceptor", "-v", "run", "--tasks=age", "--config"]);
        fs::write(&path, "source = [\"demo\", \"a.mp4\"]\nsize = \"64x48\"\n").expect("writable");
        for source in [["--source", "b.mp4"], ["--source=b.mp4", "-v"]] {
            let own = [&["faceptor", "run", "--config", path.to_str().expect("UTF-8")], &source[..]].concat();
            let expanded = expand(own.into_iter().map(OsString::from).collect(), None).expect("is right");
            assert_eq!(texts(&expanded)[2..4], ["--size=64x48", "--config"], "the sources of the file are replaced");
        }
        // Another verb has no configuration.
        let other = ["faceptor", "image", "--config", "x"].map(OsString::from).to_vec();
        assert_eq!(expand(other.clone(), None).expect("is left alone"), other);
        let missing = ["faceptor", "run", "--config=/nonexistent.toml"].map(OsString::from).to_vec();
        let error = expand(missing, None).expect_err("no such file").to_string();
        assert!(error.starts_with("/nonexistent.toml: cannot read the configuration"), "{error}");
    }

    #[test]
    fn the_last_good_file_is_used_after_a_mistake() {
        let folder = Folder::new();
        let path = folder.path().join("faceptor.toml");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("writable");
        fs::write(&path, "fps = 1x\n").expect("writable");
        assert!(ConfigFile::open_for_run(&path, Some(&state)).is_err(), "there is no copy yet");
        fs::write(&path, "fps = 15\n").expect("writable");
        assert_eq!(texts(ConfigFile::open_for_run(&path, Some(&state)).expect("is right").options()), ["--fps=15"]);
        fs::write(&path, "fsp = 20\n").expect("writable");
        assert_eq!(texts(ConfigFile::open_for_run(&path, Some(&state)).expect("the copy").options()), ["--fps=15"]);
        assert!(ConfigFile::open_for_run(&path, None).is_err(), "without a state directory there is no copy");
    }
}
