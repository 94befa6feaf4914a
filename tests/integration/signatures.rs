//! Signed bundles: `faceptor bundle`, and `--verify-key`. Keys and signatures come from minisign itself.

use std::fs;
use std::process::{Command, Stdio};

use faceptor::stages::embedded_bundle;
use faceptor_test_support::skip;

use crate::program::{Folder, Output, PORTRAIT, faceptor};

pub(crate) const NO_MINISIGN: &str = "minisign is not installed (apt-get install minisign)";

/// Runs minisign; `None` where it is not installed.
fn minisign(arguments: &[&str]) -> Option<Output> {
    let mut program = Command::new("minisign");
    program.args(arguments).stdin(Stdio::null());
    let output = program.output().ok()?;
    let text = |bytes| String::from_utf8(bytes).expect("minisign prints UTF-8");
    Some(Output { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}

/// A folder with keys `NAME.pub` and `NAME.key`, and bundles.
pub(crate) struct Signer {
    pub(crate) folder: Folder,
}

impl Signer {
    /// Returns `None` without minisign.
    pub(crate) fn new() -> Option<Signer> {
        let signer = Signer { folder: Folder::new() };
        for name in ["own", "foreign"] {
            let (public, secret) = (signer.file(&format!("{name}.pub")), signer.file(&format!("{name}.key")));
            minisign(&["-G", "-W", "-p", &public, "-s", &secret])?.expect(0);
        }
        Some(signer)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.file(name)
    }

    /// Writes the embedded network as a bundle whose manifest has this version.
    pub(crate) fn bundle(&self, name: &str, version: &str) -> String {
        let bundle = embedded_bundle().expect("a network is embedded");
        let mut manifest = bundle.manifest().clone();
        manifest.version = version.to_owned();
        let text = toml::to_string(&manifest).expect("a manifest is TOML");
        self.folder.write(name, &bundle.with_manifest(&text).expect("it fits its parts"))
    }

    /// Signs by minisign.
    pub(crate) fn sign(&self, key: &str, options: &[&str], bundle: &str) {
        let secret = self.file(&format!("{key}.key"));
        let arguments = [&["-S", "-s", &secret, "-m", bundle], options].concat();
        minisign(&arguments).expect("it made the keys").expect(0);
    }

    /// Returns the line of a public key.
    pub(crate) fn key(&self, name: &str) -> String {
        let text = fs::read_to_string(self.file(&format!("{name}.pub"))).expect("minisign wrote it");
        text.lines().nth(1).expect("the key follows its comment").to_owned()
    }
}

#[test]
fn a_bundle_that_minisign_signed_is_good() {
    let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
    let bundle = signer.bundle("a.bundle", "7");
    for options in [&["-t", "our seventh"][..], &["-l", "-t", "our seventh"]] {
        signer.sign("own", options, &bundle);
        // The key as its line, and as its file.
        for key in [signer.key("own"), signer.file("own.pub")] {
            let verified = faceptor(&["bundle", "verify", "--json", "--key", &key, &bundle]).expect(0);
            let line = verified.json().remove(0);
            assert_eq!(line["comment"], "our seventh", "{options:?}");
            assert_eq!(line["version"], "7");
        }
    }
    let answered = faceptor(&["image", "--json", "--model", &bundle, "--verify-key", &signer.key("own"), PORTRAIT]);
    assert_eq!(answered.expect(0).json()[0]["faces"].as_array().map(Vec::len), Some(1));
}

/// What is wrong, the bundle, its signature, and what the refusal contains.
type Case<'a> = (&'a str, &'a [u8], Option<&'a [u8]>, &'a str);

#[test]
fn what_is_not_signed_with_the_key_is_refused() {
    let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
    let bundle = signer.bundle("a.bundle", "1");
    let other = signer.bundle("b.bundle", "2");
    let beside = format!("{bundle}.minisig");
    signer.sign("own", &[], &other);
    let of_other = fs::read(format!("{other}.minisig")).expect("it is signed");
    signer.sign("foreign", &[], &bundle);
    let foreign = fs::read(&beside).expect("it is signed");
    signer.sign("own", &["-t", "release 1"], &bundle);
    let good = fs::read(&beside).expect("it is signed");
    let bytes = fs::read(&bundle).expect("it was written");

    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let comment = String::from_utf8(good.clone()).expect("minisign writes text").replace("release 1", "release 2");
    let longer = [bytes.clone(), vec![0]].concat();
    let short = &bytes[..bytes.len() - 1];
    let belongs = "does not belong to it";
    let none = "no signature of minisign";
    let cases: [Case; 12] = [
        ("unsigned", &bytes, None, "not signed"),
        ("another key", &bytes, Some(&foreign), "signed with another key"),
        ("a signature of another bundle", &bytes, Some(&of_other), belongs),
        ("a changed bit", &changed, Some(&good), belongs),
        ("cut short", short, Some(&good), belongs),
        ("a byte more", &longer, Some(&good), belongs),
        ("no byte", b"", Some(&good), belongs),
        ("another comment", &bytes, Some(comment.as_bytes()), belongs),
        ("an empty signature", &bytes, Some(b""), none),
        ("half a signature", &bytes, Some(&good[..good.len() / 2]), none),
        ("no text", &bytes, Some(&[0xff; 200]), "no text"),
        ("a signature of megabytes", &bytes, Some(&[b'a'; 1 << 20]), "at most"),
    ];
    for (what, content, signature, wanted) in cases {
        fs::write(&bundle, content).expect("the folder is writable");
        match signature {
            Some(text) => fs::write(&beside, text).expect("the folder is writable"),
            None => fs::remove_file(&beside).expect("it is there"),
        }
        let key = signer.key("own");
        let verified = faceptor(&["bundle", "verify", "--key", &key, &bundle]).expect(1);
        assert!(verified.err.contains(wanted) && verified.out.is_empty(), "{what}: {verified:?}");
        let run = faceptor(&["run", "--source", "demo", "--frames", "1", "--model", &bundle, "--verify-key", &key]);
        let run = run.expect(1);
        assert!(run.err.contains(wanted) && run.err.contains(&bundle), "{what}: {run:?}");
    }
    fs::remove_file(&beside).expect("it is there");
    fs::create_dir(&beside).expect("the folder is writable");
    let verified = faceptor(&["bundle", "verify", "--key", &signer.key("own"), &bundle]).expect(1);
    assert!(verified.err.contains("no regular file"), "a folder for a signature: {verified:?}");
}

#[test]
fn the_configuration_can_demand_a_signature() {
    let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
    let bundle = signer.bundle("a.bundle", "1");
    let text = format!("source = \"demo\"\nframes = 1\nmodel = \"{bundle}\"\nverify-key = \"{}\"\n", signer.key("own"));
    let file = signer.folder.write("faceptor.toml", text.as_bytes());
    faceptor(&["config", "check", &file]).expect(0);
    let refused = faceptor(&["run", "--config", &file]).expect(1);
    assert!(refused.err.contains("not signed"), "{refused:?}");
    signer.sign("own", &[], &bundle);
    faceptor(&["run", "--config", &file]).expect(0);

    let mistaken = text.replace("verify-key = \"R", "verify-key = \"");
    let file = signer.folder.write("faceptor.toml", mistaken.as_bytes());
    let refused = faceptor(&["config", "check", &file]);
    assert!(refused.err.contains("faceptor.toml:4: ") && refused.err.contains("public key of minisign"), "{refused:?}");
}

#[test]
fn a_folder_is_not_signed_and_the_network_inside_needs_no_signature() {
    let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
    let key = signer.key("own");
    let folder = signer.folder.path().to_str().expect("the path is UTF-8");
    let refused = faceptor(&["tasks", "--rounds", "1", "--model", folder, "--verify-key", &key]).expect(1);
    assert!(refused.err.contains("a folder has no signature"), "{refused:?}");
    faceptor(&["image", "--json", "--verify-key", &key, PORTRAIT]).expect(0);
    faceptor(&["bundle", "verify", "--key", "RW", "x"]).expect(2);
}

#[cfg(feature = "signing")]
mod signing {
    use super::*;
    use crate::program::{command, finish};
    use std::path::Path;

    #[test]
    fn minisign_verifies_what_the_program_signed() {
        let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
        let bundles = [signer.bundle("a.bundle", "1"), signer.bundle("b.bundle", "2")];
        let key = signer.file("own.key");
        faceptor(&["bundle", "sign", "--key", &key, &bundles[0], &bundles[1]]).expect(0);
        for bundle in &bundles {
            let verified =
                minisign(&["-V", "-P", &signer.key("own"), "-m", bundle]).expect("it made the keys").expect(0);
            assert!(verified.out.contains("network:"), "{verified:?}");
            faceptor(&["bundle", "verify", "--key", &signer.key("own"), bundle]).expect(0);
            let foreign = minisign(&["-V", "-P", &signer.key("foreign"), "-m", bundle]).expect("it made the keys");
            assert_ne!(foreign.status, Some(0));
        }
        // Signed again, with a comment of one's own.
        faceptor(&["bundle", "sign", "--key", &key, "--comment", "ours: 3", &bundles[0]]).expect(0);
        let verified =
            minisign(&["-V", "-P", &signer.key("own"), "-m", &bundles[0]]).expect("it made the keys").expect(0);
        assert!(verified.out.contains("ours: 3"), "{verified:?}");
        for entry in signer.folder.names("") {
            assert!(!entry.ends_with(".part"), "{entry}");
        }
    }

    #[test]
    fn nothing_but_bundles_is_signed_and_no_file_of_others_is_replaced() {
        let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
        let bundle = signer.bundle("a.bundle", "1");
        let key = signer.file("own.key");
        let photo = faceptor(&["bundle", "sign", "--key", &key, PORTRAIT]).expect(1);
        assert!(
            photo.err.contains("astronaut.jpg") && !Path::new(&format!("{PORTRAIT}.minisig")).exists(),
            "{photo:?}"
        );
        let beside = signer.folder.write("a.bundle.minisig", b"notes");
        faceptor(&["bundle", "sign", "--key", &key, &bundle]).expect(1);
        assert_eq!(fs::read(&beside).expect("it stays"), b"notes");
        faceptor(&["bundle", "sign", "--key", &key, &bundle, "--force"]).expect(0);
        // Keys that are none: a public key, a text, a folder, none at all. No passphrase is asked for.
        let text = signer.folder.write("text", b"untrusted comment: x\nRWRTY0Iyxxxx\n");
        // A damaged key: its last bytes before the checksum belong to the public half.
        let good = fs::read_to_string(&key).expect("minisign wrote it");
        let at = good.find('\n').expect("two lines") + 1 + 160;
        let letter = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut broken = good;
        broken.replace_range(at..=at, letter);
        let broken = signer.folder.write("broken.key", broken.as_bytes());
        for wrong in [signer.file("own.pub"), text, signer.file(""), signer.file("absent"), broken] {
            let mut signing = command(&["bundle", "sign", "--key", &wrong, &bundle]);
            signing.env("FACEPTOR_PASSPHRASE", "x");
            let refused = finish(signing).expect(1);
            assert!(refused.err.contains("cannot sign") || refused.err.contains(&wrong), "{refused:?}");
        }
        faceptor(&["bundle", "sign", "--key", &key, "--comment", "two\nlines", &bundle]).expect(2);
    }
}

#[cfg(not(feature = "signing"))]
#[test]
fn a_program_of_a_board_does_not_sign() {
    let Some(signer) = Signer::new() else { return skip(NO_MINISIGN) };
    let bundle = signer.bundle("a.bundle", "1");
    let refused = faceptor(&["bundle", "sign", "--key", &signer.file("own.key"), &bundle]).expect(1);
    assert!(refused.err.contains("sign where the bundle was compiled"), "{refused:?}");
    assert!(!signer.folder.path().join("a.bundle.minisig").exists());
}
