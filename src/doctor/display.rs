//! Checks whether the framebuffer may be used.

use std::fs::OpenOptions;

use crate::doctor::check::{Check, Root};
use crate::platform::device_nodes;

/// Reports the first framebuffer; `None` when there is none.
pub(crate) fn check(root: &Root) -> Option<Check> {
    let framebuffers = device_nodes::numbered(&root.path("dev"), "fb");
    let path = framebuffers.first()?;
    Some(match OpenOptions::new().read(true).write(true).open(path) {
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
    use crate::doctor::check::State;
    use crate::doctor::check::samples::Tree;

    #[test]
    fn framebuffer_is_reported_where_there_is_one() {
        assert!(check(&Tree::new(&[("dev/video0", "")]).root()).is_none());
        let check = check(&Tree::new(&[("dev/fb0", "")]).root()).expect("a framebuffer");
        assert_eq!((check.check, check.state), ("display", State::Ok));
    }
}
