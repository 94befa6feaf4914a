//! Finds the video nodes of the machine, and a camera whose node has disappeared.

use std::io;
use std::path::{Path, PathBuf};

use crate::capture::v4l2::backend::{CameraNode, NodeDirectory};
use crate::capture::v4l2::capability::Identity;
use crate::capture::v4l2::node::Node;
use crate::platform::device_nodes;

/// The nodes `videoN` of a folder of devices.
pub(crate) struct VideoNodes {
    folder: PathBuf,
}

impl VideoNodes {
    /// Uses the nodes of `folder`: `/dev`, or another one in tests.
    pub(crate) fn below(folder: PathBuf) -> VideoNodes {
        VideoNodes { folder }
    }

    /// Uses the nodes of `/dev`.
    pub(crate) fn of_this_machine() -> VideoNodes {
        VideoNodes::below(PathBuf::from("/dev"))
    }
}

impl NodeDirectory for VideoNodes {
    type Node = Node;

    fn paths(&self) -> Vec<PathBuf> {
        device_nodes::numbered(&self.folder, "video")
    }

    fn open(&self, path: &Path) -> io::Result<Node> {
        Node::open(path)
    }
}

/// Opens the camera that used to be at `usual`, there or under another number. Returns its present path.
///
/// # Errors
/// `NotFound` when no node is this camera; the error of opening `usual` when permission to use it is denied.
pub(crate) fn find<D: NodeDirectory>(nodes: &D, identity: &Identity, usual: &Path) -> io::Result<(PathBuf, D::Node)> {
    let denied = match nodes.open(usual) {
        Ok(node) if node.capability().identity == *identity => return Ok((usual.to_owned(), node)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(error),
        _ => None,
    };
    let opened = |path: PathBuf| nodes.open(&path).ok().map(|node| (path, node));
    let mut others: Vec<(PathBuf, D::Node)> = nodes.paths().into_iter().filter_map(opened).collect();
    let identities: Vec<&Identity> = others.iter().map(|(_, node)| &node.capability().identity).collect();
    match pick(identity, &identities) {
        Some(index) => Ok(others.swap_remove(index)),
        None => Err(denied.unwrap_or(io::ErrorKind::NotFound.into())),
    }
}

/// Returns the index of the camera itself, or of the only one of its model: it may be in another socket now.
fn pick(wanted: &Identity, others: &[&Identity]) -> Option<usize> {
    if let Some(same) = others.iter().position(|&other| other == wanted) {
        return Some(same);
    }
    let model = |identity: &Identity| (identity.driver.clone(), identity.card.clone(), identity.index);
    let mut alike = (0..others.len()).filter(|&index| model(others[index]) == model(wanted));
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
    fn cameras_are_found_again_by_bus_or_by_name() {
        let wanted = camera("Cam", "usb-1", 0);
        let (metadata, moved) = (camera("Cam", "usb-1", 1), camera("Cam", "usb-2", 0));
        let other = camera("Other", "usb-1", 0);
        assert_eq!(pick(&wanted, &[&other, &moved, &metadata, &wanted.clone()]), Some(3));
        assert_eq!(pick(&wanted, &[&other, &metadata, &moved]), Some(2));
        let twin = camera("Cam", "usb-3", 0);
        assert_eq!(pick(&wanted, &[&twin, &moved]), None, "two cameras of the same model cannot be told apart");
        assert_eq!(pick(&wanted, &[&other, &metadata]), None);
    }
}
