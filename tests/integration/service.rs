//! The unit for systemd, as systemd itself reads it.

use std::fs;
use std::process::Command;

use faceptor_test_support::skip;

use crate::program::Folder;

#[test]
fn the_unit_has_nothing_that_systemd_complains_about() {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faceptor.service")).expect("the unit");
    assert!(unit.contains("ExecStart=/usr/local/bin/faceptor run "));
    // The program need not be installed here.
    let unit = unit.replace("/usr/local/bin/faceptor", env!("CARGO_BIN_EXE_faceptor"));
    let folder = Folder::new();
    let path = folder.write("faceptor.service", unit.as_bytes());
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", &path]);
    let output = match verify.output() {
        Ok(output) => output,
        Err(error) => {
            return skip(format_args!("systemd-analyze cannot be started (package systemd): {error}"));
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let about_it: Vec<&str> = said.lines().filter(|line| line.contains("faceptor")).collect();
    assert!(output.status.success() && about_it.is_empty(), "{said}");
}
