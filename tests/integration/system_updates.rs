//! `faceptor update system`, with stand-ins of rauc and systemctl.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::program::{Folder, Output, command, faceptor, finish};

/// A board of the image: its state, its data partition, and programs.
struct Image {
    folder: Folder,
}

impl Image {
    /// `rauc` is the script of the program.
    fn new(rauc: &str) -> Image {
        let image = Image { folder: Folder::new() };
        for folder in ["bin", "run", "data"] {
            fs::create_dir(image.folder.path().join(folder)).expect("writable");
        }
        let reboot = format!("echo \"$@\" >{}", image.folder.file("rebooted"));
        for (name, script) in [("rauc", rauc), ("systemctl", &reboot)] {
            let path = image.folder.write(
                &format!("bin/{name}"),
                format!("#!/bin/sh\ncd {}\n{script}\n", image.folder.file("")).as_bytes(),
            );
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own");
        }
        image
    }

    fn update(&self, arguments: &[&str]) -> Output {
        let (data, run) = (self.folder.file("data"), self.folder.file("run"));
        let mut update = command(&["update", "system", "--data-dir", &data, "--run-dir", &run]);
        update.args(arguments).env("PATH", format!("{}:/usr/bin:/bin", self.folder.file("bin")));
        finish(update)
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

#[test]
fn what_rauc_installs_is_tried_at_the_next_start() {
    let image = Image::new(
        "echo \"$@\" >called; [ ! -e run/allow-downgrade ] || touch permitted\necho ' 20% Checking bundle'\necho 'LastError: '",
    );
    let file = image.folder.write("new.raucb", b"bundle");
    let done = image.update(&[&file, "--no-reboot", "--json"]).expect(0);
    assert_eq!(done.json()[0], serde_json::json!({"result": "installed", "reboots": false}));
    assert!(done.err.contains("20% Checking bundle"), "{done:?}");
    assert_eq!(fs::read_to_string(image.folder.file("called")).expect("it was called"), format!("install {file}\n"));
    assert!(!image.has("rebooted") && !image.has("permitted"));
    let done = image.update(&[&format!("file://{file}"), "--allow-downgrade"]).expect(0);
    assert!(done.out.contains("the board restarts now"), "{done:?}");
    assert_eq!(fs::read_to_string(image.folder.file("rebooted")).expect("it was called"), "reboot\n");
    assert!(image.has("permitted") && !image.has("run/allow-downgrade"), "for this installation only");
}

#[test]
fn a_refusal_is_explained_and_the_board_is_not_restarted() {
    let image = Image::new("echo 'Installing failed' >&2; echo 'LastError: signature verification failed'; exit 1");
    let file = image.folder.write("new.raucb", b"bundle");
    let refused = image.update(&[&file, "--allow-downgrade"]).expect(1);
    assert!(refused.err.contains("the system that runs stays: rauc: signature verification failed"), "{refused:?}");
    fs::write(image.folder.file("run/refused"), "version 1 is older than 2\n").expect("writable");
    let refused = image.update(&[&file]).expect(1);
    assert!(refused.err.contains("version 1 is older than 2"), "{refused:?}");
    for (file, wanted) in [
        (image.folder.file("absent"), "cannot read"),
        (image.folder.file("data"), "no regular file"),
        ("/dev/zero".to_owned(), "no regular file"),
        ("ftp://host/a".to_owned(), "http, https or a file"),
    ] {
        let refused = image.update(&[&file]).expect(1);
        assert!(refused.err.contains(wanted), "{file}: {refused:?}");
    }
    assert!(!image.has("rebooted") && !image.has("run/allow-downgrade"));
    fs::remove_file(image.folder.file("bin/rauc")).expect("it is there");
    let absent = image.update(&[&file]).expect(1);
    assert!(absent.err.contains("rauc is not installed") || absent.err.contains("rauc:"), "{absent:?}");
    fs::remove_dir_all(image.folder.file("run")).expect("it is there");
    let other = image.update(&[&file]).expect(1);
    assert!(other.err.contains("this system cannot be updated as a whole"), "{other:?}");
}

#[test]
fn the_result_of_the_last_update_is_printed() {
    let image = Image::new("exit 1");
    let said = || image.update(&["--result", "--json"]).expect(0).json().remove(0);
    assert_eq!(said()["result"], "none");
    image.folder.write("data/update/result", b"2026-12-01 good: 9.0-1 runs\n");
    assert_eq!(said(), serde_json::json!({"result": "decided", "text": "2026-12-01 good: 9.0-1 runs"}));
    image.folder.write("data/update/pending", b"state=installed\n");
    assert_eq!(said()["result"], "pending");
    for wrong in [&["update", "system"][..], &["update", "system", "--result", "x"], &["update", "x", "system"]] {
        faceptor(wrong).expect(2);
    }
}
