//! Files that the program writes: what is replaced, what never is, and where a device or a link stays what it is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use faceptor_test_support::skip;
use serde_json::Value;

use crate::control::Run;
use crate::pictures::{gradient, jpeg, png};
use crate::program::{Folder, Output, PORTRAIT, command, faceptor, finish};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Photos without a face, which take the least time.
fn plain() -> Vec<u8> {
    jpeg(&gradient(64, 48))
}

/// Runs `image --json --tasks none`.
fn image(arguments: &[&str]) -> Output {
    faceptor(&[&["image", "--json", "--tasks", "none"], arguments].concat())
}

/// Returns the annotated pictures that the lines name, by photo; each must exist.
fn annotated(run: &Output) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a path").to_owned();
    let pairs: Vec<_> = run.json().iter().map(|line| (text(&line["path"]), text(&line["annotated"]))).collect();
    assert!(pairs.iter().all(|(_, png)| fs::read(png).expect("it exists").starts_with(PNG)), "{pairs:?}");
    pairs
}

#[test]
fn a_folder_of_photos_and_results_gives_the_same_again_and_again() {
    let folder = Folder::new();
    for name in ["d/trip.jpg", "d/below/trip.jpeg", "d/b.JPG"] {
        folder.write(name, &plain());
    }
    folder.write("d/trip.png", &png(gradient(40, 30)));
    let here = folder.file("d");
    let first = annotated(&image(&["--out", &here, &here]).expect(0));
    assert_eq!(first.len(), 4);
    let names = folder.names("d");
    let photo = fs::read(folder.file("d/trip.png")).expect("a photo");
    for _ in 0..3 {
        assert_eq!(annotated(&image(&["--out", &here, &here]).expect(0)), first);
        assert_eq!(folder.names("d"), names);
    }
    assert_eq!(fs::read(folder.file("d/trip.png")).expect("a photo"), photo);
    // The same when everything is moved, or the photos are named in another way.
    fs::rename(folder.file("d"), folder.file("e")).expect("renamed");
    let there = folder.file("e");
    image(&["--out", &there, &format!("{there}/../e")]).expect(0);
    assert_eq!(folder.names("e"), names);
    // `run` and `reference` pass over results too; a result that is named is read.
    let run = faceptor(&["run", "--source", &there, "--json", "--tasks", "none"]).expect(0);
    assert_eq!(run.json().len(), 4);
    let own = folder.file("e/b.png");
    assert_eq!(image(&[&own]).expect(0).json().len(), 1);
    let out = annotated(&image(&["--out", &there, &own]).expect(0));
    assert_ne!(out[0].1, own, "not over its input");
    fs::create_dir(folder.file("results")).expect("a folder");
    fs::rename(&own, folder.file("results/b.png")).expect("renamed");
    let run = image(&[&folder.file("results")]).expect(1);
    assert!(run.line_about("results").contains("only pictures that faceptor wrote"), "{}", run.err);
}

#[test]
fn pictures_of_others_are_overwritten_on_request_only() {
    let folder = Folder::new();
    let photo = folder.write("d/trip.jpg", &plain());
    let other = folder.write("d/trip.png", &png(gradient(40, 30)));
    let before = fs::read(&other).expect("a picture");
    let here = folder.file("d");
    for _ in 0..2 {
        let out = annotated(&image(&["--out", &here, &photo]).expect(0));
        assert_eq!(out, [(photo.clone(), folder.file("d/trip-2.png"))]);
    }
    assert_eq!(fs::read(&other).expect("a picture"), before);
    // As inputs they are not overwritten even then.
    image(&["--force", "--out", &here, &photo, &other]).expect(0);
    assert_eq!(fs::read(&other).expect("a picture"), before);
    assert_eq!(annotated(&image(&["--force", "--out", &here, &photo]).expect(0)), [(photo, other)]);
}

#[test]
fn commands_that_write_into_one_folder_at_once_keep_every_result() {
    let folder = Folder::new();
    let out = folder.file("out");
    let photos: Vec<String> = (0..6).map(|n| folder.write(&format!("{n}/a.jpg"), &plain())).collect();
    let mut seen = BTreeSet::new();
    for round in 0..2 {
        let start = |photo: &String| {
            let mut command = command(&["image", "--json", "--tasks", "none", "--out", &out, photo]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let running: Vec<_> = photos.iter().map(start).collect();
        for child in running {
            let ended = child.wait_with_output().expect("it ends");
            let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
            let ended = Output { status: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) };
            seen.extend(annotated(&ended.expect(0)));
        }
        assert_eq!(seen.len(), photos.len(), "round {round}: {seen:?}");
    }
    let files: BTreeSet<&String> = seen.iter().map(|(_, png)| png).collect();
    assert_eq!((files.len(), folder.names("out").len()), (photos.len(), photos.len()), "{seen:?}");
}

#[test]
fn no_output_replaces_an_input_or_a_file_of_others() {
    let folder = Folder::new();
    let photo = folder.write("p.jpg", &plain());
    let [link, hard, text] = ["link.png", "hard.png", "notes.txt"].map(|name| folder.file(name));
    symlink("p.jpg", &link).expect("a link");
    fs::hard_link(&photo, &hard).expect("a link");
    folder.write("notes.txt", b"mine");
    folder.write("d/a.jpg", &plain());
    let inside = folder.file("d/a.jpg");
    let run = |source: &str, out: &str, more: &[&str]| {
        faceptor(&[&["run", "--tasks", "none", "--source", source, "--out", out], more].concat())
    };
    for (source, out) in [(&photo, &photo), (&photo, &link), (&photo, &hard), (&folder.file("d"), &inside)] {
        for force in [&[][..], &["--force"]] {
            let ended = run(source, out, force).expect(1);
            assert!(ended.err.contains("it is an input of this command"), "{}", ended.err);
            assert!(ended.out.is_empty(), "reported before the work: {}", ended.out);
        }
    }
    let ended = run(&photo, &text, &[]).expect(1);
    assert!(ended.err.contains("notes.txt: it exists and is not a picture written by faceptor"), "{}", ended.err);
    for record in [&photo, &text] {
        faceptor(&["run", "--tasks", "none", "--source", &photo, "--record", record]).expect(1);
    }
    faceptor(&["run", "--tasks", "none", "--source", &photo, "--record", &photo, "--force"]).expect(1);
    let model = folder.write("m.bundle", b"FACEPTOR but not a bundle");
    let config = folder.write("c.toml", b"frames = 1\n");
    let part = folder.write("export/encoder.onnx", b"weights");
    for (option, input, out) in
        [("--model", &model, &model), ("--model", &folder.file("export"), &part), ("--config", &config, &config)]
    {
        let before = fs::read(out).expect("an input");
        let ended = faceptor(&["run", option, input, "--out", out, "--force"]).expect(1);
        assert!(ended.err.contains("it is an input"), "{}", ended.err);
        assert_eq!(fs::read(out).expect("an input"), before);
    }
    assert!([&photo, &link, &hard, &inside].iter().all(|path| fs::read(path).expect("untouched") == plain()));
    assert_eq!(fs::read(&text).expect("untouched"), b"mine");
    // What the program wrote is replaced, and everything else on request.
    for (out, force) in [("new.png", &[][..]), ("new.png", &[]), ("notes.txt", &["--force"])] {
        run(&photo, &folder.file(out), force).expect(0);
        assert!(fs::read(folder.file(out)).expect("written").starts_with(PNG));
    }
}

#[test]
fn an_export_folder_is_not_overwritten_by_its_bundle() {
    let folder = Folder::new();
    let [network, manifest] = [("encoder.onnx", "weights"), ("manifest.toml", "name = \"mine\"")]
        .map(|(name, text)| folder.write(&format!("d/{name}"), text.as_bytes()));
    for out in [&network, &manifest] {
        for force in [&[][..], &["--force"]] {
            let before = fs::read(out).expect("an input");
            let run = faceptor(&[&["compile", &folder.file("d"), "--out", out], force].concat()).expect(1);
            assert!(run.err.contains("it is an input of this command"), "{}", run.err);
            assert_eq!(fs::read(out).expect("an input"), before);
        }
    }
    let other = folder.write("thesis.pdf", b"mine");
    let run = faceptor(&["compile", &folder.file("d"), "--out", &other]).expect(1);
    assert!(run.err.contains("it exists and is not a bundle written by faceptor"), "{}", run.err);
}

#[test]
fn reports_replace_reports_only() {
    let folder = Folder::new();
    let [report, svg, text] = ["r.json", "p.svg", "t"].map(|name| folder.file(name));
    let bench =
        |more: &[&str]| faceptor(&[&["bench", "--tasks", "none", "--frames", "2", "--warm-up", "1"], more].concat());
    for _ in 0..2 {
        bench(&["--json", &report]).expect(0);
    }
    let profile = ["bench", "--tasks", "age", "--frames", "2", "--warm-up", "1", "--profile", &svg, "--json"];
    for _ in 0..2 {
        faceptor(&[&profile[..], &[&report]].concat()).expect(0);
    }
    fs::write(&text, "{\"mine\": 1}").expect("written");
    for wrong in [["--json", &text], ["--json", &svg], ["--json", folder.path().to_str().expect("UTF-8")]] {
        let run = bench(&wrong).expect(1);
        assert!(run.out.is_empty() && run.err.contains("cannot write"), "before minutes are spent: {run:?}");
    }
    assert_eq!(fs::read_to_string(&text).expect("untouched"), "{\"mine\": 1}");
    bench(&["--json", &report, "--force"]).expect(0);
    let run = bench(&["--json", &report, "--reference", &report, "--force"]).expect(1);
    assert!(run.err.contains("it is an input"), "{}", run.err);
    bench(&["--json", &text, "--force"]).expect(0);
    // A report that cannot be written costs its file only.
    let run = bench(&["--json", "/dev/full"]).expect(1);
    assert!(run.out.contains("p99") && run.err.contains("No space left"), "{run:?}");
}

#[test]
fn snapshots_replace_snapshots_only() {
    let folder = Folder::new();
    let photo = folder.write("p.jpg", &plain());
    let notes = folder.write("notes.txt", b"mine");
    let run = Run::with(folder, &["--fps", "30", "--frames", "1000000", "--json", "--tasks", "none"], true);
    let file = |name: &str| run.folder.file(name);
    for _ in 0..2 {
        run.ctl(&["snapshot", &file("a.png")]).expect(0);
    }
    let refused = run.ctl(&["snapshot", &notes]).expect(1);
    assert!(refused.err.contains("is not a picture written by faceptor"), "{}", refused.err);
    assert_eq!(fs::read(&notes).expect("untouched"), b"mine");
    run.ctl(&["snapshot", &notes, "--force"]).expect(0);
    assert!(fs::read(&notes).expect("written").starts_with(PNG));
    symlink("a.png", file("link.png")).expect("a link");
    run.ctl(&["snapshot", &file("link.png")]).expect(0);
    assert!(fs::symlink_metadata(file("link.png")).expect("it is there").is_symlink());
    run.ctl(&["quit"]).expect(0);
    let (ended, folder) = run.end();
    ended.expect(0);
    // The photos that a loop shows are its inputs.
    let arguments = ["--source", &photo, "--fps", "30", "--frames", "1000000", "--json", "--tasks", "none"];
    let run = Run::with(folder, &arguments, true);
    let refused = run.ctl(&["snapshot", &photo, "--force"]).expect(1);
    assert!(refused.err.contains("it is an input"), "{}", refused.err);
    run.ctl(&["quit"]).expect(0);
    assert_eq!(fs::read(&photo).expect("untouched"), plain());
}

#[test]
fn links_are_followed_and_permissions_kept() {
    let folder = Folder::new();
    let (real, link) = (folder.file("real.png"), folder.file("link.png"));
    symlink("real.png", &link).expect("a link");
    for mode in [None, Some(0o600), Some(0o444)] {
        if let Some(mode) = mode {
            fs::set_permissions(&real, PermissionsExt::from_mode(mode)).expect("its own file");
        }
        let before = fs::metadata(&real).ok().map(|data| data.ino());
        faceptor(&["run", "--frames", "1", "--tasks", "none", "--out", &link]).expect(0);
        let data = fs::metadata(&real).expect("written");
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_ne!(before, Some(data.ino()), "complete before it has its name");
        assert!(mode.is_none_or(|mode| data.mode() & 0o777 == mode), "{:o}", data.mode());
    }
    assert_eq!(folder.names(""), ["link.png", "real.png"]);
}

#[test]
fn standard_output_may_be_the_file() {
    let folder = Folder::new();
    let run = |command: &mut Command| {
        let ended = command.output().expect("it starts");
        assert!(ended.status.success(), "{ended:?}");
        ended.stdout
    };
    // Through a link, so that a program with this fault replaces the link and not the machine's own.
    let out = folder.file("out");
    symlink("/dev/stdout", &out).expect("a link");
    let arguments = ["run", "--frames", "1", "--json", "--tasks", "none", "--out", &out];
    let through_pipe = run(&mut command(&arguments));
    let file = fs::File::create(folder.file("all")).expect("a file");
    let inode = file.metadata().expect("a file").ino();
    run(command(&arguments).stdout(file));
    let in_file = fs::read(folder.file("all")).expect("a file");
    assert_eq!(fs::metadata(folder.file("all")).expect("a file").ino(), inode);
    for bytes in [through_pipe, in_file] {
        let at = bytes.windows(PNG.len()).position(|window| window == PNG).expect("a picture");
        let line: Value = serde_json::from_slice(&bytes[..at]).expect("the line, and then the picture");
        assert!(line["faces"].is_array());
        assert_eq!(image::load_from_memory(&bytes[at..]).expect("a whole picture").width(), 640);
    }
}

/// Runs every command that writes a file, on devices in a private mount namespace.
#[test]
fn devices_stay_devices() {
    let may = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return skip("private mount namespaces are for root: unshare -m");
    }
    let folder = Folder::new();
    folder.write("p.jpg", &plain());
    let script = r#"
        set -e
        mkdir dev && mount -t tmpfs none dev && mknod dev/null c 1 3 && mknod dev/disk b 7 200
        mount --bind dev/null /dev/null 2>&1
        ln -s dev/null link
        run() { echo "$ $*"; "$F" "$@" </dev/zero >>log 2>&1; }
        for target in dev/null link /dev/null; do
            run run --source demo --frames 1 --tasks none --out $target
            run run --source demo --frames 1 --tasks none --record $target
            run bench --frames 1 --warm-up 1 --tasks none --json $target
            run bench --frames 1 --warm-up 1 --tasks age --profile $target
        done
        run run --source demo --frames 1 --tasks none --out dev/disk && exit 9
        run image p.jpg --tasks none --out dev/disk && exit 9
        "$F" run --source demo --fps 30 --tasks none --frames 100000 --control s >>log 2>&1 </dev/zero &
        for attempt in $(seq 600); do [ -S s ] && break; sleep 0.1; done
        for target in dev/null link /dev/null; do run ctl --control s snapshot $target; done
        run ctl --control s quit
        wait
        ln -s null dev/p.png && run image p.jpg --tasks none --out dev
        stat -c '%n %F' dev/null dev/disk link /dev/null dev/p-2.png
    "#;
    let mut shell = Command::new("unshare");
    shell.args(["-m", "sh", "-c", script]).current_dir(folder.path()).env("F", env!("CARGO_BIN_EXE_faceptor"));
    let ended = finish(shell);
    let log = fs::read_to_string(folder.file("log")).unwrap_or_default();
    assert_eq!(ended.status, Some(0), "{ended:?}\n{log}");
    let kinds = "dev/null character special file\ndev/disk block special file\nlink symbolic link\n\
                 /dev/null character special file\ndev/p-2.png regular file\n";
    assert!(ended.out.ends_with(kinds), "{}", ended.out);
    assert!(log.contains("it is a disk"), "{log}");
}

#[test]
fn a_size_limit_leaves_nothing_half_written() {
    let folder = Folder::new();
    let out = folder.file("out");
    let photo = folder.write("p.jpg", &plain());
    // A picture of one unit fits into no file of 512 bytes.
    let limited = |arguments: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_faceptor")]).args(arguments);
        finish(shell)
    };
    let run = limited(&["image", "--json", "--tasks", "parsing", "--out", &out, "--masks", &out, &photo, PORTRAIT]);
    let run = run.expect(1);
    let lines = run.json();
    assert_eq!(lines.len(), 2, "{}", run.err);
    assert_eq!((&lines[0]["annotated"], &lines[1]["annotated"]), (&Value::Null, &Value::Null));
    assert_eq!(lines[1]["faces"][0]["parsing"]["mask"], Value::Null);
    assert!(run.line_about("out/astronaut.png").contains("File too large"), "{}", run.err);
    assert_eq!(folder.names("out"), [""; 0]);
    let last = folder.file("last.png");
    let run = limited(&["run", "--frames", "1", "--tasks", "none", "--out", &last]).expect(1);
    assert!(run.err.contains("last.png: File too large") && run.out.contains("frame 0"), "{run:?}");
    assert_eq!(folder.names(""), ["out", "p.jpg"]);
}

#[test]
fn what_a_killed_command_left_is_removed_by_the_next() {
    let folder = Folder::new();
    let photo = folder.write("p.jpg", &plain());
    for name in ["out/.faceptor-1-0.part", "out/.faceptor-99-7.part", "out/mine.part"] {
        folder.write(name, b"half");
    }
    let held = folder.write("out/.faceptor-2-0.part", b"a living program locks its own");
    let held = fs::File::open(held).expect("it is there");
    held.lock().expect("a lock");
    image(&["--out", &folder.file("out"), &photo]).expect(0);
    assert_eq!(folder.names("out"), [".faceptor-2-0.part", "mine.part", "p.png"]);
}

#[test]
fn a_recording_that_lost_lines_is_a_failure() {
    let folder = Folder::new();
    let file = folder.file("a.jsonl");
    let run = ["run", "--frames", "30", "--tasks", "none", "--record"];
    let full = faceptor(&[&run[..], &["/dev/full"]].concat()).expect(1);
    assert!(full.out.contains("frame 29"), "the run goes on: {}", full.out);
    assert!(full.err.contains("0 lines recorded, 30 lost"), "{}", full.err);
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 4; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_faceptor")]).args(run).arg(&file);
    let limited = finish(shell).expect(1);
    assert!(limited.err.contains("lost"), "{}", limited.err);
    let text = fs::read_to_string(&file).expect("whole lines");
    assert!(text.ends_with("}\n") && text.lines().count() < 30, "{}", text.lines().count());
    // A reader that leaves is not an excuse.
    let mut child = command(&["run", "--frames", "3000", "--tasks", "none", "--json", "--record", "/dev/full"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}
