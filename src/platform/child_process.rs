//! Another program that this one runs: started in a process group of its own, ended and reaped on every path.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::platform::redaction;

/// Time that a program has to end by itself after SIGTERM; an RTSP client says good-bye to its camera in it.
const POLITE_END: Duration = Duration::from_millis(700);
/// Time between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longest wait for the last messages of a program that has ended.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Messages that are kept, and the longest of them in bytes.
const KEPT_LINES: usize = 12;
const LONGEST_LINE: u64 = 4096;
/// Nice value of programs that must not take a CPU from the loop.
const YIELDING_NICE: libc::c_int = 10;
/// Stack of the thread that reads the messages.
const STACK_BYTES: usize = 256 << 10;

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Names of the program, in the order in which they are tried.
    pub names: &'static [&'static str],
    /// The Debian packages that contain it.
    pub packages: &'static str,
    pub arguments: Vec<String>,
    /// Removed from everything that the program prints.
    pub secrets: Vec<String>,
}

/// The end of a pipe that this program holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piped {
    /// Its standard output is read. The kernel kills it when the thread that started it ends, however that happens.
    Output,
    /// Its standard input is written. It ends by itself when the input does, also after this program was killed.
    Input,
    /// Its standard input is written: what it is to do. It is killed as with [`Piped::Output`], and prints nothing that counts.
    Order,
}

/// Reason why a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the program {program} is not installed: sudo apt install {packages}")]
    Absent { program: String, packages: &'static str },
    #[error("the program {program} cannot be started: {error}")]
    Refused { program: &'static str, error: io::Error },
}

/// A running program. Dropping it ends it and everything that it has started.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    name: &'static str,
    child: Child,
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Disconnected when the program has closed its standard error.
    errors_end: Receiver<()>,
    status: Option<ExitStatus>,
}

impl ChildProcess {
    /// Starts the first of the program's names that is installed.
    ///
    /// # Errors
    /// When none is installed (the message names the package), or the system refuses.
    pub(crate) fn start(program: &Program, piped: Piped) -> Result<ChildProcess, StartError> {
        for &name in program.names {
            match spawn(name, &program.arguments, piped) {
                Ok(child) => return ChildProcess::watch(name, child, program.secrets.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StartError::Refused { program: name, error }),
            }
        }
        Err(StartError::Absent { program: program.names.join(" or "), packages: program.packages })
    }

    fn watch(name: &'static str, mut child: Child, secrets: Vec<String>) -> Result<ChildProcess, StartError> {
        let lines = Arc::new(Mutex::new(VecDeque::with_capacity(KEPT_LINES)));
        let (open, errors_end) = sync_channel(1);
        let stderr = child.stderr.take();
        let mut process = ChildProcess { name, child, lines: lines.clone(), errors_end, status: None };
        let read = move || {
            let _open = open;
            if let Some(stderr) = stderr {
                keep_lines(stderr, &lines, &secrets);
            }
        };
        let started = thread::Builder::new().name(format!("{name} messages")).stack_size(STACK_BYTES).spawn(read);
        match started {
            Ok(_) => Ok(process),
            Err(error) => {
                process.end();
                Err(StartError::Refused { program: name, error })
            }
        }
    }

    /// Takes the pipe of its standard output.
    pub(crate) fn output(&mut self) -> Option<File> {
        self.child.stdout.take().map(|pipe| File::from(OwnedFd::from(pipe)))
    }

    /// Takes the pipe of its standard input.
    pub(crate) fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Returns its name for messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Waits until it has ended by itself, at most until `until`. Returns whether it has.
    pub(crate) fn wait_until(&mut self, until: Instant) -> bool {
        while self.status.is_none() {
            if self.has_exited() {
                self.reap();
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }

    /// Ends it: SIGTERM first, SIGKILL if that does not help. Its own children go too.
    pub(crate) fn end(&mut self) {
        if self.status.is_some() {
            return;
        }
        self.signal(Signal::TERM);
        if !self.wait_exit(Instant::now() + POLITE_END) {
            self.signal(Signal::KILL);
        }
        self.reap();
    }

    /// Returns what it said last and how it ended, for a message: `ffmpeg: Connection refused`.
    pub(crate) fn last_words(&self) -> String {
        // Fails when the program has closed its standard error, which is what is waited for.
        let _ = self.errors_end.recv_timeout(LAST_WORDS);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said: Vec<&str> = lines.iter().map(String::as_str).filter(|line| is_informative(line)).collect();
        said.dedup();
        let said = said[said.len().saturating_sub(2)..].join("; ");
        match (said.is_empty(), self.status) {
            (false, _) => format!("{}: {said}", self.name),
            (true, Some(status)) => format!("{} has ended ({status})", self.name),
            (true, None) => format!("{} says nothing", self.name),
        }
    }

    /// Returns true when it has ended without a failure.
    pub(crate) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Returns true when it has exited. It stays a zombie until [`ChildProcess::reap`], so that its number is not given away.
    fn has_exited(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    fn wait_exit(&self, until: Instant) -> bool {
        while !self.has_exited() {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // A group that is gone needs no signal.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Kills what the program has started and left, and takes its exit status.
    fn reap(&mut self) {
        self.signal(Signal::KILL);
        self.status = self.child.wait().ok().or(Some(ExitStatus::default()));
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(name: &str, arguments: &[impl AsRef<OsStr>], piped: Piped) -> io::Result<Child> {
    let mut command = Command::new(name);
    command.args(arguments).stderr(Stdio::piped());
    // In a group of its own, Ctrl+C at the terminal reaches it only through this program.
    command.process_group(0);
    match piped {
        Piped::Input => {
            // An encoder must not take a CPU from the loop.
            // SAFETY: between fork and exec the closure makes one call, which is async-signal-safe: setpriority.
            unsafe { command.pre_exec(yield_cpu) };
            command.stdin(Stdio::piped()).stdout(Stdio::null())
        }
        Piped::Output | Piped::Order => {
            let parent = std::process::id();
            // SAFETY: between fork and exec the closure makes only calls that are async-signal-safe: prctl, getppid, _exit.
            unsafe { command.pre_exec(move || die_with(parent)) };
            match piped {
                Piped::Order => command.stdin(Stdio::piped()).stdout(Stdio::null()),
                _ => command.stdin(Stdio::null()).stdout(Stdio::piped()),
            }
        }
    };
    command.spawn()
}

/// Lowers the priority of the calling process. Fails never: at worst the priority stays.
fn yield_cpu() -> io::Result<()> {
    // SAFETY: no pointers; 0 is the calling process.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, YIELDING_NICE) };
    Ok(())
}

/// Makes the kernel kill the calling process when the thread that started it ends.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: no pointers; PR_SET_PDEATHSIG takes one number.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no arguments. The parent may have ended before the request.
    if unsafe { libc::getppid() } as u32 != parent {
        // SAFETY: ends this process, which has not yet become the other program.
        unsafe { libc::_exit(1) };
    }
    Ok(())
}

/// Keeps the last lines that a program prints, without secrets.
fn keep_lines(stderr: impl Read, lines: &Mutex<VecDeque<String>>, secrets: &[String]) {
    let mut reader = BufReader::new(stderr);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        let line: String = line.trim().chars().filter(|c| !c.is_control()).collect();
        if line.is_empty() {
            continue;
        }
        let line = redaction::without_secrets(without_address(&line), secrets);
        log::debug!("{}: {line}", thread::current().name().unwrap_or("child"));
        let mut kept = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// Returns a line of ffmpeg without the name and memory address of its part at the beginning: `[mov @ 0x55d0] moov ...`.
fn without_address(line: &str) -> &str {
    let part = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    part.filter(|(part, _)| part.contains(" @ 0x")).map_or(line, |(_, text)| text.trim_start())
}

/// Returns false for lines that say nothing by themselves.
fn is_informative(line: &str) -> bool {
    let noise = [
        "Additional debug info",
        "deprecated",
        "Conversion failed",
        "Setting pipeline",
        "Freeing pipeline",
        "../",
        "./",
    ];
    !noise.iter().any(|start| line.starts_with(start)) && !line.contains("deprecated")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Program {
            names: &["no-such-program-here", "sh"],
            packages: "dash",
            arguments,
            secrets: vec!["geheim".to_owned()],
        }
    }

    fn is_gone(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie whose new parent has not looked at it yet is dead too.
        stat.is_empty() || stat.contains(") Z ")
    }

    #[test]
    fn an_absent_program_is_named_with_its_package() {
        let program = Program { names: &["no-such-a", "no-such-b"], packages: "no-such", ..shell("") };
        let error = ChildProcess::start(&program, Piped::Output).expect_err("it is absent").to_string();
        assert_eq!(error, "the program no-such-a or no-such-b is not installed: sudo apt install no-such");
    }

    #[test]
    fn a_program_that_ignores_sigterm_and_its_children_are_killed() -> io::Result<()> {
        let script = "trap '' TERM; sleep 600 & echo $!; wait; sleep 600";
        let mut process = ChildProcess::start(&shell(script), Piped::Output).expect("sh is there");
        let mut line = String::new();
        BufReader::new(process.output().expect("a pipe")).read_line(&mut line)?;
        let grandchild: i32 = line.trim().parse().expect("a number");
        let own = process.child.id() as i32;
        assert!(!is_gone(own) && !is_gone(grandchild));
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{own}")).exists(), "it is reaped");
        let until = Instant::now() + Duration::from_secs(20);
        while !is_gone(grandchild) && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
        assert!(is_gone(grandchild));
        Ok(())
    }

    #[test]
    fn last_words_have_no_secrets() {
        let script = "echo 'rtsp://me:geheim@host/a: geheim is wrong' >&2; exit 3";
        let mut process = ChildProcess::start(&shell(script), Piped::Output).expect("sh is there");
        assert!(process.wait_until(Instant::now() + Duration::from_secs(60)));
        assert_eq!(process.last_words(), "sh: rtsp://host/a: *** is wrong");
        assert!(!process.succeeded());
        let mut silent = ChildProcess::start(&shell("exit 4"), Piped::Output).expect("sh is there");
        assert!(silent.wait_until(Instant::now() + Duration::from_secs(60)));
        assert_eq!(silent.last_words(), "sh has ended (exit status: 4)");
        assert_eq!(without_address("[tcp @ 0x1f] no route"), "no route");
        assert_eq!(without_address("[x] y"), "[x] y");
    }

    #[test]
    fn a_program_dies_with_the_thread_that_started_it() -> io::Result<()> {
        let started = thread::spawn(|| {
            let process = ChildProcess::start(&shell("exec sleep 600"), Piped::Output).expect("sh is there");
            let pid = process.child.id() as i32;
            // The thread ends without ending the program, as when this process is killed.
            std::mem::forget(process);
            pid
        });
        let pid = started.join().expect("no panic");
        let until = Instant::now() + Duration::from_secs(20);
        while !is_gone(pid) && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
        assert!(is_gone(pid));
        Ok(())
    }
}
