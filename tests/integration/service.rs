//! The units of the Debian package, as systemd itself reads them.

use std::fs;
use std::process::{Command, Output};

use faceptor_test_support::skip;

use crate::program::{Folder, command, finish};

const UNITS: [&str; 2] = ["faceptor.service", "faceptor@.service"];

/// Copies the units with their shared settings to a folder, as the package installs them.
fn installed() -> Folder {
    let source = |name: &str| {
        let path = format!("{}/packaging/debian/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let folder = Folder::new();
    for name in UNITS {
        let unit = source(name);
        assert!(unit.contains("ExecStart=/usr/bin/faceptor run --config "), "{name}");
        // The program need not be installed here.
        folder.write(name, unit.replace("/usr/bin/faceptor", env!("CARGO_BIN_EXE_faceptor")).as_bytes());
        fs::create_dir(folder.path().join(format!("{name}.d"))).expect("writable");
        folder.write(&format!("{name}.d/10-sandbox.conf"), source("sandbox.conf").as_bytes());
    }
    folder
}

/// Runs systemd-analyze.
///
/// # Errors
/// The reason for which a test cannot run here.
fn analyze(arguments: &[&str]) -> Result<Output, String> {
    let missing = |error| format!("systemd-analyze cannot be started (package systemd): {error}");
    Command::new("systemd-analyze").args(arguments).output().map_err(missing)
}

#[test]
fn the_units_have_nothing_that_systemd_complains_about() {
    let folder = installed();
    for name in UNITS {
        let path = folder.path().join(name).to_string_lossy().into_owned();
        let output = match analyze(&["verify", "--man=no", &path]) {
            Ok(output) => output,
            Err(missing) => return skip(missing),
        };
        let said = String::from_utf8_lossy(&output.stderr);
        let about_it: Vec<&str> = said.lines().filter(|line| line.contains("faceptor")).collect();
        assert!(output.status.success() && about_it.is_empty(), "{name}: {said}");
    }
}

#[test]
fn the_units_reach_little() {
    let folder = installed();
    for name in UNITS {
        let path = folder.path().join(name).to_string_lossy().into_owned();
        // The threshold is ten times the exposure that is shown.
        let output = match analyze(&["security", "--offline=true", "--threshold=19", "--no-pager", &path]) {
            Ok(output) => output,
            Err(missing) => return skip(missing),
        };
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {report}{}", String::from_utf8_lossy(&output.stderr));
        assert!(report.contains("Overall exposure level"), "{name}: {report}");
    }
}

#[test]
fn a_service_reports_a_mistake_and_goes_on_with_the_last_good_configuration() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("state")).expect("writable");
    let path = folder.file("faceptor.toml");
    let run = |text: &str| {
        folder.write("faceptor.toml", text.as_bytes());
        let mut service = command(&["run", "--config", &path, "--source", "demo"]);
        service.env("STATE_DIRECTORY", folder.path().join("state"));
        finish(service)
    };
    let good = run("frames = 1\ntasks = [\"none\"]\njson = true\n").expect(0);
    assert_eq!((good.json().len(), good.err.contains("faceptor.toml")), (1, false), "{}", good.err);
    let mistaken = run("frames = 1\ntaks = [\"none\"]\n").expect(0);
    assert_eq!(mistaken.json().len(), 1, "as the last good one asks");
    let reported = mistaken.line_about("faceptor.toml:2");
    assert!(reported.ends_with("there is no option \"taks\": did you mean tasks?"), "{reported}");
    assert!(mistaken.err.contains("the last good configuration is used instead"), "{}", mistaken.err);
}
