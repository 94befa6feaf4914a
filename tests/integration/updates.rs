//! `faceptor update`: the program itself as the service, restarted by a script in the place of systemd. Keys come from minisign.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use faceptor::stages::embedded_bundle;
use faceptor_test_support::skip;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::program::{Output, command, faceptor, wait_until};
use crate::signatures::{NO_MINISIGN, Signer};

/// A folder of versions, a service, and a script that restarts it.
pub(crate) struct Board {
    pub(crate) signer: Signer,
}

impl Board {
    /// Returns `None` without minisign.
    pub(crate) fn new() -> Option<Board> {
        let board = Board { signer: Signer::new()? };
        let program = env!("CARGO_BIN_EXE_faceptor");
        let [socket, state, key] = [board.file("s"), board.file("state"), board.signer.key("own")];
        let run =
            format!("{program} run --source demo --fps 100 --rt off --tasks none --frames 1000000 --control {socket}");
        let script = format!(
            // A service that was killed leaves its socket, and it may stay a zombie.
            "cd {}\nif [ -s pid ]; then kill $(cat pid) 2>/dev/null; n=0\n\
             while [ -e s ] && [ $n -lt 100 ] && grep -qs ') [^Z]' /proc/$(cat pid)/stat; do sleep 0.05; n=$((n + 1)); done\n\
             kill -9 $(cat pid) 2>/dev/null; rm -f pid s; fi\n\
             if [ -e stop ]; then exit 0; fi\n\
             {run} ${{BUNDLES- --bundles {state} --verify-key {key}}} </dev/null >/dev/null 2>>log &\necho $! >pid\n",
            board.file("")
        );
        board.signer.folder.write("restart.sh", script.as_bytes());
        Some(board)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.signer.file(name)
    }

    /// Returns `faceptor update` with this board's places.
    pub(crate) fn command(&self, restart: &str, arguments: &[&str]) -> Command {
        let (state, socket, key) = (self.file("state"), self.file("s"), self.signer.key("own"));
        let mut update =
            command(&["update", "--json", "--state-dir", &state, "--control", &socket, "--verify-key", &key]);
        // The machine's own configuration does not count.
        update
            .args(["--config", &self.signer.folder.write("empty.toml", b""), "--restart-command", restart])
            .args(arguments);
        update
    }

    fn restart(&self) -> String {
        format!("sh {}", self.file("restart.sh"))
    }

    fn update(&self, arguments: &[&str]) -> Output {
        crate::program::finish(self.command(&self.restart(), arguments))
    }

    /// Starts the service anew, as at a boot.
    fn boot(&self) {
        // What a restart that was killed has left.
        let _ = fs::remove_file(self.file("stop"));
        let status = Command::new("sh").arg(self.file("restart.sh")).status().expect("a shell");
        assert!(status.success());
        wait_until("the service answers", || self.status().is_some());
    }

    /// Returns the state of the service.
    fn status(&self) -> Option<Value> {
        let answer = faceptor(&["ctl", "--control", &self.file("s"), "status", "--json"]);
        (answer.status == Some(0)).then(|| answer.json().remove(0))
    }

    /// Returns the checksum of the network that runs.
    fn running(&self) -> String {
        wait_until("the service answers", || self.status().is_some());
        self.status().expect("it answered")["sha256"].as_str().expect("a text").to_owned()
    }

    /// Returns what is in the folder of versions, without the lock; links as `NAME -> TARGET`.
    fn versions(&self) -> Vec<String> {
        let names = match fs::exists(self.file("state")) {
            Ok(true) => self.signer.folder.names("state"),
            _ => Vec::new(),
        };
        let shown = names.into_iter().filter(|name| name != "lock").map(|name| {
            match fs::read_link(self.file(&format!("state/{name}"))) {
                Ok(target) => format!("{name} -> {}", target.display()),
                Err(_) => name,
            }
        });
        shown.collect()
    }

    /// Returns a signed bundle of this version and the name of its version.
    fn bundle(&self, version: &str) -> (String, String, String) {
        let path = self.signer.bundle(&format!("{version}.bundle"), version);
        self.signer.sign("own", &[], &path);
        let bytes = fs::read(&path).expect("it was written");
        let sha256 = faceptor_nn::bundle::Bundle::from_bytes(&bytes).expect("a bundle").sha256().to_owned();
        (path, format!("{version}-{}", &sha256[..16]), sha256)
    }

    /// Writes the reference of the bundle of version 90.1: one picture, and no measurement that counts. It is made once.
    fn reference(&self) -> String {
        static FILES: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
        let files = FILES.get_or_init(|| {
            let (bundle, ..) = self.bundle("90.1");
            let folder = self.file("made");
            let quick = ["--pictures", "1", "--frames", "1", "--warm-up", "1"];
            faceptor(&[&["reference", "--model", &bundle, "--out", &folder], &quick[..]].concat()).expect(0);
            let read = |name: String| {
                let bytes = fs::read(self.file(&format!("made/{name}"))).expect("it was written");
                (name, bytes)
            };
            self.signer.folder.names("made").into_iter().map(read).collect()
        });
        for (name, bytes) in files {
            self.signer.folder.write(&format!("reference/{name}"), bytes);
        }
        self.file("reference")
    }

    /// Packs and signs an update.
    fn pack(&self, bundle: &str, reference: &str) -> String {
        let out = self.file("own.update");
        faceptor(&["bundle", "pack", bundle, "--reference", reference, "--out", &out]).expect(0);
        self.signer.sign("own", &[], &out);
        out
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.file("pid")) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status();
        }
    }
}

fn embedded() -> String {
    embedded_bundle().expect("a network is embedded").sha256().to_owned()
}

/// A reference needs a quiet thread of its own kind; the checks of these updates are made elsewhere.
const QUICK: [&str; 3] = ["--without-reference", "--frames", "10"];

#[test]
fn a_proven_network_stays_and_older_ones_go() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    board.boot();
    assert_eq!(board.running(), embedded());
    let (bundle, first, sha256) = board.bundle("90.1");
    let update = board.pack(&bundle, &board.reference());
    let listed = Command::new("tar").args(["-tf", &update]).output().expect("tar is there");
    assert!(String::from_utf8_lossy(&listed.stdout).starts_with("network.bundle\nnetwork.bundle.minisig\nreference/"));
    let verified = faceptor(&["bundle", "verify", "--json", "--key", &board.signer.key("own"), &update]).expect(0);
    assert_eq!(verified.json()[0]["version"], "90.1");

    let done = board.update(&[&format!("file://{update}")]).expect(0).json().remove(0);
    assert_eq!(
        (&done["result"], &done["verified"], &done["installed"]),
        (&json!("updated"), &json!(true), &json!(first))
    );
    assert_eq!((&done["old"]["sha256"], &done["new"]["sha256"]), (&json!(embedded()), &json!(sha256)));
    assert!(done["frames"].as_u64() >= Some(100), "{done}");
    assert_eq!(board.running(), sha256);
    assert_eq!(board.versions(), [first.clone(), format!("current -> {first}"), format!("last-good -> {first}")]);
    let unchanged = board.update(&[&update]).expect(0).json().remove(0);
    assert_eq!(unchanged["result"], "unchanged");

    // 90.10 comes after 90.9, and only two versions stay.
    let mut before = first;
    for version in ["90.9", "90.10"] {
        let (bundle, name, sha256) = board.bundle(version);
        let done = board.update(&[&[&bundle[..]], &QUICK[..]].concat()).expect(0).json().remove(0);
        assert_eq!((&done["result"], &done["verified"]), (&json!("updated"), &json!(false)));
        assert_eq!(board.running(), sha256);
        let mut expected = vec![before.clone(), name.clone()];
        expected.sort();
        let links = [format!("current -> {name}"), format!("last-good -> {name}"), format!("previous -> {before}")];
        assert_eq!(board.versions(), [expected, links.to_vec()].concat());
        before = name;
    }
    let older = board.update(&[&update]).expect(1);
    assert!(older.err.contains("version 90.1 of") && older.err.contains("older than 90.10"), "{older:?}");
    let (other, ..) = board.bundle("91");
    let renamed = fs::read(&other).expect("it was written");
    let renamed = faceptor_nn::bundle::Bundle::from_bytes(&renamed).expect("a bundle");
    let mut manifest = renamed.manifest().clone();
    manifest.name = "another".to_owned();
    let text = toml::to_string(&manifest).expect("a manifest is TOML");
    fs::write(&other, renamed.with_manifest(&text).expect("it fits its parts")).expect("writable");
    board.signer.sign("own", &[], &other);
    let foreign = board.update(&[&[&other[..]], &QUICK[..]].concat()).expect(1);
    assert!(foreign.err.contains("the update is network another"), "{foreign:?}");
    let allowed = board.update(&[&update, "--allow-downgrade", "--frames", "10"]).expect(0).json().remove(0);
    assert_eq!((&allowed["result"], board.running()), (&json!("updated"), sha256));

    // A version that is damaged on the disk does not stop the service: the one before it runs.
    let current = board.file("state/current/network.bundle");
    let bytes = fs::read(&current).expect("it is there");
    fs::write(&current, &bytes[..bytes.len() / 2]).expect("writable");
    board.boot();
    assert_eq!(board.running(), board.bundle("90.10").2);
    assert!(fs::read_to_string(board.file("log")).expect("a log").contains("does not belong to it"));
    board.update(&[&update, "--allow-downgrade", "--frames", "10"]).expect(0);
    assert_eq!(board.running(), board.bundle("90.1").2, "it is repaired");
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    let (bundle, ..) = board.bundle("90.1");
    let reference = board.reference();
    let good = fs::read(board.pack(&bundle, &reference)).expect("it was packed");
    let network = fs::read(&bundle).expect("it was written");
    let mut of_later_program = network.clone();
    of_later_program[8] = 99;
    let write = |name: &str, bytes: &[u8], key: &str| {
        let path = board.signer.folder.write(name, bytes);
        board.signer.sign(key, &[], &path);
        path
    };
    // The network inside is signed with another key than the archive.
    board.signer.sign("foreign", &[], &bundle);
    let inside = board.pack(&bundle, &reference);
    let unsigned = board.signer.folder.write("unsigned", &good);
    let cut = write("cut", &good, "own");
    fs::write(&cut, &good[..good.len() / 2]).expect("writable");
    fs::create_dir(board.file("folder")).expect("writable");
    let pipe = board.file("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success() && fs::metadata(&pipe).expect("it was made").file_type().is_fifo());
    let cases = [
        (unsigned, "not signed"),
        (write("foreign", &good, "foreign"), "signed with another key"),
        (cut, "does not belong to it"),
        (inside, "network.bundle: signed with another key"),
        (write("half", &good[..good.len() / 2], "own"), "damaged or cut short"),
        (write("text", b"hello", "own"), "neither a bundle nor an update"),
        (write("empty", b"", "own"), "neither a bundle nor an update"),
        (write("later", &of_later_program, "own"), "version 99"),
        (write("short", &network[..network.len() - 1], "own"), "short"),
        (write("plain", &network, "own"), "no reference comes with the network"),
        (board.file("folder"), "no regular file"),
        (pipe, "no regular file"),
        ("/dev/zero".to_owned(), "no regular file"),
        (board.file("absent"), "No such file"),
        ("ftp://me:geh-eim@host/a".to_owned(), "http, https or a file"),
    ];
    let marker = board.file("restarted");
    for (file, wanted) in cases {
        let refused = crate::program::finish(board.command(&format!("touch {marker}"), &[&file])).expect(1);
        assert!(refused.err.contains(wanted) && refused.out.is_empty(), "{file}: {refused:?}");
        assert!(!refused.err.contains("geh-eim"), "{refused:?}");
        assert_eq!(board.versions(), [""; 0], "{file}");
        assert!(!fs::exists(&marker).expect("readable"), "{file}: the service was restarted");
    }
    // Without a key, nothing is taken; the service's configuration has it, and must not name another network.
    let plain = board.file("plain");
    let state = board.file("state");
    let key = board.signer.key("own");
    for (text, wanted) in [
        (format!("bundles = \"{state}\""), "there is no key to verify updates with"),
        (format!("verify-key = \"{key}\""), "add the line `bundles = "),
        (format!("bundles = \"{state}\"\nmodel = \"x\"\nverify-key = \"{key}\""), "remove that line"),
        ("bundels = 1".to_owned(), "did you mean bundles?"),
        (format!("bundles = \"{state}\"\nverify-key = \"{key}\""), "no reference comes with the network"),
    ] {
        let file = board.signer.folder.write("faceptor.toml", text.as_bytes());
        let refused = faceptor(&["update", "--config", &file, &plain]).expect(1);
        assert!(refused.err.contains(wanted), "{text}: {refused:?}");
    }
    faceptor(&["update"]).expect(2);
    faceptor(&["update", "--recover", &plain]).expect(2);
    faceptor(&["update", "--timeout", "0", &plain]).expect(2);
}

#[test]
fn a_network_that_answers_otherwise_on_this_machine_is_not_tried() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    let (bundle, ..) = board.bundle("90.1");
    let reference = board.reference();
    // The ages of the reference, as another machine would have computed them.
    let path = format!("{reference}/task.age.f32");
    let ages = fs::read(&path).expect("it was written");
    let numbers = ages.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) + 5.0);
    let other: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
    fs::write(&path, &other).expect("writable");
    let index = format!("{reference}/reference.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&index).expect("it was written")).expect("JSON");
    let digest: String = Sha256::digest(&other).iter().map(|byte| format!("{byte:02x}")).collect();
    value["files"]["task.age.f32"]["sha256"] = json!(digest);
    fs::write(&index, value.to_string()).expect("writable");
    let update = board.pack(&bundle, &reference);
    let marker = board.file("restarted");
    let refused = crate::program::finish(board.command(&format!("touch {marker}"), &[&update])).expect(1);
    assert!(refused.err.contains("not right on this machine") && refused.err.contains("age"), "{refused:?}");
    assert_eq!((board.versions().len(), fs::exists(&marker).expect("readable")), (0, false));
}

#[test]
fn only_a_signed_bundle_with_its_own_reference_is_packed() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    let (bundle, ..) = board.bundle("90.1");
    let (other, ..) = board.bundle("90.2");
    let reference = board.reference();
    let unsigned = board.signer.bundle("unsigned.bundle", "90.1");
    let notes = board.signer.folder.write("notes", b"mine");
    let out = board.file("out.update");
    for (bundle, reference, out, wanted) in [
        (&unsigned, &reference, &out, "sign the bundle first"),
        (&other, &reference, &out, "the reference is of network"),
        (&bundle, &board.file("absent"), &out, "is not a reference folder"),
        (&notes, &reference, &out, "notes"),
        (&bundle, &reference, &notes, "not an update written by faceptor"),
        (&bundle, &reference, &bundle, "an input of this command"),
        (&bundle, &reference, &format!("{reference}/000.png"), "an input of this command"),
    ] {
        let refused = faceptor(&["bundle", "pack", bundle, "--reference", reference, "--out", out]).expect(1);
        assert!(refused.err.contains(wanted), "{wanted}: {refused:?}");
    }
    assert!(!fs::exists(&out).expect("readable"));
    assert_eq!(fs::read(&notes).expect("it stays"), b"mine");
    // An update that exists is replaced, by the same bytes for the same network.
    let packed = || {
        faceptor(&["bundle", "pack", &bundle, "--reference", &reference, "--out", &out]).expect(0);
        fs::read(&out).expect("it was packed")
    };
    assert_eq!(packed(), packed());
}

#[test]
fn what_does_not_run_is_taken_back() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    board.boot();
    let (bundle, name, _) = board.bundle("90.1");
    let restart = board.restart();
    let on_trial = format!("[ -e {} ]", board.file("state/current"));
    let stop = format!("touch {0}; {restart}; rm {0}", board.file("stop"));
    let cases = [
        ("the restart fails", format!("if {on_trial}; then exit 7; fi; {restart}"), "10", "exit status: 7"),
        ("it never comes", format!("if {on_trial}; then {stop}; exit 0; fi; {restart}"), "10", "listens at"),
        ("it runs another network", format!("BUNDLES= {restart}"), "10", "runs another network"),
        ("frames do not come", restart.clone(), "1000000", "of 1000000 frames"),
    ];
    for (what, restart, frames, wanted) in cases {
        // On a machine that is busy, a service needs longer to start.
        let is_seen = ["1", "5", "25", "100"].into_iter().any(|timeout| {
            let arguments = ["--without-reference", "--timeout", timeout, "--frames", frames, &bundle];
            let back = crate::program::finish(board.command(&restart, &arguments)).expect(1);
            let result = back.json().remove(0);
            assert_eq!((&result["result"], board.versions().len()), (&json!("went-back"), 0), "{what}");
            board.boot();
            assert_eq!(board.running(), embedded(), "{what}");
            result["reason"].as_str().is_some_and(|reason| reason.contains(wanted))
        });
        assert!(is_seen, "{what}");
    }
    // A service that ends while it is watched: a second after its first frames.
    let frames = format!("{} ctl --control {} status --json", env!("CARGO_BIN_EXE_faceptor"), board.file("s"));
    let killer = format!(
        "{restart}; (pid=$(cat {}); for n in $(seq 600); do if {frames} | grep -q '\"frames\":[1-9]'; then sleep 1; kill -9 $pid; \
         exit; fi; sleep 0.1; done) >/dev/null 2>&1 &",
        board.file("pid")
    );
    let restart = format!("if {on_trial}; then {killer} else {restart}; fi");
    let is_seen = ["20", "60"].into_iter().any(|timeout| {
        let arguments = ["--without-reference", "--timeout", timeout, "--frames", "1000000", &bundle];
        let back = crate::program::finish(board.command(&restart, &arguments)).expect(1).json().remove(0);
        board.boot();
        assert_eq!(board.running(), embedded());
        back["reason"].as_str().is_some_and(|reason| reason.contains("ended after"))
    });
    assert!(is_seen, "its end was not noticed");
    // With an update in between, the way back leads to it.
    board.update(&[&[&bundle[..]], &QUICK[..]].concat()).expect(0);
    let (later, ..) = board.bundle("90.2");
    let restart = format!("if grep -q 90.2 <{}; then exit 7; fi; {}", board.file("target"), board.restart());
    let restart = format!("readlink {} >{}; {restart}", board.file("state/current"), board.file("target"));
    let arguments = ["--without-reference", &later];
    let back = crate::program::finish(board.command(&restart, &arguments)).expect(1).json().remove(0);
    assert_eq!((&back["result"], &back["old_runs"]), (&json!("went-back"), &json!(true)));
    assert_eq!(board.versions(), [name.clone(), format!("current -> {name}"), format!("last-good -> {name}")]);
}

/// Starts an update whose trial does not end, and waits until the new network runs.
fn on_trial(board: &Board, bundle: &str, sha256: &str) -> Child {
    let arguments = ["--without-reference", "--frames", "1000000", "--timeout", "600", bundle];
    let mut update = board.command(&board.restart(), &arguments);
    let child = update.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary can be started");
    wait_until("the new network runs", || board.status().is_some_and(|status| status["sha256"] == sha256));
    child
}

#[test]
fn killed_during_the_trial_the_next_start_runs_the_old_network() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    board.boot();
    let (bundle, name, sha256) = board.bundle("90.1");
    let mut update = on_trial(&board, &bundle, &sha256);
    // Meanwhile no other update begins, and a loop that starts takes what is on trial.
    let second = board.update(&[&[&bundle[..]], &QUICK[..]].concat()).expect(1);
    assert!(second.err.contains("another `faceptor update` works in"), "{second:?}");
    let state = board.file("state");
    let run =
        || faceptor(&["run", "--source", "demo", "--frames", "1", "--tasks", "none", "--bundles", &state]).expect(0);
    assert!(!run().err.contains("was not completed"));
    update.kill().expect("it runs");
    update.wait().expect("a child");
    assert!(run().err.contains("was not completed"));
    assert_eq!(board.versions(), [name.clone(), format!("current -> {name}")]);
    board.boot();
    assert_eq!(board.running(), embedded());
    assert!(fs::read_to_string(board.file("log")).expect("a log").contains("was not completed: the network before it"));
    let recovered = board.command("exit 9", &["--recover"]).output().expect("the binary can be started");
    let recovered: Value = serde_json::from_slice(&recovered.stdout).expect("JSON");
    assert_eq!(recovered, json!({"result": "recovered", "taken_back": name}));
    assert_eq!(board.versions(), [""; 0]);
    let again = board.command("exit 9", &["--recover"]).output().expect("the binary can be started");
    assert!(String::from_utf8_lossy(&again.stdout).contains("\"unchanged\""));

    // A signal that can be answered: it goes back by itself.
    let update = on_trial(&board, &bundle, &sha256);
    let status = Command::new("kill").args(["-TERM", &update.id().to_string()]).status().expect("kill is there");
    assert!(status.success());
    let ended = update.wait_with_output().expect("a child");
    let result: Value = serde_json::from_slice(&ended.stdout).expect("JSON");
    assert_eq!((ended.status.code(), &result["reason"]), (Some(1), &json!("interrupted")));
    assert_eq!((board.running(), board.versions().len()), (embedded(), 0));
}

#[test]
fn a_disk_without_room_or_without_permission_changes_nothing() {
    let Some(board) = Board::new() else { return skip(NO_MINISIGN) };
    let may = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return skip("private mount namespaces are for root: unshare -m");
    }
    let (bundle, ..) = board.bundle("90.1");
    fs::create_dir(board.file("state")).expect("writable");
    for (options, wanted) in [("size=300k", "No space left"), ("ro", "Read-only file system")] {
        let update = board.command("exit 9", &["--without-reference", &bundle]);
        let script = "mount -t tmpfs -o $O none \"$M\" && \"$@\"; status=$?; ls -A \"$M\" >&2; exit $status";
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh", "-c", script, "sh"]).arg(update.get_program()).args(update.get_args());
        let refused = crate::program::finish({
            shell.env("M", board.file("state")).env("O", options);
            shell
        });
        let refused = refused.expect(1);
        assert!(refused.err.contains(wanted) && !refused.err.contains("90.1-"), "{options}: {refused:?}");
        assert!(!refused.err.contains("\n.new"), "{options}: {refused:?}");
    }
}
