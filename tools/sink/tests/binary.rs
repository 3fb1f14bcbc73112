//! The binary as a user runs it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

fn sink(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sink"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a sink on a free port and waits until it has told which.
fn start(arguments: &[&str]) -> (Child, SocketAddr) {
    let directory = tempfile::tempdir().expect("a place for the port file");
    let port_file = directory.path().join("port");
    let path = port_file.to_str().expect("temporary names are text");
    let arguments = [&["--listen", "127.0.0.1:0", "--port-file", path], arguments].concat();
    let mut child = sink(&arguments).spawn().expect("the binary is built");
    loop {
        if let Ok(text) = fs::read_to_string(&port_file) {
            let first = text.lines().next().expect("one address");
            return (child, first.parse().expect("an address"));
        }
        assert!(child.try_wait().expect("our child").is_none(), "it ended early");
        thread::yield_now();
    }
}

fn report(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.iter().filter(|&&octet| octet == b'\n').count(), 1, "one line");
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

fn send_one(address: SocketAddr) {
    let mut socket = BufReader::new(TcpStream::connect(address).expect("it listens"));
    let mail = "HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nX-Mailshot-Key: r-7\r\n.\r\n";
    socket.get_mut().write_all(mail.as_bytes()).expect("it reads");
    let replies = socket.lines().take(6).map(|line| line.expect("it answers"));
    assert_eq!(replies.last().as_deref(), Some("250 Ok"));
}

#[test]
fn a_signal_ends_it_with_a_report() {
    for signal in [Signal::TERM, Signal::INT] {
        let (child, address) = start(&["--check", "keys"]);
        send_one(address);
        kill_process(Pid::from_child(&child), signal).expect("our child");
        let report = report(&child.wait_with_output().expect("our child"));
        assert_eq!(report["ended"], "stopped");
        assert_eq!(report["listen"][0], address.to_string());
        assert_eq!(report["counts"]["messages"], 1);
        assert_eq!(report["keys"]["runs"]["r"]["highest"], 7);
        assert!(report["dkim"].is_null());
    }
}

#[test]
fn the_expected_messages_end_it() {
    let (child, address) = start(&["--expect", "1"]);
    send_one(address);
    let report = report(&child.wait_with_output().expect("our child"));
    assert_eq!((&report["ended"], &report["counts"]["messages"]), (&"complete".into(), &1.into()));
}

#[test]
fn providers_come_from_a_file_of_arguments() {
    let directory = tempfile::tempdir().expect("a place for files");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let (providers, log) = (path("providers"), path("log"));
    let lists = r#"[["--listen", "127.0.3.1:0", "--rule", "* = bounce"],
                    ["--listen", "127.0.4.1:0", "--listen", "127.0.4.2:0", "--pace", "5/1s"]]"#;
    fs::write(&providers, lists).expect("scratch is writable");
    let (child, address) = start(&["--providers", &providers, "--attempts", &log]);
    send_one(address);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("our child");
    let report = report(&child.wait_with_output().expect("our child"));
    assert_eq!(report["listen"].as_array().map(Vec::len), Some(4));
    assert!(report["log_error"].is_null());
    assert_eq!(mailshot_sink::attempts::read(log.as_ref()).expect("whole").len(), 3);
    for (lists, text) in [("[[]]", "--listen"), ("[5]", "list of arguments"), ("[[\"x\"]]", "x")] {
        fs::write(&providers, lists).expect("scratch is writable");
        let output = sink(&["--providers", &providers]).output().expect("the binary is built");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{lists}: {error}");
        assert!(error.contains(text), "{lists}: {error}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let cases = [
        (&["--listen", "0.0.0.0:2525"][..], 1, "0.0.0.0:2525 is no loopback address"),
        (&["--dkim-key", "x"], 1, "line 1: expected selector._domainkey.domain=record"),
        (&["--banner-code", "99"], 1, "expected a reply"),
        (&["--rule", "nonsense"], 2, "expected PATTERN = ACTION"),
        (&["--listen", "nowhere"], 2, "invalid"),
    ];
    for (arguments, code, text) in cases {
        let output = sink(arguments).output().expect("the binary is built");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}

#[test]
fn help_begins_with_examples() {
    let output = sink(&["--help"]).output().expect("the binary is built");
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.starts_with("Examples:"), "{help}");
    assert!(help.contains("loopback addresses only"), "{help}");
}
