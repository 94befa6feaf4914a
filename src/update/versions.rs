//! The folder of versions and the links in it, which say what runs.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::update::disk::Disk;
use crate::update::{NETWORK, REFERENCE};

const CURRENT: &str = "current";
const GOOD: &str = "last-good";
const PREVIOUS: &str = "previous";
/// The names under which a version and a link are made, before they get their own.
const NEW_VERSION: &str = ".new-version";
const NEW_LINK: &str = ".new-link";
/// Characters of a bundle's checksum in the name of its version.
const HASH: usize = 16;
/// Longest version text in such a name.
const LONGEST: usize = 40;

/// What the links point to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub current: Option<String>,
    pub good: Option<String>,
    pub previous: Option<String>,
}

impl Links {
    /// Returns whether a link points to this version.
    fn hold(&self, name: &str) -> bool {
        [&self.current, &self.good, &self.previous].into_iter().flatten().any(|held| held == name)
    }

    /// Returns whether the current version was proven, or none was ever put in.
    pub(crate) fn are_settled(&self) -> bool {
        self.current == self.good
    }

    /// Returns the versions that a loop may run, best first. One that is on trial counts only while its update runs.
    pub(crate) fn candidates(&self, is_updating: bool) -> Vec<&str> {
        let on_trial = self.current.as_ref().filter(|_| is_updating);
        let mut names: Vec<&str> = Vec::new();
        for name in [on_trial, self.good.as_ref(), self.previous.as_ref()].into_iter().flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

/// A file of a version: its path below the version's folder, and its bytes.
pub(crate) type VersionFile<'a> = (String, &'a [u8]);

/// A folder of versions.
#[derive(Debug)]
pub(crate) struct Versions<D> {
    root: PathBuf,
    disk: D,
}

impl<D: Disk> Versions<D> {
    pub(crate) fn new(root: &Path, disk: D) -> Versions<D> {
        Versions { root: root.to_owned(), disk }
    }

    /// Returns the folder of a version.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the network of a version.
    pub(crate) fn network(&self, name: &str) -> PathBuf {
        self.path(name).join(NETWORK)
    }

    /// Reads the links.
    ///
    /// # Errors
    /// When the folder cannot be read, or one of the names is no link to a version: the folder is another program's.
    pub(crate) fn links(&self) -> io::Result<Links> {
        Ok(Links { current: self.link(CURRENT)?, good: self.link(GOOD)?, previous: self.link(PREVIOUS)? })
    }

    fn link(&self, name: &str) -> io::Result<Option<String>> {
        let path = self.root.join(name);
        let foreign = || {
            let reason = format!("{} is no link of `faceptor update`: name another folder", path.display());
            io::Error::new(ErrorKind::InvalidData, reason)
        };
        let target = match self.disk.target(&path) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(foreign()),
            target => target?,
        };
        let Some(target) = target else { return Ok(None) };
        match target.to_str().filter(|name| is_version_name(name)) {
            Some(name) => Ok(Some(name.to_owned())),
            None => Err(foreign()),
        }
    }

    /// Removes what a killed update left, and goes back to the last good version if one is on trial. Returns its name.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) fn recover(&mut self) -> io::Result<Option<String>> {
        for left in [NEW_VERSION, NEW_LINK] {
            self.disk.remove(&self.root.join(left))?;
        }
        let links = self.links()?;
        if links.are_settled() {
            return Ok(None);
        }
        self.go_back()?;
        Ok(links.current)
    }

    /// Puts a version into the folder, whole, and returns its name.
    ///
    /// # Errors
    /// When it cannot be written; then nothing of it stays.
    pub(crate) fn stage(&mut self, version: &str, sha256: &str, files: &[VersionFile]) -> io::Result<String> {
        let links = self.links()?;
        // A version that a link points to is never touched, not even to repair it.
        let base = version_name(version, sha256);
        let names = (1..10).map(|number| if number == 1 { base.clone() } else { format!("{base}.{number}") });
        let taken = || io::Error::new(ErrorKind::AlreadyExists, format!("the links point to {base} many times"));
        let name = names.into_iter().find(|name| !links.hold(name)).ok_or_else(taken)?;
        let new = self.root.join(NEW_VERSION);
        let staged = self.write_version(&new, files).and_then(|()| {
            // What no link points to may be half removed.
            self.disk.remove(&self.root.join(&name))?;
            self.disk.rename(&new, &self.root.join(&name))?;
            self.disk.flush(&self.root)
        });
        if let Err(error) = staged {
            // Nothing more can be done when this fails too: the next update removes it.
            let _ = self.disk.remove(&new);
            return Err(error);
        }
        Ok(name)
    }

    fn write_version(&mut self, new: &Path, files: &[VersionFile]) -> io::Result<()> {
        self.disk.remove(new)?;
        self.disk.make_folder(new)?;
        let reference = new.join(REFERENCE);
        if files.iter().any(|(path, _)| path.starts_with(REFERENCE)) {
            self.disk.make_folder(&reference)?;
        }
        for (path, bytes) in files {
            self.disk.write(&new.join(path), bytes)?;
        }
        if files.iter().any(|(path, _)| path.starts_with(REFERENCE)) {
            self.disk.flush(&reference)?;
        }
        self.disk.flush(new)
    }

    /// Makes a version the current one: it is on trial from now on.
    ///
    /// # Errors
    /// When the link cannot be changed.
    pub(crate) fn try_out(&mut self, name: &str) -> io::Result<()> {
        self.point(CURRENT, name)
    }

    /// Makes the current version the last good one: the update is complete.
    ///
    /// # Errors
    /// When a link cannot be changed.
    pub(crate) fn keep(&mut self, name: &str) -> io::Result<()> {
        if let Some(good) = self.link(GOOD)?.filter(|good| good != name) {
            self.point(PREVIOUS, &good)?;
        }
        self.point(GOOD, name)
    }

    /// Makes the last good version the current one again, or none if there is no such version. It works on a full disk too.
    ///
    /// # Errors
    /// When the link cannot be changed.
    pub(crate) fn go_back(&mut self) -> io::Result<()> {
        match self.link(GOOD)? {
            Some(good) if self.point(CURRENT, &good).is_ok() => Ok(()),
            // Without the link, a loop takes the last good version.
            _ => {
                self.disk.remove(&self.root.join(CURRENT))?;
                self.disk.flush(&self.root)
            }
        }
    }

    /// Removes the versions that no link points to. What cannot be removed stays for the next update.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) fn prune(&mut self) -> io::Result<()> {
        let links = self.links()?;
        for name in self.disk.names(&self.root)? {
            if is_version_name(&name) && !links.hold(&name) {
                self.disk.remove(&self.root.join(name))?;
            }
        }
        Ok(())
    }

    /// Points a link to a version in one step.
    fn point(&mut self, link: &str, name: &str) -> io::Result<()> {
        let new = self.root.join(NEW_LINK);
        self.disk.remove(&new)?;
        self.disk.link(name, &new)?;
        self.disk.rename(&new, &self.root.join(link))?;
        self.disk.flush(&self.root)
    }
}

/// Returns the name of a version: its version text and the beginning of its checksum.
fn version_name(version: &str, sha256: &str) -> String {
    let allowed = |c: char| if is_allowed(c) { c } else { '_' };
    let version: String = version.chars().take(LONGEST).map(allowed).collect();
    format!("{}-{}", version.trim_start_matches('.'), sha256.get(..HASH).unwrap_or(sha256))
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._+-".contains(c)
}

/// Returns whether this program gives such names to versions. No other file is ever removed.
fn is_version_name(name: &str) -> bool {
    let hash = name.rsplit_once('-').map(|(_, hash)| hash.split_once('.').unwrap_or((hash, "2")));
    !name.starts_with('.')
        && name.chars().all(is_allowed)
        && hash.is_some_and(|(hash, number)| {
            hash.len() == HASH
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && number.len() == 1
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::disk::FileDisk;
    use faceptor_test_support::Folder;

    const SHA: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn names_of_versions_lead_nowhere_else() {
        for (version, expected) in [
            ("0.7.0", "0.7.0-0011223344556677"),
            ("../../etc", "_.._etc-0011223344556677"),
            ("..", "-0011223344556677"),
            ("", "-0011223344556677"),
            ("a b\n\u{e9}", "a_b__-0011223344556677"),
            ("1-2", "1-2-0011223344556677"),
        ] {
            let name = version_name(version, SHA);
            assert_eq!(name, expected);
            assert!(is_version_name(&name) && is_version_name(&format!("{name}.2")), "{name}");
        }
        assert_eq!(version_name(&"9".repeat(500), SHA).len(), LONGEST + 1 + HASH);
        for foreign in
            ["", "..", "lock", "last-good", "a/b-0011223344556677", ".1-0011223344556677", "1-0011223344556677.x"]
        {
            assert!(!is_version_name(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_loop_takes_what_is_on_trial_only_while_the_update_runs() {
        let name = |text: &str| Some(text.to_owned());
        let links = Links { current: name("c"), good: name("b"), previous: name("a") };
        assert_eq!(links.candidates(true), ["c", "b", "a"]);
        assert_eq!(links.candidates(false), ["b", "a"]);
        let settled = Links { current: name("b"), good: name("b"), previous: name("b") };
        assert_eq!((settled.candidates(true), settled.candidates(false)), (vec!["b"], vec!["b"]));
        assert_eq!(Links::default().candidates(true), [""; 0]);
        let first = Links { current: name("c"), ..Links::default() };
        assert_eq!((first.candidates(true), first.candidates(false)), (vec!["c"], vec![]));
    }

    #[test]
    fn files_of_others_are_neither_followed_nor_removed() -> io::Result<()> {
        let folder = Folder::new();
        folder.write("notes", b"mine");
        folder.write("1.0/notes", b"mine");
        let mut versions = Versions::new(folder.path(), FileDisk);
        let files = [(NETWORK.to_owned(), b"network".as_slice()), ("reference/a".to_owned(), b"a")];
        let [one, two] = ["1", "2"].map(|version| versions.stage(version, SHA, &files).expect("writable"));
        versions.try_out(&two)?;
        versions.keep(&two)?;
        versions.prune()?;
        assert_eq!(folder.names(""), ["1.0", two.as_str(), "current", "last-good", "notes"]);
        assert_eq!(folder.names(&two), [NETWORK, REFERENCE]);
        assert!(!versions.path(&one).exists());
        // A version in use is not replaced, not even by itself.
        assert_eq!(versions.stage("2", SHA, &files)?, format!("{two}.2"));
        for foreign in ["/etc", "../x", "notes"] {
            versions.disk.remove(&folder.path().join(CURRENT))?;
            versions.disk.link(foreign, &folder.path().join(CURRENT))?;
            assert!(versions.links().expect_err(foreign).to_string().contains("is no link of `faceptor update`"));
        }
        versions.disk.remove(&folder.path().join(CURRENT))?;
        folder.write("current/x", b"a folder");
        assert!(versions.recover().expect_err("a folder").to_string().contains("name another folder"));
        Ok(())
    }
}
