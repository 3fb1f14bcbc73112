//! support — what several test binaries need: campaigns, receivers, processes that end, the parts
//! of `tools/setup`.
//!
//! Everything that waits has a deadline and panics with what it waited for; everything that is
//! started is ended on drop. A test whose parts are missing says so loudly and passes, unless `CI`
//! or `MAILSHOT_REQUIRE_PARTS` is set: then it fails. Only `campaign` and what reads its files
//! knows campaigns.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod campaign;
pub(crate) mod keys;
pub(crate) mod nameserver;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod providers;
pub(crate) mod receiver;
pub(crate) mod tables;
pub(crate) mod witness;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder that `tools/setup` fills, once it has; otherwise `None` after a loud word on stderr.
/// `MAILSHOT_PARTS` names another one.
///
/// # Panics
/// When the folder is not complete and `CI` or `MAILSHOT_REQUIRE_PARTS` is set.
pub(crate) fn parts() -> Option<PathBuf> {
    let own = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("parts");
    let parts = std::env::var_os("MAILSHOT_PARTS").map_or_else(own, PathBuf::from);
    let needed = ["venv/complete", "opensmtpd/usr/sbin/smtpd"];
    match needed.iter().find(|part| !parts.join(part).exists()) {
        None => Some(parts),
        Some(missing) => {
            skip(&format!("{} is missing; run tools/setup", parts.join(missing).display()))
        }
    }
}

/// The Python of the tests, with aiosmtpd, dkimpy, DuckDB, Polars and PyArrow; see [`parts`].
pub(crate) fn python() -> Option<PathBuf> {
    parts().map(|parts| parts.join("venv/bin/python"))
}

/// Ends a test that cannot run here: a panic where everything must run, else a loud `None`.
pub(crate) fn skip<T>(why: &str) -> Option<T> {
    let must_run = ["CI", "MAILSHOT_REQUIRE_PARTS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    assert!(!must_run, "this test must run: {why}");
    // Past libtest's capture, so that it is seen without --nocapture.
    let warning = format!("\n*** SKIPPED, NOT TESTED: {why} ***\n\n");
    std::io::Write::write_all(&mut std::io::stderr(), warning.as_bytes()).ok();
    None
}

/// A path below `tests/interop`.
pub(crate) fn interop_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

/// A new folder that others may enter (mail receivers drop their privileges), removed on drop.
pub(crate) fn scratch() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix("mailshot-test-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("the temporary folder can be written")
}

/// A port of 127.0.0.1 that was free a moment ago; the kernel does not hand it out again at once.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A moment from now, for things that must end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The moment `wait` from now.
    #[expect(clippy::disallowed_methods, reason = "tests wait for other processes in real time")]
    pub(crate) fn after(wait: Duration) -> Deadline {
        Deadline(Instant::now() + wait)
    }

    /// Whether it is past.
    #[expect(clippy::disallowed_methods, reason = "tests wait for other processes in real time")]
    pub(crate) fn passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Asks `ready` every 20 ms until it gives a value.
///
/// # Panics
/// With `what`, when `limit` has passed.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(!deadline.passed(), "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
