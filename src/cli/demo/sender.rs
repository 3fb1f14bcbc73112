//! sender — this program once more, as a process of its own that can be killed.
//!
//! It is what the user would type, with nothing of the demo in it. When the demo ends early the
//! process is killed with it.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use signal_hook::consts::SIGKILL;

use super::super::{Exit, Failure};
use super::project::CAMPAIGN_FILE;

/// The command that sends, and that resumes.
pub(super) const RUN: [&str; 3] = ["run", "-q", "--loopback-only"];
/// The command that looks for mistakes.
pub(super) const CHECK: [&str; 1] = ["check"];
/// Between two looks at the receiver's count, in which some ten messages arrive.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A running `mailshot`, killed on drop.
#[derive(Debug)]
pub(super) struct Sender {
    child: Child,
}

/// How watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// What was waited for is there; the process still runs.
    Enough,
    /// The process ended by itself.
    Ended,
}

impl Sender {
    /// Starts a subcommand on the campaign of this directory. Settings of this process's
    /// environment are not handed on: they could begin another run.
    ///
    /// # Errors
    /// When the system starts no process.
    pub(super) fn start(words: &[&str], directory: &Path) -> Result<Sender, Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::new(Exit::System, error))?;
        let mut command = Command::new(&program);
        command.args(words).arg(CAMPAIGN_FILE).current_dir(directory);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MAILSHOT_") {
                command.env_remove(name);
            }
        }
        let started =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = started.map_err(|error| {
            Failure::new(Exit::System, format!("{}: {error}", program.display()))
        })?;
        Ok(Sender { child })
    }

    /// Looks every now and then until `enough` says so or the process has ended.
    ///
    /// # Errors
    /// When the system does not say whether the process runs.
    pub(super) fn watch(&mut self, mut enough: impl FnMut() -> bool) -> Result<Watched, Failure> {
        loop {
            let ended = self.child.try_wait().map_err(|error| Failure::new(Exit::System, error))?;
            if ended.is_some() {
                return Ok(Watched::Ended);
            }
            if enough() {
                return Ok(Watched::Enough);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Kills it with SIGKILL, which no process can see coming, and waits until it is gone.
    ///
    /// # Errors
    /// When the system does not do it, or the process ended by itself at the last moment.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        let status = ended.map_err(|error| Failure::new(Exit::System, error))?;
        match status.signal() == Some(SIGKILL) {
            true => Ok(()),
            false => Err(Failure::new(Exit::Internal, format!("not killed, but {status}"))),
        }
    }

    /// Waits for an end with one of these exits; the exit and what it wrote to stdout.
    ///
    /// # Errors
    /// Any other end, with what the process complained about.
    pub(super) fn finish(mut self, good: &[Exit]) -> Result<(Exit, String), Failure> {
        let (mut said, mut complained) = (String::new(), String::new());
        // One after the other will do: neither fills its pipe (64 KiB, pipe(7)) while the other is
        // read, for what a quiet command says fits two screens.
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let status = stdout
            .map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut said))
            .and(stderr.map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut complained)))
            .and_then(|_| self.child.wait())
            .map_err(|error| Failure::new(Exit::System, error))?;
        let is = |exit: &&Exit| status.code() == Some(**exit as i32);
        match good.iter().find(is) {
            Some(exit) => Ok((*exit, said)),
            None => {
                // What ails the machine ails the demo too; anything else is not the user's doing.
                let ailments = [Exit::Storage, Exit::System];
                let exit = ailments.iter().find(is).copied().unwrap_or(Exit::Internal);
                let message = format!("the sender ended with {status}; it said:\n{complained}");
                Err(Failure::new(exit, message.trim_end()))
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Both say no only of a process that has ended and been waited for.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A command as the user would type it in the directory.
pub(super) fn typed(words: &[&str]) -> String {
    format!("mailshot {} {CAMPAIGN_FILE}", words.join(" "))
}
