//! Galleries that may not be written: protected files, what lies beside them, full disks and file systems for reading only.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use faceptor_test_support::skip;

use crate::gallery_place::Place;
use crate::program::{Folder, PORTRAIT, finish};

#[test]
fn a_write_protected_gallery_is_read_and_not_changed() {
    let place = Place::new();
    place.run(&["enroll", "Eileen Collins", PORTRAIT, "--threshold", "0.6"]).expect(0);
    let before = fs::read(&place.gallery).expect("readable");
    for mode in [0o400, 0o444] {
        fs::set_permissions(&place.gallery, fs::Permissions::from_mode(mode)).expect("own file");
        assert!(place.run(&["gallery", "list"]).expect(0).out.contains("Eileen Collins"));
        let changes: [&[&str]; 4] = [
            &["enroll", "Ada", PORTRAIT, "--threshold", "0.6", "--force"],
            &["gallery", "remove", "Eileen Collins"],
            &["gallery", "rename", "Eileen Collins", "E. Collins"],
            &["gallery", "rotate-key", "--new-key", &place.key],
        ];
        for change in changes {
            let run = place.run(change).expect(1);
            assert!(run.err.contains(&place.gallery) && run.err.contains("chmod u+w"), "{run:?}");
        }
    }
    fs::set_permissions(&place.gallery, fs::Permissions::from_mode(0o600)).expect("own file");
    assert_eq!(fs::read(&place.gallery).expect("readable"), before);
    // Links that others put beside it are not followed.
    let other = place.folder.write("other", b"kept");
    for suffix in [".lock", ".part"] {
        let beside = format!("{}{suffix}", place.gallery);
        let _ = fs::remove_file(&beside);
        symlink(&other, &beside).expect("a link");
        let run = place.run(&["gallery", "remove", "Eileen Collins"]).expect(1);
        assert!(run.err.contains(&beside) && run.err.contains("remove it"), "{run:?}");
        fs::remove_file(&beside).expect("still there");
    }
    assert_eq!(fs::read(&other).expect("readable"), b"kept");
    assert_eq!(fs::read(&place.gallery).expect("readable"), before);
}

/// A file system of its own, that fills and goes read-only; a folder that the account may not write in.
#[test]
fn file_systems_that_cannot_be_written_leave_the_gallery_as_it_was() {
    let may = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return skip("private mount namespaces are for root: unshare -m");
    }
    let folder = Folder::new();
    let script = r#"
        set -e
        mount -t tmpfs -o size=400k,mode=777 none "$M" && cd "$M"
        touch f && mount --bind "$F" f
        cp "$P" p.jpg && ./f gallery make-key k
        enrol() { "$@" --threshold 0.6 --force --keep-crops --key k; }
        enrol ./f enroll first p.jpg --gallery g
        sum=$(sha256sum <g)
        attempt() { echo "== $1: $("${@:2}" 2>&1) status $?"; test "$sum" = "$(sha256sum <g)"; }
        cat /dev/zero >fill 2>/dev/null || true
        attempt full enrol ./f enroll second p.jpg --gallery g
        attempt full ./f gallery rename first other --gallery g --key k
        attempt full enrol ./f enroll second p.jpg --gallery new
        attempt full ./f gallery make-key key
        rm fill
        test ! -e new && test ! -e key && test ! -e g.part
        mount -o remount,ro "$M"
        attempt ro enrol ./f enroll second p.jpg --gallery g
        attempt ro ./f gallery remove first --gallery g --key k
        attempt ro enrol ./f enroll second p.jpg --gallery new
        ./f gallery list --gallery g --key k
        mount -o remount,rw "$M"
        chown 65534 k g && chmod 555 "$M"
        as="setpriv --reuid 65534 --regid 65534 --clear-groups"
        attempt folder $as ./f gallery remove first --gallery g --key k
        attempt folder enrol $as ./f enroll second p.jpg --gallery new
        chown 0 g
        attempt file $as ./f gallery list --gallery g --key k
        chown 0 k && chmod 777 "$M"
        enrol ./f enroll second p.jpg --gallery g
        ./f gallery verify --gallery g --key k
    "#;
    let mut shell = Command::new("unshare");
    shell.args(["-m", "bash", "-c", script]).env("F", env!("CARGO_BIN_EXE_faceptor"));
    shell.env("M", folder.path()).env("P", PORTRAIT);
    let run = finish(shell).expect(0);
    let attempts: Vec<&str> = run.out.split("== ").skip(1).collect();
    let expected = [
        ["full: ", "g: cannot write the gallery", "make room"],
        ["full: ", "g: cannot write the gallery", "make room"],
        ["full: ", "new: cannot", "make room"],
        ["full: ", "the key key", "No space left"],
        ["ro: ", "g: cannot write beside the gallery", "mount its file system for writing"],
        ["ro: ", "g: cannot write beside the gallery", "mount its file system for writing"],
        ["ro: ", "new: cannot make the gallery", "mount its file system for writing"],
        ["folder: ", "g: cannot write", "write in its folder"],
        ["folder: ", "new: cannot make the gallery", "write in its folder"],
        ["file: ", "g: cannot read the gallery", "give this account the right"],
    ];
    assert_eq!(attempts.len(), expected.len(), "{run:?}");
    for (attempt, expected) in attempts.iter().zip(expected) {
        assert!(attempt.starts_with(expected[0]) && attempt.contains("status 1"), "{attempt}");
        assert!(expected.iter().all(|part| attempt.contains(part)), "{attempt} {expected:?}");
    }
    assert!(run.out.trim_end().contains("intact: 2 people"), "{run:?}");
}
