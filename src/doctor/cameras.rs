//! Checks whether there is a camera that may be used and has a supported format.

use std::io;

use crate::capture::v4l2::backend::NodeDirectory;
use crate::capture::v4l2::capability::Planes;
use crate::capture::v4l2::probe::{self, CameraError, Probed, ProbedCamera};
use crate::doctor::check::Check;

const GROUP_ADVICE: &str = "add yourself to its group: `sudo usermod -aG video $USER`, then log in again; \
                            in a unit SupplementaryGroups=video";
const NONE_ADVICE: &str = "plug one in, load its driver (`lsusb`, `dmesg`), pass /dev/videoN into a container; \
                           demo, photos, files and pipes work without";
const FORMAT_ADVICE: &str = "`faceptor devices` lists its formats; another program can convert its frames into a pipe: \
                             `faceptor run --source -`";
const BROKEN_ADVICE: &str = "unplug the broken one and plug it in again, and see `dmesg`";

/// Opens every node of `nodes` and reports the cameras. One usable camera is enough.
pub(crate) fn check(nodes: &impl NodeDirectory) -> Check {
    let (mut usable, mut forbidden, mut broken, mut unsupported) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut sensor_advice = None;
    for Probed { path, camera } in probe::probe_all(nodes) {
        let path = path.display();
        match camera {
            Ok(camera) => match &camera.choice {
                Ok(_) => usable.push(format!("{path} ({})", describe(&camera))),
                Err(CameraError::Sensor { command, .. }) => {
                    sensor_advice.get_or_insert_with(|| format!("`{command}` reads it"));
                    unsupported.push(format!("{path} ({}): a sensor with raw Bayer pixels", describe(&camera)));
                }
                Err(reason) => unsupported.push(format!("{path} ({}): {reason}", describe(&camera))),
            },
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => forbidden.push(path.to_string()),
            Err(error) => broken.push(format!("{path}: {error}")),
        }
    }
    if !forbidden.is_empty() {
        let found = format!("no permission to use {}", forbidden.join(", "));
        return match usable.is_empty() {
            true => Check::fail("cameras", found, GROUP_ADVICE),
            false => Check::warn("cameras", format!("{}; {found}", usable.join(", ")), GROUP_ADVICE),
        };
    }
    match (usable.is_empty(), broken.is_empty(), unsupported.is_empty()) {
        // Boards have nodes of their image processors that no program uses: unsupported ones are no reason to warn.
        (false, true, _) => Check::ok("cameras", usable.join(", ")),
        (false, false, _) => {
            Check::warn("cameras", format!("{}; {}", usable.join(", "), broken.join("; ")), BROKEN_ADVICE)
        }
        (true, _, false) => {
            unsupported.extend(broken);
            let advice = sensor_advice.unwrap_or_else(|| FORMAT_ADVICE.to_owned());
            Check::warn("cameras", format!("none that is supported: {}", unsupported.join("; ")), advice)
        }
        (true, false, true) => Check::warn("cameras", format!("none that answers: {}", broken.join("; ")), NONE_ADVICE),
        (true, true, true) => Check::warn("cameras", "none", NONE_ADVICE),
    }
}

fn describe(camera: &ProbedCamera) -> String {
    match camera.planes {
        Planes::Single => camera.identity.card.clone(),
        Planes::Multiple => format!("{}, multi-planar", camera.identity.card),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::v4l2::discovery::VideoNodes;
    use crate::capture::v4l2::fake_nodes::{FakeNode, FakeNodes};
    use crate::doctor::check::State;
    use crate::doctor::check::samples::Tree;

    #[test]
    fn one_usable_camera_is_enough() {
        let camera = || FakeNode::webcam(b"UVC");
        let other = || FakeNode::codec(b"codec");
        let forbidden = || FakeNode::failing(libc::EACCES);
        let broken = || FakeNode::failing(libc::ENODEV);
        let cases: [(Vec<FakeNode>, State, &str); 8] = [
            (vec![], State::Warn, "none"),
            (vec![other()], State::Warn, "none"),
            (vec![camera(), other()], State::Ok, "/dev/video0 (UVC)"),
            (vec![forbidden()], State::Fail, "no permission to use /dev/video0"),
            (vec![forbidden(), broken()], State::Fail, "no permission to use /dev/video0"),
            (vec![camera(), forbidden()], State::Warn, "/dev/video0 (UVC); no permission to use /dev/video1"),
            (vec![broken()], State::Warn, "none that answers: /dev/video0: No such device (os error 19)"),
            (vec![broken(), camera()], State::Warn, "/dev/video1 (UVC); /dev/video0: No such device (os error 19)"),
        ];
        for (nodes, state, found) in cases {
            let check = check(&FakeNodes::new(nodes));
            assert_eq!((check.state, check.found.as_str()), (state, found));
            assert_eq!(check.advice.is_some(), state != State::Ok);
        }
    }

    #[test]
    fn camera_with_a_broken_name_is_usable() {
        let check = check(&FakeNodes::new([FakeNode::webcam(b"Cam\xe9ra")]));
        assert_eq!((check.state, check.found.as_str()), (State::Ok, "/dev/video0 (Cam\u{fffd}ra)"));
    }

    #[test]
    fn multiplanar_camera_is_named_as_such() {
        let found = check(&FakeNodes::new([FakeNode::multiplanar(b"mainpath", &[b"NM12", b"NV12"])]));
        assert_eq!((found.state, found.found.as_str()), (State::Ok, "/dev/video0 (mainpath, multi-planar)"));
        let found = check(&FakeNodes::new([FakeNode::multiplanar(b"mainpath", &[b"NM12"])]));
        assert_eq!(found.state, State::Warn);
        assert!(found.found.starts_with("none that is supported: /dev/video0 (mainpath, multi-planar): none of its"));
        assert!(found.found.contains("gst-launch-1.0") && found.advice.is_some(), "{found:?}");
        // An unsupported node beside a usable camera is no reason to warn.
        let nodes = [FakeNode::webcam(b"UVC"), FakeNode::multiplanar(b"mainpath", &[b"NM12"])];
        let found = check(&FakeNodes::new(nodes));
        assert_eq!((found.state, found.found.as_str()), (State::Ok, "/dev/video0 (UVC)"));
    }

    #[test]
    fn raw_sensors_get_the_command_that_reads_them() {
        for (driver, expected) in
            [(b"tegra-video".as_slice(), "gst:nvarguscamerasrc"), (b"rp1-cfe", "--source libcamera")]
        {
            let found = check(&FakeNodes::new([FakeNode::sensor(driver, &[b"RG10"])]));
            assert_eq!(found.state, State::Warn);
            assert_eq!(found.found, "none that is supported: /dev/video0 (sensor): a sensor with raw Bayer pixels");
            assert!(found.advice.as_deref().is_some_and(|advice| advice.contains(expected)), "{found:?}");
        }
    }

    #[test]
    fn ordinary_files_are_not_cameras() {
        let tree = Tree::new(&[("dev/video10", ""), ("dev/video2", ""), ("dev/videodev", "")]);
        let check = check(&VideoNodes::below(tree.root().path("dev")));
        let (two, ten) = (check.found.find("video2"), check.found.find("video10"));
        assert!(check.found.starts_with("none that answers") && two < ten && two.is_some(), "{check:?}");
    }
}
