//! Updates that are killed at any step, or end in a power failure: the network before or the one after runs, whole.

use std::path::Path;

use anyhow::{Result, bail};

use crate::update::install::{Installed, NewVersion, Service, Trial, install};
use crate::update::memory_disk::MemoryDisk;
use crate::update::versions::{VersionFile, Versions};
use crate::update::{NETWORK, REFERENCE, SIGNATURE};

/// The network inside the program.
const EMBEDDED: &str = "embedded";

/// A service that runs what a start finds on the disk. The networks in these tests are their own checksums.
struct FakeService {
    disk: MemoryDisk,
    running: Option<String>,
    /// The network that does not work.
    broken: &'static str,
    /// The update under way, which the kill has ended.
    is_updating: bool,
    /// At the first start, the disk becomes full.
    fills_disk: bool,
    restarts: u32,
}

impl FakeService {
    fn new(disk: &MemoryDisk, broken: &'static str) -> FakeService {
        FakeService { disk: disk.clone(), running: None, broken, is_updating: true, fills_disk: false, restarts: 0 }
    }
}

impl Service for FakeService {
    fn restart(&mut self) -> Result<()> {
        self.restarts += 1;
        if self.fills_disk {
            self.disk.fill();
        }
        self.running = Some(started(&self.disk, self.is_updating)?);
        Ok(())
    }

    fn wait_for(&mut self, sha256: &str, frames: u64) -> Result<u64> {
        match self.running.as_deref() {
            Some(running) if running == sha256 && running != self.broken => Ok(frames),
            running => bail!("{running:?} runs"),
        }
    }
}

fn versions(disk: &MemoryDisk) -> Versions<MemoryDisk> {
    Versions::new(Path::new(""), disk.clone())
}

/// Returns the network that a loop takes which starts now. All files of its version must be whole.
fn started(disk: &MemoryDisk, is_updating: bool) -> Result<String> {
    let versions = versions(disk);
    let links = versions.links()?;
    let Some(name) = links.candidates(is_updating).first().copied() else { return Ok(EMBEDDED.to_owned()) };
    let read = |file: &str| {
        disk.read(&versions.path(name).join(file)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let Some(network) = read(NETWORK) else { bail!("{name} has no network") };
    for file in [SIGNATURE, "reference/reference.json"] {
        if read(file).as_deref() != Some(&format!("{network} {file}")) {
            bail!("{name}: {file} is not whole");
        }
    }
    Ok(network)
}

fn update(disk: &MemoryDisk, new: &str, service: &mut FakeService) -> Result<Installed> {
    let mut versions = versions(disk);
    versions.recover()?;
    let old = started(disk, false)?;
    let names = [SIGNATURE.to_owned(), format!("{REFERENCE}/reference.json")];
    let contents = names.clone().map(|name| format!("{new} {name}"));
    let mut files: Vec<VersionFile> = names.into_iter().zip(contents.iter().map(String::as_bytes)).collect();
    files.push((NETWORK.to_owned(), new.as_bytes()));
    let new = NewVersion { version: "1", sha256: new, files };
    install(&mut versions, &new, &Trial { frames: 100, old_sha256: &old }, service, |_| Ok(()))
}

const FIRST: &str = "aaaaaaaaaaaaaaaa";
const SECOND: &str = "bbbbbbbbbbbbbbbb";
const THIRD: &str = "cccccccccccccccc";

/// Disks before an update: none was ever made, one, two.
fn disks() -> Vec<(MemoryDisk, &'static str)> {
    let disk = MemoryDisk::new();
    let mut all = vec![(disk.revived(), EMBEDDED)];
    for network in [FIRST, SECOND] {
        let installed = update(&disk, network, &mut FakeService::new(&disk, "")).expect("it works");
        assert!(matches!(installed, Installed::Kept { frames: 100, .. }), "{installed:?}");
        all.push((disk.revived(), network));
    }
    all
}

/// Runs `then` with the disk after a kill at each step of an update, what ran before it, and the service.
fn each_kill(broken: &'static str, mut then: impl FnMut(&str, &MemoryDisk, &str, &FakeService)) -> u64 {
    let mut kills = 0;
    for (before, old) in disks() {
        let whole = before.revived();
        let finished = update(&whole, THIRD, &mut FakeService::new(&whole, broken)).expect("the disk works");
        assert_eq!(matches!(finished, Installed::Kept { .. }), broken != THIRD, "{finished:?}");
        assert_eq!(started(&whole, false).expect("whole"), if broken == THIRD { old } else { THIRD });
        for kill in 0..whole.steps_made() {
            let disk = before.killed_after(kill);
            let mut service = FakeService::new(&disk, broken);
            // It may be killed after its last result, while it tidies.
            let _ = update(&disk, THIRD, &mut service);
            then(&format!("{old}, {broken:?}, killed at {kill}"), &disk, old, &service);
            kills += 1;
        }
    }
    kills
}

/// Checks what starts now: the old or the new network, whole; a broken one never. Then a further update succeeds.
fn goes_on(what: &str, disk: &MemoryDisk, old: &str, broken: &'static str) {
    let found = started(disk, false).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found == old || (found == THIRD && broken != THIRD), "{what}: {found}");
    let disk = disk.revived();
    let mut service = FakeService::new(&disk, broken);
    for network in ["dddddddddddddddd", "eeeeeeeeeeeeeeee"] {
        let next = update(&disk, network, &mut service).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(matches!(next, Installed::Kept { .. }), "{what}: {next:?}");
        assert_eq!(started(&disk, false).expect("whole"), network, "{what}");
    }
    // Nothing is left of what was killed: two versions, and their links.
    assert_eq!(versions_in(&disk), 2, "{what}");
}

fn versions_in(disk: &MemoryDisk) -> usize {
    use crate::update::disk::Disk;
    let names = disk.names(Path::new("")).expect("the root");
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    names.iter().filter(|name| name.starts_with("1-")).count()
}

#[test]
fn killed_at_any_step_the_next_start_has_one_of_the_two_networks() {
    for broken in ["", THIRD] {
        let kills = each_kill(broken, |what, disk, old, _| goes_on(what, disk, old, broken));
        assert!(kills > 60, "{kills}");
    }
}

#[test]
fn a_power_failure_leaves_one_of_the_two_networks() {
    for broken in ["", THIRD] {
        each_kill(broken, |what, disk, old, _| goes_on(what, &disk.after_power_failure(), old, broken));
    }
}

#[test]
fn an_update_that_was_killed_is_taken_back_before_anything_else() {
    each_kill("", |what, disk, old, _| {
        let disk = disk.revived();
        let mut versions = versions(&disk);
        let found = started(&disk, false).expect("whole");
        let abandoned = versions.recover().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(versions.links().expect("readable").are_settled(), "{what}");
        assert_eq!(started(&disk, true).expect("whole"), found, "{what}");
        assert!(abandoned.is_none() || found == old, "{what}: {abandoned:?}");
    });
}

#[test]
fn what_does_not_run_is_taken_back_also_on_a_full_disk() {
    for fills_disk in [false, true] {
        for (disk, old) in disks() {
            let mut service = FakeService { fills_disk, ..FakeService::new(&disk, THIRD) };
            let installed = update(&disk, THIRD, &mut service).expect("the update was stored");
            let Installed::WentBack { reason, old: back } = installed else { panic!("{installed:?}") };
            assert!(reason.to_string().contains("runs"), "{reason}");
            assert_eq!(back.expect("the old one works"), 1);
            assert_eq!((service.running.as_deref(), service.restarts), (Some(old), 2));
            assert_eq!(started(&disk, false).expect("whole"), old);
        }
    }
}

#[test]
fn an_old_network_that_does_not_run_either_is_reported() {
    let (disk, _) = disks().pop().expect("three");
    let mut service = FakeService::new(&disk, "");
    service.is_updating = false;
    // The service never takes what is on trial, and then not the old one.
    let installed = update(&disk, THIRD, &mut service).expect("stored");
    assert!(matches!(installed, Installed::WentBack { old: Ok(1), .. }), "{installed:?}");
    let mut service = FakeService::new(&disk, SECOND);
    service.is_updating = false;
    let installed = update(&disk, THIRD, &mut service).expect("stored");
    assert!(matches!(installed, Installed::WentBack { old: Err(_), .. }), "{installed:?}");
}

#[test]
fn what_is_not_verified_changes_nothing() {
    for (disk, old) in disks() {
        let mut versions = versions(&disk);
        let links = versions.links().expect("readable");
        let new = NewVersion { version: "1", sha256: THIRD, files: vec![(NETWORK.to_owned(), THIRD.as_bytes())] };
        let mut service = FakeService::new(&disk, "");
        let trial = Trial { frames: 100, old_sha256: old };
        let refused = install(&mut versions, &new, &trial, &mut service, |path| bail!("{} differs", path.display()));
        assert!(format!("{:#}", refused.expect_err("refused")).contains("1-cccccccccccccccc differs"));
        assert_eq!((versions.links().expect("readable"), service.restarts), (links, 0));
        assert!(!versions_contain(&disk, "cccc"), "it is removed");
    }
}

fn versions_contain(disk: &MemoryDisk, part: &str) -> bool {
    use crate::update::disk::Disk;
    disk.names(Path::new("")).expect("the root").iter().any(|name| name.contains(part))
}
