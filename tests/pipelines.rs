//! pipelines — every job under `pipelines/` runs as it stands and ends as its `expected.json` says;
//! those that are only planned have an `expected-plan.json`, to which `tests/plan.rs` holds them.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use mailshot_sink::{Behaviour, Rule};
use serde_json::Value;

use support::keys::Keys;
use support::process::{Process, mailshot};
use support::witness::{self, Witness};

/// The longest that a job of a few rows takes, its retries included.
const JOB: Duration = Duration::from_secs(60);

#[test]
fn every_pipeline_ends_as_expected() {
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut seen = 0;
    for entry in fs::read_dir(pipelines).expect("the pipelines") {
        let pipeline = entry.expect("a pipeline").path();
        if pipeline.join("expected-plan.json").exists() {
            continue;
        }
        run(&pipeline);
        seen += 1;
    }
    assert!(seen > 0, "there is a pipeline that runs");
}

/// Runs a copy of a job against a receiver of its own; only the route's port and the place of the
/// keys differ.
fn run(pipeline: &Path) {
    let folder = support::scratch();
    for entry in fs::read_dir(pipeline).expect("its files") {
        let path = entry.expect("a file").path();
        let to = folder.path().join(path.file_name().expect("a name"));
        fs::copy(&path, to).expect("copied");
    }
    let keys = Keys::make(folder.path());
    for (key, name) in [(keys.rsa(), "rsa.pem"), (keys.ed25519(), "ed25519.pem")] {
        fs::rename(key, folder.path().join(name)).expect("renamed");
    }
    let behaviour = Behaviour { rules: Rule::personalities(), ..Behaviour::default() };
    let witness = Witness::start(behaviour, witness::keys());
    let campaign = folder.path().join("campaign.toml");
    let text = fs::read_to_string(&campaign).expect("a campaign");
    fs::write(&campaign, text.replace(":2525", &format!(":{}", witness.port()))).expect("written");

    let mut command = mailshot();
    let command = command.args(["run", "--loopback-only", "campaign.toml"]);
    let finished = Process::start(command.current_dir(folder.path())).finish(JOB);
    let json = |path: &Path| -> Value {
        let text = fs::read_to_string(path).expect("it is there");
        serde_json::from_str(&text).expect("it is JSON")
    };
    let expected = json(&folder.path().join("expected.json"));
    assert_eq!(finished.status.code().map(Value::from), Some(expected["exit"].clone()));
    let runs = folder.path().join("runs").join(pipeline.file_name().expect("a name"));
    let run = fs::read_dir(runs).expect("its runs").map(|run| run.expect("a run").path());
    let run = run.filter(|path| path.is_dir()).last().expect("one run");
    let report = json(&run.join("report.json"));
    assert_eq!(report["sums"], expected["sums"], "{}", pipeline.display());
    assert_eq!(report["excluded"], expected["excluded"], "{}", pipeline.display());
    let arrived = witness::arrived(&witness.end()).len() as u64;
    assert_eq!(Some(arrived), expected["sums"]["delivered"].as_u64());
}
