//! Cameras and the framebuffer: whether they are there and may be used.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use v4l::capability::Flags;

use crate::doctor::{Check, Root};

/// What was found out about one node.
enum Node {
    Camera(String),
    /// A codec, an output, metadata.
    Other,
    Forbidden,
    Broken(io::Error),
}

pub fn checks(root: &Root) -> Vec<Check> {
    let nodes = nodes(&root.path("dev"), "video");
    let mut checks = vec![cameras(nodes.iter().map(|path| (path.clone(), look(path))).collect())];
    checks.extend(nodes_of_displays(root));
    checks
}

/// Device nodes whose names are a prefix and a number, by number.
fn nodes(dev: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dev) else { return Vec::new() };
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse::<u32>().ok();
    let mut found: Vec<(u32, PathBuf)> =
        entries.flatten().map(|entry| entry.path()).filter_map(|path| Some((number(&path)?, path))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn look(path: &Path) -> Node {
    if let Err(error) = open(path) {
        return match error.kind() {
            io::ErrorKind::PermissionDenied => Node::Forbidden,
            _ => Node::Broken(error),
        };
    }
    match v4l::Device::with_path(path).and_then(|device| device.query_caps()) {
        Ok(has) if has.capabilities.contains(Flags::VIDEO_CAPTURE | Flags::STREAMING) => Node::Camera(has.card),
        Ok(_) => Node::Other,
        Err(error) => Node::Broken(error),
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn cameras(nodes: Vec<(PathBuf, Node)>) -> Check {
    let (mut usable, mut forbidden, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    for (path, node) in nodes {
        match node {
            Node::Camera(card) => usable.push(format!("{} ({card})", path.display())),
            Node::Other => {}
            Node::Forbidden => forbidden.push(path.display().to_string()),
            Node::Broken(error) => broken.push(format!("{}: {error}", path.display())),
        }
    }
    let group = "add yourself to its group: `sudo usermod -aG video $USER`, then log in again; \
                 in a unit SupplementaryGroups=video";
    if !forbidden.is_empty() {
        let found = format!("no permission to use {}", forbidden.join(", "));
        // With another camera that may be used, the loop works.
        return match usable.is_empty() {
            true => Check::fail("cameras", found, group),
            false => Check::warn("cameras", format!("{}; {found}", usable.join(", ")), group),
        };
    }
    if usable.is_empty() {
        let advice = "plug one in, load its driver (`lsusb`, `dmesg`), pass /dev/videoN into a container; \
                      demo, photos, files and pipes work without";
        let found =
            if broken.is_empty() { "none".to_owned() } else { format!("none that answers: {}", broken.join("; ")) };
        return Check::warn("cameras", found, advice);
    }
    match broken.is_empty() {
        true => Check::ok("cameras", usable.join(", ")),
        false => Check::warn(
            "cameras",
            format!("{}; {}", usable.join(", "), broken.join("; ")),
            "unplug the broken one and plug it in again, and see `dmesg`",
        ),
    }
}

/// One line if there is a framebuffer.
fn nodes_of_displays(root: &Root) -> Option<Check> {
    let framebuffers = nodes(&root.path("dev"), "fb");
    let path = framebuffers.first()?;
    Some(match open(path) {
        Ok(_) => Check::ok("display", format!("{} can be drawn on", path.display())),
        Err(error) => Check::warn(
            "display",
            format!("{}: {error}", path.display()),
            "`run --display` needs it: `sudo usermod -aG video $USER`, then log in again",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::tests::Tree;

    #[test]
    fn one_usable_camera_is_enough() {
        let path = |number: u32| PathBuf::from(format!("/dev/video{number}"));
        let camera = || Node::Camera("UVC".to_owned());
        let broken = || Node::Broken(io::Error::from_raw_os_error(libc::ENODEV));
        let cases: [(Vec<Node>, State, &str); 8] = [
            (vec![], State::Warn, "none"),
            (vec![Node::Other], State::Warn, "none"),
            (vec![camera(), Node::Other], State::Ok, "/dev/video0 (UVC)"),
            (vec![Node::Forbidden], State::Fail, "no permission to use /dev/video0"),
            (vec![Node::Forbidden, broken()], State::Fail, "no permission to use /dev/video0"),
            (vec![camera(), Node::Forbidden], State::Warn, "/dev/video0 (UVC); no permission to use /dev/video1"),
            (vec![broken()], State::Warn, "none that answers: /dev/video0: No such device (os error 19)"),
            (vec![broken(), camera()], State::Warn, "/dev/video1 (UVC); /dev/video0: No such device (os error 19)"),
        ];
        for (nodes, state, found) in cases {
            let check = cameras(nodes.into_iter().enumerate().map(|(n, node)| (path(n as u32), node)).collect());
            assert_eq!((check.state, check.found.as_str()), (state, found));
            assert_eq!(check.advice.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn nodes_are_found_by_number() {
        let tree = Tree::new(&[("dev/video10", ""), ("dev/video2", ""), ("dev/videodev", ""), ("dev/fb0", "")]);
        let root = tree.root();
        let found: Vec<_> = nodes(&root.path("dev"), "video")
            .iter()
            .filter_map(|p| p.file_name()?.to_str().map(str::to_owned))
            .collect();
        assert_eq!(found, ["video2", "video10"]);
        // Ordinary files are no cameras, and that is said.
        let checks = checks(&root);
        assert!(checks[0].found.starts_with("none that answers") && checks[0].found.contains("video2"), "{checks:?}");
        assert_eq!((checks[1].check, checks[1].state), ("display", State::Ok));
    }
}
