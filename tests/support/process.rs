//! process — child processes with a time limit, whose whole group ends with their guard.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{scratch, wait_for};

/// A started process, leader of a group of its own; the group is killed on drop.
pub(crate) struct Process {
    child: Child,
    output: tempfile::TempDir,
}

/// What a process left: its exit status and all it wrote.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code or signal.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `command` without input, its output going to files (no pipe can fill up).
    pub(crate) fn start(command: &mut Command) -> Process {
        let output = scratch();
        let file =
            |name: &str| File::create(output.path().join(name)).expect("scratch is writable");
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child, output }
    }

    /// The process id, which is also that of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output and standard error so far.
    pub(crate) fn written(&self) -> (String, String) {
        let read = |name: &str| {
            let octets = std::fs::read(self.output.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&octets).into_owned()
        };
        (read("stdout"), read("stderr"))
    }

    /// Its exit status, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When `limit` passes; the message has what the process wrote.
    pub(crate) fn finish(mut self, limit: Duration) -> Finished {
        let (stdout, stderr) = self.written();
        let what = format!("process {} to end; it wrote:\n{stdout}{stderr}", self.id());
        let status = wait_for(&what, limit, || self.ended());
        let (stdout, stderr) = self.written();
        Finished { status, stdout, stderr }
    }

    /// Sends `signal` to the whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process_group(group.expect("a process id is a positive i32"), signal).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().ok();
    }
}

/// Runs `command` to its end and returns its standard output.
///
/// # Panics
/// When it does not end with exit code 0 within `limit`.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> String {
    let finished = Process::start(command).finish(limit);
    assert!(
        finished.status.success(),
        "{command:?} ended with {}\n{}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    finished.stdout
}

/// The `mailshot` under test.
pub(crate) fn mailshot() -> Command {
    Command::new(PathBuf::from(env!("CARGO_BIN_EXE_mailshot")))
}
