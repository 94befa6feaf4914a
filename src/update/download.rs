//! Fetches the file of an update: by curl from a web server, or from a path.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};

use faceptor_nn::bundle::hexadecimal;

use crate::files::signature;
use crate::platform::child_process::{ChildProcess, Piped, Program};
use crate::platform::redaction;

/// Names of downloads in the folder of versions begin with it.
const PREFIX: &str = ".faceptor-download-";
/// Largest update, bytes.
const MOST_BYTES: u64 = 1 << 30;
/// Largest update of a system, bytes.
const MOST_SYSTEM_BYTES: u64 = 8 << 30;
/// Largest signature, bytes.
const MOST_SIGNATURE_BYTES: u64 = 64 << 10;
/// Longest download.
const LONGEST: Duration = Duration::from_secs(3600);
/// No clock that was set says less: the beginning of 2025, from that of 1970.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);
/// Time between two looks at the size.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where an update comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    File(PathBuf),
    /// A URL of http or https.
    Web(String),
}

impl Origin {
    /// Reads a command line's FILE or URL.
    ///
    /// # Errors
    /// When it is a URL that is not of http, https or this machine's files.
    pub(crate) fn parse(text: &str) -> Result<Origin> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Origin::File(text.into())) };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {
                ensure!(!text.chars().any(char::is_control), "the URL contains a control character");
                ensure!(!rest.is_empty() && !rest.starts_with('/'), "the URL names no host");
                Ok(Origin::Web(text.to_owned()))
            }
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                ensure!(path.starts_with('/'), "{text}: a file of this machine is file:///PATH");
                Ok(Origin::File(redaction::percent_decoded(path).into()))
            }
            _ => bail!("{}: updates come from http, https or a file", redaction::without_credentials(text)),
        }
    }

    /// Returns its name for messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Origin::File(path) => path.display().to_string(),
            Origin::Web(url) => redaction::without_credentials(url),
        }
    }
}

/// Fetches an update and its signature into `folder`, going on where an earlier attempt ended. Returns the path of the update.
///
/// # Errors
/// When curl is absent, or the server does not give them; the message has no credentials.
pub(crate) fn fetch(url: &str, folder: &Path) -> Result<PathBuf> {
    let path = place(url, folder);
    let beside = signature::path_of(&path);
    // The signature first: a server without it is not asked for a large file.
    remove(&beside);
    curl(&signature_of(url), &beside, MOST_SIGNATURE_BYTES).context("the signature of the update cannot be fetched")?;
    resume(url, &path, MOST_BYTES)?;
    Ok(path)
}

/// Fetches an update of the system, which is signed inside, as [`fetch`] does.
///
/// # Errors
/// When curl is absent, or the server does not give it; the message has no credentials.
pub(crate) fn fetch_system(url: &str, folder: &Path) -> Result<PathBuf> {
    let path = place(url, folder);
    resume(url, &path, MOST_SYSTEM_BYTES)?;
    Ok(path)
}

/// Returns the place of a download, and removes what was begun of others.
fn place(url: &str, folder: &Path) -> PathBuf {
    let digest = hexadecimal(&Sha256::digest(url.as_bytes()));
    let path = folder.join(format!("{PREFIX}{digest:.16}"));
    remove_all_but(folder, Some(&path));
    path
}

/// Fetches a file, going on where an earlier attempt ended.
fn resume(url: &str, path: &Path, most: u64) -> Result<()> {
    let had = length(path);
    let fetched = curl(url, path, most).or_else(|error| match had > 0 && length(path) <= had {
        // The server cannot go on in the middle, or had nothing more to give.
        true => {
            remove(path);
            curl(url, path, most)
        }
        false => Err(error),
    });
    fetched.context("the update cannot be fetched")
}

/// Removes all downloads in a folder. What cannot be removed stays for the next update.
pub(crate) fn remove_all(folder: &Path) {
    remove_all_but(folder, None);
}

fn remove_all_but(folder: &Path, kept: Option<&Path>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) && kept != Some(&path) {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    // Not there, or a later step reports why it cannot be written.
    let _ = fs::remove_file(path);
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |data| data.len())
}

/// Returns the URL of the signature: a query stays at the end.
fn signature_of(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    format!("{}.minisig{}", &url[..end], &url[end..])
}

/// Appends what a URL gives to a file.
fn curl(url: &str, path: &Path, most: u64) -> Result<()> {
    let program = Program {
        names: &["curl"],
        packages: "curl",
        // The URL may have a password: it comes by standard input, which `ps` does not show. No file of the user's options.
        arguments: ["--disable", "--config", "-"].map(str::to_owned).to_vec(),
        secrets: redaction::secrets_of(url),
    };
    let shown = redaction::without_credentials(url);
    log::info!("fetching {shown}");
    let mut process = ChildProcess::start(&program, Piped::Order)?;
    if let Some(mut input) = process.input() {
        // If it has ended already, its message follows.
        let _ = input.write_all(order(url, path, most).as_bytes());
    }
    let until = Instant::now() + LONGEST;
    while !process.wait_until(Instant::now() + LOOK_EVERY) {
        // A server need not say how long the file is.
        ensure!(length(path) <= most, "{shown}: more than {most} bytes come");
        ensure!(Instant::now() < until, "{shown}: not complete within an hour; the next attempt goes on from there");
    }
    match process.succeeded() {
        true => Ok(()),
        false => Err(anyhow!("{shown}: {}{}", process.last_words(), clock_advice(SystemTime::now(), url))),
    }
}

/// Returns what to do when the clock was never set: then no certificate is valid yet.
fn clock_advice(now: SystemTime, url: &str) -> &'static str {
    match now < UNIX_EPOCH + EARLIEST && url.to_ascii_lowercase().starts_with("https:") {
        true => "; the clock of this machine is not set (`date`), and https needs it",
        false => "",
    }
}

/// Returns the options of curl.
fn order(url: &str, path: &Path, most: u64) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    // What was asked for by https does not come by http.
    let protocols = if url.to_ascii_lowercase().starts_with("https:") { "=https" } else { "=http,https" };
    format!(
        "url = {}\noutput = {}\ncontinue-at = -\nfail\nlocation\nmax-redirs = 5\ngloboff\nsilent\nshow-error\n\
         proto = \"{protocols}\"\nproto-redir = \"{protocols}\"\nmax-filesize = {most}\nmax-time = {}\nconnect-timeout = 20\n\
         speed-limit = 1\nspeed-time = 60\nretry = 3\n",
        quoted(url),
        quoted(&path.to_string_lossy()),
        LONGEST.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_urls_are_distinguished() {
        let file = |path: &str| Some(Origin::File(path.into()));
        let web = |url: &str| Some(Origin::Web(url.to_owned()));
        for (text, expected) in [
            ("a.update", file("a.update")),
            ("/a b", file("/a b")),
            ("file:///a%20b", file("/a b")),
            ("FILE://localhost/a", file("/a")),
            ("https://host/a", web("https://host/a")),
            ("HTTP://host", web("HTTP://host")),
            ("file://other/a", None),
            ("ftp://host/a", None),
            ("https://", None),
            ("http:///a", None),
            ("https://host/\na", None),
        ] {
            assert_eq!(Origin::parse(text).ok(), expected, "{text}");
        }
        let refused = Origin::parse("ftp://me:geheim@host/a").expect_err("no ftp").to_string();
        assert!(!refused.contains("geheim"), "{refused}");
    }

    #[test]
    fn a_clock_at_1970_is_named_where_it_matters() {
        let [unset, set] = [UNIX_EPOCH + Duration::from_secs(90), UNIX_EPOCH + EARLIEST];
        assert!(clock_advice(unset, "HTTPS://h/a").contains("clock"));
        assert_eq!([clock_advice(unset, "http://h/a"), clock_advice(set, "https://h/a")], ["", ""]);
    }

    #[test]
    fn the_signature_lies_beside_the_update() {
        assert_eq!(signature_of("https://h/a.update"), "https://h/a.update.minisig");
        assert_eq!(signature_of("https://h/a.update?token=1"), "https://h/a.update.minisig?token=1");
    }

    #[test]
    fn a_url_gives_curl_no_further_option() {
        let order = order("https://host/a\"\\b", Path::new("/x/y"), 5);
        assert!(order.starts_with("url = \"https://host/a\\\"\\\\b\"\noutput = \"/x/y\"\n"), "{order}");
        assert!(order.contains("proto-redir = \"=https\"\n"), "{order}");
    }
}
