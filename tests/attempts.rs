//! attempts — one campaign to mail hosts that count for themselves: its limits hold in windows of
//! every length.

mod support;

use std::time::Duration;

use mailshot_sink::windows::Limits;
use support::campaign::Campaign;
use support::providers::{Providers, Seen, Spec};
use support::witness::keys;

/// How late the sink may read a command on a busy machine. It hides no steady excess.
const LATE: Duration = Duration::from_millis(100);

#[test]
fn rate_connections_and_reuse_hold_in_every_window() {
    const ROWS: u32 = 300;
    let rate = (200, Duration::from_secs(1));
    let limits = Limits {
        rates: vec![rate],
        connections: Some(3),
        messages_per_connection: Some(7),
        ramp: None,
    };
    // The address of the campaign's route; its other half shows that nobody strays.
    let hosts = vec![[127, 0, 0, 1].into(), [127, 0, 9, 1].into()];
    let spec = Spec { hosts, each: limits.clone(), total: limits, ..Spec::friendly("relay", 9, 0) };
    let providers = Providers::start(vec![spec], keys());
    let campaign = Campaign::new(providers.port(), ROWS)
        .delivery("connections = 3\nmessages_per_connection = 7\nrate = \"200/s\"");
    campaign.run_expecting(0);
    let seen = providers.end();
    assert_eq!(seen.report.counts.messages, u64::from(ROWS));
    seen.kept_all_limits(LATE);
    let (each, total) = seen.arrivals("relay");
    assert_eq!((each.len(), total.recipients.len()), (1, ROWS as usize));
    assert!(total.by_connection.len() >= (ROWS as usize).div_ceil(7));
}

#[test]
fn a_share_is_of_what_the_rate_allows() {
    let rate = (100, Duration::from_secs(1));
    for (times, expected) in
        [(&[0, 10_000, 20_000][..], 1.0), (&[5, 40_005], 0.25), (&[0, 1_000, 2_000, 40_000], 0.75)]
    {
        let share = Seen::share_used(times, rate);
        assert!((share - expected).abs() < 1e-9, "{times:?}: {share}");
    }
}
