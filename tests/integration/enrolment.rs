//! `faceptor enroll` while something happens to it: killed at many moments, and interrupted while it asks for a passphrase.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{Folder, PATIENCE, PORTRAIT, command, faceptor, finish, wait_until};

#[test]
fn killed_at_any_moment_the_gallery_has_the_state_before_or_after() {
    let folder = Folder::new();
    let (gallery, key) = (folder.file("people.gallery"), folder.file("key"));
    faceptor(&["gallery", "make-key", &key]).expect(0);
    let place = ["--gallery", gallery.as_str(), "--key", key.as_str()];
    let enrol = |name: &str| {
        let how = ["enroll", name, PORTRAIT, "--threshold", "0.6", "--force", "--quiet"];
        let mut enrol = command(&[&how[..], &place].concat());
        enrol.stdout(Stdio::null()).stderr(Stdio::null());
        enrol
    };
    let people = || {
        let list = faceptor(&[&["gallery", "list", "--json"][..], &place].concat()).expect(0).json().remove(0);
        list["people"].as_array().expect("a list").len()
    };
    let begun = Instant::now();
    assert!(finish(enrol("first")).status == Some(0));
    let whole = begun.elapsed();
    let mut known = people();
    let (mut before, mut after) = (0, 0);
    for moment in 0..16u32 {
        let length = fs::metadata(&gallery).expect("there").len();
        let mut child = enrol(&format!("person {moment}")).spawn().expect("the binary can be started");
        if moment % 2 == 0 {
            // Somewhere within the whole time.
            thread::sleep(whole * moment / 14);
        } else {
            // As soon as something of the change is in the file, or a little later.
            let is_writing = || fs::metadata(&gallery).is_ok_and(|data| data.len() != length);
            while !is_writing() && child.try_wait().expect("a child").is_none() {}
            thread::sleep(Duration::from_micros(u64::from(moment) * 30));
        }
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        let now = people();
        assert!(now == known || now == known + 1, "moment {moment}: {now} people after {known}");
        before += usize::from(now == known);
        after += usize::from(now != known);
        known = now;
    }
    assert!(before > 0 && after > 0, "{before} before, {after} after");
    // A writer that was killed leaves nothing that keeps the next one out.
    assert!(finish(enrol("last")).status == Some(0));
    assert_eq!(people(), known + 1);
    faceptor(&[&["gallery", "verify"][..], &place].concat()).expect(0);
}

/// Returns a pseudo terminal: its own end, and the end of a program.
pub fn terminal() -> (File, File) {
    let (mut own, mut other) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are written, and owned by nothing else.
    unsafe {
        assert_eq!(libc::openpty(&mut own, &mut other, none, none.cast(), none.cast()), 0, "a pseudo terminal");
        (File::from_raw_fd(own), File::from_raw_fd(other))
    }
}

fn shows_what_is_typed(terminal: &File) -> bool {
    let mut settings = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the record is filled, or the test ends.
    unsafe {
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()), 0);
        settings.assume_init().c_lflag & libc::ECHO != 0
    }
}

#[test]
fn interrupted_at_the_passphrase_the_terminal_shows_again_what_is_typed() {
    let folder = Folder::new();
    let gallery = folder.file("people.gallery");
    for end in [Some(&b"\x03"[..]), Some(b"\x1c"), None] {
        let (mut own, other) = terminal();
        let mut asking =
            command(&["enroll", "Ada", PORTRAIT, "--threshold", "0.6", "--gallery", &gallery, "--passphrase"]);
        asking.env_remove("FACEPTOR_PASSPHRASE").env_remove("CREDENTIALS_DIRECTORY").env("RUST_BACKTRACE", "0");
        let end_of = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
        asking.stdin(end_of(&other)).stdout(end_of(&other)).stderr(end_of(&other));
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            asking.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                // No memory image of a program that SIGQUIT ends.
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &none);
                Ok(())
            });
        }
        assert!(shows_what_is_typed(&other));
        let mut child = asking.spawn().expect("the binary can be started");
        let mut prompt = Vec::new();
        let mut byte = [0];
        while !prompt.ends_with(b"Passphrase: ") {
            own.read_exact(&mut byte).expect("the program asks");
            prompt.push(byte[0]);
        }
        wait_until("the terminal is silent", || !shows_what_is_typed(&other));
        let expected = match end {
            Some(key) => {
                own.write_all(key).expect("typed");
                if key == b"\x03" { libc::SIGINT } else { libc::SIGQUIT }
            }
            None => {
                // SAFETY: no pointers; the child has not been waited for, so the number is still its own.
                assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) }, 0);
                libc::SIGTERM
            }
        };
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(Instant::now() < until, "it does not end"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.signal(), Some(expected));
        assert!(shows_what_is_typed(&other), "after signal {expected}");
    }
    assert!(!fs::exists(&gallery).expect("readable"));
}
