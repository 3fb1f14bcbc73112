//! bad_input — what goes wrong before or around a run: one clear error, the right exit code, and
//! nothing sent that should not be; what is wrong with one row is the matter of that row.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mailshot::outcome::Kind;
use mailshot_sink::{Behaviour, Checks};
use rustix::process::Signal;

use support::campaign::{Campaign, RUN};
use support::port::ReservedPort;
use support::process::{Finished, Process, succeed};
use support::tables;
use support::witness::{self, Witness};
use support::{skip, wait_for};

/// Asserts that `run` and `check` end with this code, say each of these, and open no connection.
fn refused(campaign: &Campaign, witness: &Witness, exit: i32, words: &[&str]) {
    for command in ["check", "run"] {
        let finished = Process::start(&mut campaign.command(command, &[])).finish(RUN);
        assert_says(&finished, exit, words);
    }
    witness.saw_nothing();
    assert_eq!(campaign.runs(), [] as [&Path; 0], "nothing was begun");
}

fn assert_says(finished: &Finished, exit: i32, words: &[&str]) {
    let stderr = &finished.stderr;
    assert_eq!(finished.status.code(), Some(exit), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not said:\n{stderr}");
    }
}

#[test]
fn mistakes_in_the_files_are_shown_where_they_are_and_nothing_is_sent() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 3);
    let letter = campaign.path("letter.txt").display().to_string();
    let cases: [(&str, &str, i32, &[&str]); 6] = [
        (
            "letter.txt",
            "Hello\n{{ nmae }}\n",
            3,
            &[":2:", "nmae", "did you mean name?", "1 problem"],
        ),
        ("letter.txt", "Hello\n\n{% if name %}\nHi\n", 3, &[&letter, "1 problem"]),
        ("letter.txt", "Hello {{ name | shout }}\n", 3, &[":1:", "shout", "1 problem"]),
        ("list.csv", "mail,name\na@example.com,A\n", 4, &["list.csv", "did you mean \"mail\""]),
        ("list.csv", "", 4, &["list.csv", "1 problem"]),
        ("list.csv", "email,email\na@example.com,b@example.com\n", 4, &["list.csv", "email"]),
    ];
    for (file, content, exit, words) in cases {
        let before = fs::read(campaign.path(file)).expect("it is there");
        campaign.put(file, content);
        refused(&campaign, &witness, exit, words);
        campaign.put(file, before);
    }
}

#[test]
fn a_list_without_rows_is_a_run_without_messages() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 0);
    campaign.run_expecting(0);
    assert_eq!((campaign.sum("rows"), campaign.sum("delivered")), (0, 0));
    witness.saw_nothing();
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 3);
    for (file, exit) in [("list.csv", 4), ("letter.txt", 3), ("campaign.toml", 3)] {
        let (path, kept) = (campaign.path(file), campaign.path("kept"));
        fs::rename(&path, &kept).expect("it can be moved");
        refused(&campaign, &witness, exit, &[file, "cannot be read", "1 problem"]);
        // A directory is there and cannot be read, even by root.
        fs::create_dir(&path).expect("its name is free");
        refused(&campaign, &witness, exit, &[file, "cannot be read", "1 problem"]);
        fs::remove_dir(&path).expect("it is empty");
        fs::rename(&kept, &path).expect("it can be moved back");
    }
    campaign.put("letter.txt", b"Hello \xff\n");
    refused(&campaign, &witness, 3, &["letter.txt", "UTF-8"]);
}

#[test]
fn a_key_that_must_not_be_used_is_refused() {
    let witness = Witness::friendly();
    let top = "subject = \"News\"\n";
    let dkim = "[[dkim]]\ndomain = \"sender.example\"\nselector = \"s\"\nkey_file = \"key.pem\"";
    let campaign = Campaign::new(witness.port(), 3).top(top).sections(dkim);
    refused(&campaign, &witness, 3, &["key.pem", "1 problem"]);

    let key = campaign.path("key.pem");
    let openssl = |arguments: &[&str]| {
        succeed(Command::new("openssl").args(arguments).arg(&key), RUN);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
    };
    openssl(&["genpkey", "-quiet", "-algorithm", "ED25519", "-out"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    refused(&campaign, &witness, 3, &["key.pem", "chmod 600", "1 problem"]);

    openssl(&[
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:1024",
        "-out",
    ]);
    refused(&campaign, &witness, 3, &["key.pem", "1024", "1 problem"]);
    campaign.put("key.pem", "this is no key\n");
    refused(&campaign, &witness, 3, &["key.pem", "1 problem"]);
}

#[test]
fn all_mistakes_of_a_file_come_at_once() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 3);
    let mistakes = "id = \"no/slash\"\nfrom = \"nobody\"\nreturn_path = \"bounce\"\n\
        subjekt = \"News\"\n[content]\ntext = 17\n[recipients]\nfile = \"list.csv\"\n\
        delimiter = \"tabulator\"\n[delivery]\nroute = \"somewhere\"\nrate = \"20\"\n\
        connection = 4\nconnections = 0\nretry = []\non_doubt = \"guess\"\n";
    campaign.put("campaign.toml", mistakes);
    let places = [2, 3, 6, 9, 11, 12, 13, 14, 15, 16].map(|line| format!("campaign.toml:{line}:"));
    let mut words: Vec<&str> = places.iter().map(String::as_str).collect();
    words.extend(["campaign.toml:1:", "subject", "connections", "nothing was sent"]);
    refused(&campaign, &witness, 3, &words);
}

#[test]
fn a_bad_row_is_excluded_and_the_others_go_on() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 0);
    let list: &[&[u8]] = &[
        b"email,name\n",
        b"a@example.com,Ann\n",
        b"b@example.com,B\xff\xfeb\n",
        b"no address,Nobody\n",
        b",Empty\n",
        b"A@example.com,Ann again\n",
        b"c@example.com,Carl,more\n",
        b"d@example.com,Dora\n",
    ];
    campaign.put("list.csv", list.concat());
    let finished = campaign.run_expecting(0);
    for word in ["not_utf8", "invalid_address", "missing_address", "duplicate", "field_count"] {
        assert!(finished.stderr.contains(word), "{}", finished.stderr);
    }
    let reasons: Vec<(u32, String, Option<String>)> =
        tables::messages(&campaign, &campaign.run_dir())
            .into_iter()
            .map(|message| (message.row, message.state, message.reason))
            .collect();
    let excluded = |row, reason: &str| (row, "excluded".to_owned(), Some(reason.to_owned()));
    assert_eq!(
        reasons,
        [
            (1, "delivered".to_owned(), None),
            excluded(2, "not_utf8"),
            excluded(3, "invalid_address"),
            excluded(4, "missing_address"),
            excluded(5, "duplicate"),
            excluded(6, "field_count"),
            (7, "delivered".to_owned(), None),
        ]
    );
    assert_eq!(witness::arrived(&witness.end()), [1, 7]);
}

#[test]
fn a_row_injects_neither_headers_nor_commands() {
    let store = support::scratch();
    let checks = Checks { store: Some(store.path().to_owned()), form: true, ..witness::keys() };
    let witness = Witness::start(Behaviour::default(), checks);
    let campaign = Campaign::new(witness.port(), 0).top(
        "unsigned = true\nsubject = \"News for {{ name }}\"\nto_name = \"{{ name }}\"\n\
         [headers]\nX-Group = \"{{ group }}\"\n",
    );
    campaign.put("letter.txt", "Dear {{ name }},\n{{ note }}\nBye\n");
    let evil = "Bcc: evil@example.com";
    let rows = [
        ("a@example.com", "Ann".to_owned(), "g".to_owned(), "fine".to_owned()),
        ("b@example.com", format!("B\r\n{evil}"), "g".to_owned(), String::new()),
        ("c@example.com", format!("C\n{evil}"), "g".to_owned(), String::new()),
        ("d@example.com", format!("D\r{evil}"), "g".to_owned(), String::new()),
        ("e@example.com", "E\0".to_owned(), "g".to_owned(), String::new()),
        ("f@example.com", "F".to_owned(), format!("g\n{evil}"), String::new()),
        (
            "g@example.com>\r\nRCPT TO:<evil@example.com",
            "G".to_owned(),
            String::new(),
            String::new(),
        ),
        // In the body these are just lines.
        (
            "h@example.com",
            "H".to_owned(),
            "g".to_owned(),
            format!("{evil}\r\n.\r\nMAIL FROM:<x@y.z>\r\n."),
        ),
    ];
    let mut list = String::from("email,name,group,note\n");
    for (address, name, group, note) in rows {
        list.push_str(&format!("\"{address}\",\"{name}\",\"{group}\",\"{note}\"\n"));
    }
    campaign.put("list.csv", list);
    campaign.run_expecting(0);
    let states: BTreeMap<u32, Option<String>> = tables::messages(&campaign, &campaign.run_dir())
        .into_iter()
        .map(|message| (message.row, message.reason))
        .collect();
    let unsafe_header = Some("unsafe_header".to_owned());
    for row in 2..=6 {
        assert_eq!(states[&row], unsafe_header, "row {row}");
    }
    assert_eq!(states[&7], Some("invalid_address".to_owned()));

    let report = witness.end();
    assert_eq!(witness::arrived(&report), [1, 8]);
    assert_eq!(report.counts.bad_commands, 0);
    for message in stored(store.path()) {
        let (head, body) = message.split_once("\r\n\r\n").expect("a head and a body");
        assert!(!head.contains("Bcc") && !head.contains("evil"), "{head}");
        let to_row_8 = head.contains("<h@example.com>");
        let lines = format!("{evil}\r\n=2E\r\nMAIL FROM:<x@y.z>\r\n=2E\r\nBye\r\n");
        assert_eq!(body.contains(&lines), to_row_8, "{body}");
    }
}

fn stored(store: &Path) -> Vec<String> {
    let files = fs::read_dir(store).expect("the sink made it");
    let paths = files.map(|file| file.expect("readable").path());
    paths.map(|path| fs::read_to_string(path).expect("a message in ASCII")).collect()
}

/// Runs `script` with `$MAILSHOT`, in the campaign's folder, with mounts that vanish with it; what
/// it printed. `None`, loudly, without root.
fn in_own_mounts(campaign: &Campaign, script: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return skip("a full disk needs root to mount one");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc"]).arg(script);
    command.current_dir(campaign.path("")).env("MAILSHOT", env!("CARGO_BIN_EXE_mailshot"));
    Some(succeed(&mut command, RUN))
}

#[test]
fn a_full_disk_is_exit_8_and_with_room_the_run_goes_on() {
    let witness = Witness::friendly();
    // 40,000 rows make an index of more than a megabyte, which is more than one write.
    let campaign = Campaign::new(witness.port(), 40_000);
    let script = "mkdir -p runs; mount -t tmpfs -o size=512k tmpfs runs
        run() { $MAILSHOT run -q campaign.toml 2>&1 && echo exit 0 || echo exit $?; }
        echo index; run
        mount -o remount,size=100m runs; echo ledger; run
        mount -o remount,size=140m runs; echo spool; run
        mount -o remount,size=300m runs; echo room; run";
    let Some(said) = in_own_mounts(&campaign, script) else { return };
    let parts: Vec<&str> = said.split_inclusive("exit ").collect();
    assert_eq!(parts.len(), 5, "{said}");
    for (part, file, exit) in [
        (0, "recipients.idx", '8'),
        (1, "ledger/000002.log", '8'),
        (2, "spool/", '8'),
        (3, "", '0'),
    ] {
        assert!(parts[part].contains(file), "{file}: {said}");
        assert!(parts[part + 1].starts_with(exit), "{file}: {said}");
    }
    let report = witness.end();
    assert_eq!(witness::arrived(&report), (1..=40_000).collect::<Vec<_>>());
    assert_eq!(report.keys.expect("keys were looked at").duplicates, 0);
}

#[test]
fn a_disk_that_fills_up_under_a_run_loses_no_outcome() {
    let slow = Behaviour { delay: Duration::from_millis(5), ..Behaviour::default() };
    let witness = Witness::start(slow, witness::keys());
    let campaign = Campaign::new(witness.port(), 2_000);
    // The last segment is there: all that delivery needs is preallocated.
    let script = "mkdir -p runs accounting
        mount -t tmpfs -o size=200m tmpfs runs; mount -t tmpfs -o size=4k tmpfs accounting
        run() { $MAILSHOT run -q campaign.toml 2>&1 && echo exit 0 || echo exit $?; }
        run > first & until ls runs/*/*/spool/000007.seg >&2; do sleep 0.01; done
        cat /dev/zero > runs/fill || :
        wait; cat first
        mount -o remount,size=9m accounting; run
        rm runs/fill; run; run
        cp -r runs kept; umount runs; cp -r kept/* runs";
    let Some(said) = in_own_mounts(&campaign, script) else { return };
    let exits: Vec<&str> = said.lines().filter(|line| line.starts_with("exit ")).collect();
    assert_eq!(exits, ["exit 8", "exit 8", "exit 0", "exit 0"], "{said}");
    let report = witness.end();
    assert_eq!(witness::arrived(&report), (1..=2_000).collect::<Vec<_>>());
    assert_eq!(report.keys.expect("keys were looked at").duplicates, 0);
    assert!(campaign.ends().values().all(|end| end.kind == Kind::Delivered));
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_death() {
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 10);
    let mut limited = Command::new("prlimit");
    limited.arg("--fsize=1000000").arg(env!("CARGO_BIN_EXE_mailshot"));
    limited.arg("run").arg(campaign.path("campaign.toml"));
    let finished = Process::start(&mut limited).finish(RUN);
    assert_says(&finished, 8, &["ledger/000001.log", "File too large"]);
    witness.saw_nothing();
    campaign.run_expecting(0);
    assert_eq!(witness::arrived(&witness.end()), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_receiver_that_never_answers_expires_every_row() {
    let port = ReservedPort::new();
    let delivery = "retry = [\"1s\"]\nexpire_after = \"3s\"";
    let campaign = Campaign::new(port.number(), 300).delivery(delivery);
    let finished = campaign.start().finish(Duration::from_secs(30));
    assert_says(&finished, 5, &["expired 300 (100.00 %)"]);
    assert_eq!(campaign.sum("expired"), 300);
    assert!(campaign.ends().values().all(|end| end.kind == Kind::Expired));
}

#[test]
fn a_receiver_that_comes_back_gets_everything() {
    let port = ReservedPort::new();
    let delivery = "retry = [\"1s\"]\nexpire_after = \"5m\"";
    let campaign = Campaign::new(port.number(), 300).delivery(delivery);
    let process = campaign.start();
    let deferred = || {
        let run = campaign.runs().pop()?;
        let text = fs::read_to_string(run.join("status.json")).ok()?;
        let status: serde_json::Value = serde_json::from_str(&text).ok()?;
        (status["deferred_attempts"].as_u64()? > 0).then_some(())
    };
    wait_for("a first refusal", RUN, deferred);
    let witness = Witness::start_at(port.number(), Behaviour::default(), witness::keys());
    assert_says(&process.finish(RUN), 0, &["delivered 300 (100.00 %)"]);
    let report = witness.end();
    assert_eq!(witness::arrived(&report), (1..=300).collect::<Vec<_>>());
    assert_eq!(report.keys.expect("keys were looked at").duplicates, 0);
}

/// Runs its arguments under a seccomp filter that refuses io_uring_setup (system call 425 on every
/// architecture) with EPERM, as container runtimes do: load the number, compare, refuse or allow.
const WITHOUT_IO_URING: &str = "
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
program = struct.pack('HxxxxxxP', len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn forbidden_io_uring_is_exit_14_and_the_cause_is_named() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("python3 is missing; it sets the seccomp filter").unwrap_or(());
    }
    let witness = Witness::friendly();
    let campaign = Campaign::new(witness.port(), 3);
    let mut run = Command::new("python3");
    run.args(["-c", WITHOUT_IO_URING, env!("CARGO_BIN_EXE_mailshot"), "run"]);
    run.arg(campaign.path("campaign.toml"));
    let finished = Process::start(&mut run).finish(RUN);
    assert_says(&finished, 14, &["io_uring", "seccomp"]);
    witness.saw_nothing();
    campaign.run_expecting(0);
    assert_eq!(witness::arrived(&witness.end()), [1, 2, 3]);
}

#[test]
fn a_second_process_is_refused_at_once() {
    let slow = Behaviour { delay: Duration::from_millis(20), ..Behaviour::default() };
    let witness = Witness::start(slow, witness::keys());
    let campaign = Campaign::new(witness.port(), 400).delivery("connections = 5");
    let first = campaign.start();
    witness.await_accepted(1, RUN);
    let second = campaign.run();
    assert_says(&second, 11, &["another mailshot works on this campaign", "lock"]);
    assert!(witness.accepted() < 400, "the second one did not wait for the first");
    assert_says(&first.finish(RUN), 0, &[]);
    let report = witness.end();
    assert_eq!(witness::arrived(&report), (1..=400).collect::<Vec<_>>());
    assert_eq!(report.keys.expect("keys were looked at").duplicates, 0);
}

#[test]
fn a_run_goes_on_only_with_what_it_was_begun_with() {
    let slow = Behaviour { delay: Duration::from_millis(10), ..Behaviour::default() };
    let witness = Witness::start(slow, witness::keys());
    let campaign = Campaign::new(witness.port(), 500).delivery("connections = 2");
    let process = campaign.start();
    witness.await_accepted(20, RUN);
    process.signal(Signal::TERM);
    assert_says(&process.finish(RUN), 143, &["run again to resume"]);
    let before = witness.seen();
    assert!(before.messages < 500);
    assert!(campaign.attempts().iter().all(|end| end.kind == Kind::Delivered), "it drained");
    assert_eq!(campaign.attempts().len() as u64, before.messages);

    for file in ["letter.txt", "list.csv", "campaign.toml"] {
        let kept = fs::read(campaign.path(file)).expect("it is there");
        campaign.put(file, [&kept[..], b"\n"].concat());
        let finished = campaign.run();
        let sum = |octets: &[u8]| hex_sha256(octets);
        let (was, is) = (sum(&kept), sum(&[&kept[..], b"\n"].concat()));
        assert_says(&finished, 3, &[file, &was, &is, "--new-run"]);
        campaign.put(file, kept);
    }
    assert_eq!(witness.seen(), before, "nothing was sent meanwhile");

    campaign.run_expecting(0);
    assert_eq!(campaign.runs().len(), 1);
    assert_eq!(witness.accepted(), 500);
    let seen = witness.seen();
    let finished = campaign.run_expecting(0);
    assert!(finished.stderr.contains("nothing to do"), "{}", finished.stderr);
    assert_eq!(witness.seen(), seen, "a finished run does nothing");

    campaign.put("letter.txt", "Another text.\n");
    assert_says(&campaign.run(), 3, &["letter.txt", "--new-run"]);
    let mut again = campaign.command("run", &["--new-run"]);
    assert_says(&Process::start(&mut again).finish(RUN), 0, &[]);
    assert_eq!(campaign.runs().len(), 2);
    let report = witness.end();
    let keys = report.keys.expect("keys were looked at");
    assert_eq!((keys.distinct, keys.duplicates, keys.runs.len()), (1_000, 0, 2));
}

fn hex_sha256(octets: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}
