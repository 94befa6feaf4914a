//! `faceptor image` on many photos: several at once with the results of one after the other, and batches that were killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::pictures::{jpeg, png, portrait};
use crate::program::{Folder, Output, PORTRAIT, command, finish};

const QUICK: [&str; 6] = ["--tasks", "age", "--looks", "1", "--upright", "--min-face=64"];

/// Returns a folder of photos: large ones before small ones, two of one name, broken ones.
fn photos(folder: &Folder) -> Result<()> {
    let portrait = portrait();
    let small = image::imageops::resize(&portrait, 200, 200, image::imageops::FilterType::Triangle);
    for (number, below) in ["a", "b", "c"].into_iter().enumerate() {
        fs::create_dir(folder.path().join(below))?;
        let large = image::imageops::resize(&portrait, 1200, 1200, image::imageops::FilterType::Triangle);
        folder.write(&format!("{below}/0-large.jpg"), &jpeg(&large));
        folder.write(&format!("{below}/1-small.png"), &png(small.clone()));
        folder.write(&format!("{below}/2-broken.jpg"), &fs::read(PORTRAIT)?[..100 + number]);
        folder.write(&format!("{below}/3-blank.png"), &png(image::RgbImage::new(64, 64)));
    }
    Ok(())
}

/// Lines without what differs from run to run.
fn lines(text: &str) -> Result<Vec<Value>> {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        line.as_object_mut().context("an object")?.remove("timing_us");
        Ok(line)
    };
    text.lines().map(line).collect()
}

/// Runs `faceptor image` below a folder, so that paths are short and equal.
fn image(folder: &Path, arguments: &[&str]) -> Output {
    finish(command_in(folder, arguments))
}

fn command_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(&[&["image"], &QUICK[..], arguments].concat());
    command.current_dir(folder);
    command
}

#[test]
fn several_jobs_have_the_results_of_one() -> Result<()> {
    let folder = Folder::new();
    photos(&folder)?;
    let mut results = BTreeMap::new();
    for jobs in ["1", "2", "5", "64"] {
        let out = format!("out{jobs}");
        let Output { status, out: printed, err: errors } =
            image(folder.path(), &["--json", "--jobs", jobs, "--out", &out, "a", "b", "c"]);
        assert_eq!(status, Some(1), "{errors}");
        assert_eq!(errors.matches("-broken.jpg: ").count(), 3, "{errors}");
        let names = folder.names(&out);
        let files: Vec<Vec<u8>> =
            names.iter().map(|name| fs::read(folder.path().join(&out).join(name))).collect::<Result<_, _>>()?;
        results.insert(jobs, (lines(&printed.replace(&out, "out"))?, names, files));
        // Text has the same order.
        let text = image(folder.path(), &["--jobs", jobs, "a", "b", "c"]).out;
        let paths: Vec<&str> =
            text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(':').next()).collect();
        assert!(paths.is_sorted() && paths.len() == 9, "{text}");
    }
    let one = &results["1"];
    assert_eq!(one.0.len(), 9);
    assert!(one.1.contains(&"0-large-3.png".to_owned()), "{:?}", one.1);
    for (jobs, other) in &results {
        assert!(other == one, "--jobs {jobs} has other results");
    }
    Ok(())
}

#[test]
fn a_killed_batch_loses_nothing_and_repeats_nothing() -> Result<()> {
    let folder = Folder::new();
    photos(&folder)?;
    image(folder.path(), &["--results", "whole.jsonl", "a", "b", "c"]).expect(1);
    let whole = lines(&fs::read_to_string(folder.path().join("whole.jsonl"))?)?;
    assert_eq!(whole.len(), 12);
    let broken: Vec<&Value> = whole.iter().filter(|line| line.get("error").is_some()).collect();
    assert!(
        broken.len() == 3 && broken[0]["path"] == "a/2-broken.jpg" && broken[0].get("faces").is_none(),
        "{broken:?}"
    );
    let file = folder.path().join("killed.jsonl");
    let arguments = ["--results", "killed.jsonl", "--resume", "--jobs", "2", "a", "b", "c"];
    let mut kills = 0;
    for wanted in [1, 4, 7, 10] {
        let mut child = command_in(folder.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        while child.try_wait()?.is_none() && count(&file) < wanted {
            std::thread::yield_now();
        }
        kills += usize::from(kill(&mut child)?);
        // A line that was being written.
        let length = fs::metadata(&file)?.len();
        let mut torn = fs::read(&file)?;
        torn.extend_from_slice(b"{\"path\":\"a/9");
        fs::write(&file, torn)?;
        assert!(length > 0);
    }
    ensure!(kills >= 2, "the batch was not killed but ended");
    let last = image(folder.path(), &arguments);
    assert!(last.status.is_some() && last.out.is_empty(), "{last:?}");
    assert_eq!(lines(&fs::read_to_string(&file)?)?, whole);
    // Once more: nothing is left to do.
    let again = image(folder.path(), &arguments).expect(0);
    assert!(again.out.is_empty() && again.err.is_empty(), "{again:?}");
    // A photo that is named twice has two results, and a new one is added.
    folder.write("d.png", &png(image::RgbImage::new(64, 64)));
    image(folder.path(), &["--results", "killed.jsonl", "--resume", "d.png", "a/3-blank.png", "a/3-blank.png"])
        .expect(0);
    let more = lines(&fs::read_to_string(&file)?)?;
    let paths: Vec<&Value> = more[whole.len()..].iter().map(|line| &line["path"]).collect();
    assert_eq!(paths, ["d.png", "a/3-blank.png"]);
    Ok(())
}

fn count(file: &Path) -> usize {
    fs::read(file).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Kills a process; reports whether it was still at work.
fn kill(child: &mut Child) -> Result<bool> {
    child.kill()?;
    Ok(child.wait()?.code().is_none())
}

#[test]
fn results_replace_nothing_of_others() -> Result<()> {
    let folder = Folder::new();
    folder.write("d.png", &png(image::RgbImage::new(64, 64)));
    folder.write("notes.txt", b"mine\n");
    for (arguments, reason) in [
        (&["--results", "notes.txt", "d.png"][..], "notes.txt: it exists: add --resume to go on with it"),
        (&["--results", "notes.txt", "--resume", "d.png"], "line 1 is not a result"),
        (&["--results", "d.png", "--force", "d.png"], "it is an input of this command"),
        (&["--results", "absent/a.jsonl", "d.png"], "cannot write the results absent/a.jsonl"),
        (&["--results", "/dev/full", "d.png"], "it is not a regular file"),
    ] {
        let Output { status, out: printed, err: errors } = image(folder.path(), arguments);
        assert!(status == Some(1) && printed.is_empty() && errors.contains(reason), "{arguments:?}: {errors}");
    }
    for arguments in [
        &["--resume", "d.png"][..],
        &["--results", "a.jsonl", "--json", "d.png"],
        &["--jobs", "0", "d.png"],
        &["--jobs", "2", "--threads", "2", "d.png"],
    ] {
        image(folder.path(), arguments).expect(2);
    }
    assert_eq!(fs::read(folder.path().join("notes.txt"))?, b"mine\n");
    Ok(())
}
