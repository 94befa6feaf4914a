//! Which cameras there are, and which of them is the one that went away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::capture::v4l2::node::{Identity, Node};

/// Every `/dev/videoN`, by number.
pub fn nodes() -> Vec<PathBuf> {
    nodes_in(Path::new("/dev"))
}

fn nodes_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("video")?.parse::<u32>().ok();
    let mut nodes: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((number(&path)?, path))
        })
        .collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

/// Opens the camera that was at `usual`: there, or under another number.
///
/// # Errors
/// `NotFound` when no node is it; the error of opening when its own node cannot be opened.
pub fn find(identity: &Identity, usual: &Path) -> io::Result<(PathBuf, Node)> {
    let denied = match Node::open(usual) {
        Ok(node) if node.identity() == identity => return Ok((usual.to_owned(), node)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(error),
        _ => None,
    };
    let opened = |path: PathBuf| Node::open(&path).ok().map(|node| (path, node));
    let mut others: Vec<(PathBuf, Node)> = nodes().into_iter().filter_map(opened).collect();
    let identities: Vec<&Identity> = others.iter().map(|(_, node)| node.identity()).collect();
    match pick(identity, &identities) {
        Some(index) => Ok(others.swap_remove(index)),
        None => Err(denied.unwrap_or(io::ErrorKind::NotFound.into())),
    }
}

/// The camera itself, or else (plugged into another socket) the only one of its kind.
fn pick(wanted: &Identity, others: &[&Identity]) -> Option<usize> {
    if let Some(same) = others.iter().position(|&other| other == wanted) {
        return Some(same);
    }
    let kind = |identity: &Identity| (identity.driver.clone(), identity.card.clone(), identity.index);
    let mut alike = (0..others.len()).filter(|&index| kind(others[index]) == kind(wanted));
    let first = alike.next();
    first.filter(|_| alike.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(card: &str, bus: &str, index: u32) -> Identity {
        Identity { driver: "uvcvideo".to_owned(), card: card.to_owned(), bus: bus.to_owned(), index }
    }

    #[test]
    fn a_camera_is_found_again_by_its_bus_and_else_by_its_name() {
        let wanted = camera("Cam", "usb-1", 0);
        let (metadata, moved) = (camera("Cam", "usb-1", 1), camera("Cam", "usb-2", 0));
        let other = camera("Other", "usb-1", 0);
        assert_eq!(pick(&wanted, &[&other, &moved, &metadata, &wanted.clone()]), Some(3));
        assert_eq!(pick(&wanted, &[&other, &metadata, &moved]), Some(2));
        let twin = camera("Cam", "usb-3", 0);
        assert_eq!(pick(&wanted, &[&twin, &moved]), None, "which of two alike it is cannot be told");
        assert_eq!(pick(&wanted, &[&other, &metadata]), None);
    }

    #[test]
    fn nodes_are_sorted_by_number() -> io::Result<()> {
        let root = crate::scratch::Folder::new()?;
        for name in ["video10", "video2", "videodev", "v4l-subdev0", "video0"] {
            fs::write(root.path().join(name), b"")?;
        }
        let names: Vec<PathBuf> = ["video0", "video2", "video10"].map(|name| root.path().join(name)).to_vec();
        assert_eq!(nodes_in(root.path()), names);
        assert!(nodes_in(&root.path().join("missing")).is_empty());
        Ok(())
    }
}
