//! exit — the exit codes, and the one error type that carries them to `main`.
//!
//! The codes are those that operators know from restic and rclone: a small documented set; a code
//! that is not listed is a failure. They are part of the interface: new ones may be added, the
//! meaning of one never changes.

use std::fmt;

use crate::problem::Problem;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything asked for is done.
    Done = 0,
    /// Something that is none of the below.
    Internal = 1,
    /// The command line is wrong (clap's own code).
    Usage = 2,
    /// The campaign, a template or a key is wrong, or changed under a run.
    Campaign = 3,
    /// The recipient list cannot be used.
    List = 4,
    /// The run ended, but some rows expired or are in doubt.
    Incomplete = 5,
    /// What is left was halted by a receiver's reply or a threshold, and waits for a person.
    Halted = 6,
    /// The disk is full or damaged; the run can be resumed.
    Storage = 8,
    /// Another process works on the campaign.
    Locked = 11,
    /// This system does not allow what delivery needs.
    System = 14,
    /// Interrupted; the state is saved, the run can be resumed.
    Interrupted = 130,
    /// Terminated; the state is saved, the run can be resumed.
    Terminated = 143,
}

/// The table for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
    0  done: every row is excluded, delivered or bounced
    1  internal error
    2  wrong command line
    3  campaign, template or key is wrong, or changed since the run began
    4  recipient list cannot be used
    5  ended, but some rows expired, are in doubt or were cancelled (see the report)
    6  what is left was halted and waits for somebody to mend the cause (mailshot resume)
    8  spool or ledger could not be written; make room and run again to resume
   11  another mailshot works on this campaign
   14  this system forbids what delivery needs (io_uring)
  130  interrupted (SIGINT); state saved, run again to resume
  143  terminated (SIGTERM); state saved, run again to resume
New codes may be added; treat an unknown code as a failure.";

/// What ends a command early: a code and everything that the operator should read.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One or more lines for stderr.
    pub message: String,
}

impl Failure {
    /// A failure with one message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }

    /// All problems, one below the other, and how many they are.
    pub fn problems(exit: Exit, problems: &[Problem]) -> Failure {
        let mut message = String::new();
        for problem in problems {
            message.push_str(&problem.to_string());
            message.push('\n');
        }
        let plural = if problems.len() == 1 { "" } else { "s" };
        message.push_str(&format!("{} problem{plural}; nothing was sent", problems.len()));
        Failure { exit, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
