//! The commented example of a configuration file, made from the definition of `run`: the packages install it.

use clap::{Arg, ArgAction};

use crate::cli::config_file;

/// Longest line of the example.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of `faceptor run`: the services faceptor.service and faceptor@.service read it.
#
# A key is a long option of `faceptor run` (faceptor-run(1)); a list stands for names separated by commas, or for several sources.
# After a change:
#
#     faceptor config check && systemctl restart faceptor
#
# With a mistake in this file a service goes on with the last good one and reports the line (journalctl -u faceptor).
# A service can write below /var/lib/faceptor and /run/faceptor only. faceptor@NAME.service sets source, record and control
# itself: /dev/NAME, /var/lib/faceptor/NAME/faces.jsonl and /run/faceptor/NAME.sock.
";

/// Options that are set in the example, with their values.
const SET: [(&str, &str); 4] = [
    ("source", "\"/dev/video0\""),
    ("bundles", "\"/var/lib/faceptor-bundles\""),
    ("record", "\"/var/lib/faceptor/faces.jsonl\""),
    ("control", "\"/run/faceptor/faceptor.sock\""),
];

/// Values of options without a default, which stand in comments.
const VALUES: [(&str, &str); 17] = [
    ("fps", "15"),
    ("size", "\"1280x720\""),
    ("format", "\"mjpg\""),
    ("tasks", "[\"landmarks\", \"age\", \"attributes\"]"),
    ("model", "\"/etc/faceptor/my.bundle\""),
    ("budget-ms", "25"),
    ("out", "\"/var/lib/faceptor/last.png\""),
    ("display", "\"fb:/dev/fb0\""),
    ("preview", "\"127.0.0.1:8080\""),
    ("threshold", "0.5"),
    ("record-video", "\"/var/lib/faceptor/faces.mkv\""),
    ("video", "\"-\""),
    ("metrics", "\"127.0.0.1:9464\""),
    ("mqtt", "\"mqtt://127.0.0.1/faceptor\""),
    ("tls-ca", "\"/etc/faceptor/ca.pem\""),
    ("blur", "\"all\""),
    ("verify-key", "\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\""),
];

/// Returns a configuration file with every option of `run`, explained. Most stand in comments, with their default or an example.
pub fn example_configuration() -> String {
    let mut text = HEAD.to_owned();
    for argument in config_file::command().get_arguments() {
        let Some(name) = argument.get_long().filter(|name| *name != config_file::OPTION) else { continue };
        text.push('\n');
        for line in wrapped(&explanation(argument)) {
            text += &format!("# {line}\n");
        }
        let set = SET.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
        let mark = if set.is_some() { "" } else { "# " };
        text += &format!("{mark}{name} = {}\n", set.map_or_else(|| example(name, argument), str::to_owned));
    }
    text
}

/// Returns the help of an option. A default is shown as its value.
fn explanation(argument: &Arg) -> String {
    argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default()
}

/// Returns the value that an option has in its comment, as TOML.
fn example(name: &str, argument: &Arg) -> String {
    if let Some((_, value)) = VALUES.iter().find(|(of, _)| *of == name) {
        return (*value).to_owned();
    }
    let quoted = |text: &str| format!("\"{text}\"");
    let default = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let value_name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match default {
        _ if matches!(argument.get_action(), ArgAction::SetTrue) => "true".to_owned(),
        Some(number) if number.parse::<f64>().is_ok() => number,
        Some(text) => quoted(&text),
        None => match value_name {
            "N" => "1".to_owned(),
            "MS" | "F" | "RATE" | "S" => "100".to_owned(),
            "ADDRESS" => quoted("127.0.0.1:8080"),
            "URL" => quoted("http://127.0.0.1:8080"),
            _ => quoted(&format!("/var/lib/faceptor/{name}")),
        },
    }
}

/// Divides a text into lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > WIDTH) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config_file::ConfigFile;
    use faceptor_test_support::Folder;
    use std::fs;

    #[test]
    fn every_option_is_explained_and_its_value_accepted() {
        let folder = Folder::new();
        let path = folder.path().join("faceptor.toml");
        let text = example_configuration();
        fs::write(&path, &text).expect("writable");
        let installed = ConfigFile::open(&path).expect("the example as it is installed");
        assert_eq!(installed.options().len(), SET.len());
        // Each option alone, with those that are set: the value in its comment is one that the option takes.
        for argument in config_file::command().get_arguments() {
            let Some(name) = argument.get_long().filter(|name| *name != config_file::OPTION) else { continue };
            let key = format!("{name} = ");
            let at = |line: &str| line.trim_start_matches("# ").starts_with(&key);
            let place = text.lines().position(at).unwrap_or_else(|| panic!("--{name} is missing"));
            let before = text.lines().nth(place - 1).unwrap_or_default();
            assert!(before.len() > 2 && before.starts_with("# "), "--{name} is not explained");
            // An option that needs another is set with it.
            let mut chosen = vec![name.to_owned()];
            let refused = loop {
                let is_chosen = |line: &str| chosen.iter().any(|name| line.starts_with(&format!("# {name} = ")));
                let with: Vec<&str> =
                    text.lines().map(|line| if is_chosen(line) { &line[2..] } else { line }).collect();
                fs::write(&path, with.join("\n")).expect("writable");
                let Err(error) = ConfigFile::open(&path) else { break None };
                let error = error.to_string();
                let needed = error.split_once("an option that needs ").and_then(|(_, rest)| rest.split(' ').next());
                match needed.filter(|needed| !chosen.iter().any(|name| name == needed)) {
                    Some(needed) => chosen.push(needed.to_owned()),
                    None => break Some(error),
                }
            };
            if let Some(error) = refused {
                panic!("--{name}: give it a value in VALUES of src/cli/config_example.rs: {error}");
            }
        }
        assert!(text.lines().all(|line| line.len() <= 130), "a line is too long");
    }
}
