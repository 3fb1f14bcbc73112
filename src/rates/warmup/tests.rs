//! tests — the laws of warming up, and the shipped schedules held to their form.

use proptest::prelude::*;

use super::*;

/// 2026-11-01.
const START: i64 = 20_758;
const DAY: Duration = Duration::from_secs(86_400);

fn schedule() -> Schedule {
    let cap = |daily: u64| Cap { daily: Some(daily), hourly: None };
    Schedule {
        name: "three".into(),
        stages: [100, 200, 400].map(cap).to_vec(),
        gate: Gate {
            deferral_max: Some(0.08),
            block_max: Some(0.02),
            bad_recipient_max: None,
            delivered_min: Some(0.5),
            at_least: 50,
            used_min: 0.5,
        },
        rewarm_after: 30 * DAY,
        source: "made up".into(),
    }
}

/// A day with so many attempts, of which so many were deferred and the rest delivered.
fn day(after: i64, attempts: u64, deferred: u64) -> Day {
    let delivered = attempts - deferred;
    let tally = Tally { attempts, delivered, deferred, ..Tally::default() };
    Day { day: START + after, tally }
}

/// The stage's number from 1 and why; "warm" when there is none.
fn told(after: i64, history: &[Day]) -> String {
    match stage_on(&schedule(), START, START + after, history) {
        Stage::Cold { why, stage, cap } => {
            assert_eq!(cap, schedule().stages[stage]);
            why.replace("stage ", "").replace(" of 3 of three", "")
        }
        Stage::Warm => "warm".into(),
    }
}

#[test]
fn good_days_bring_the_next_stage_and_bad_ones_do_not() {
    let good = [day(0, 100, 0), day(1, 200, 0), day(2, 400, 0)];
    for (after, history, expected) in [
        (0, &[][..], "1: the warm-up begins"),
        (-3, &[], "1: the warm-up begins"),
        (9, &[], "1: the warm-up begins"),
        (1, &good, "2: 2026-11-01 passed with 100 attempts"),
        (2, &good, "3: 2026-11-02 passed with 200 attempts"),
        (3, &good, "warm"),
        (25, &good, "warm"),
        (
            2,
            &[day(0, 100, 0), day(1, 200, 200)],
            "1: one back, as on 2026-11-02 100 % of 200 attempts were deferred, above 8 %",
        ),
        (1, &[day(0, 100, 8)], "2: 2026-11-01 passed with 100 attempts"),
        (
            1,
            &[day(0, 100, 9)],
            "1: held, as on 2026-11-01 9 % of 100 attempts were deferred, above 8 %",
        ),
        (1, &[day(0, 49, 49)], "1: held, as on 2026-11-01 49 attempts were too few to tell"),
        (
            2,
            &[day(0, 100, 0), day(1, 99, 0)],
            "2: held, as on 2026-11-02 only 99 of 200 were attempted",
        ),
        (5, &[day(0, 100, 0)], "2: 2026-11-01 passed with 100 attempts"),
    ] {
        assert_eq!(told(after, history), expected, "after {after} days of {history:?}");
    }
}

#[test]
fn blocks_and_what_is_not_delivered_count_too() {
    let with = |change: fn(&mut Tally)| {
        let mut bad = day(0, 100, 0);
        change(&mut bad.tally);
        told(1, &[bad])
    };
    let blocked = with(|tally| tally.blocked = 3);
    assert_eq!(blocked, "1: held, as on 2026-11-01 3 % of 100 attempts were blocked, above 2 %");
    let lost = with(|tally| tally.delivered = 40);
    assert_eq!(
        lost,
        "1: held, as on 2026-11-01 60 % of 100 attempts were not delivered, above 50 %"
    );
    assert!(with(|tally| tally.bad_recipients = 99).starts_with("2: "), "no condition, no matter");
}

#[test]
fn a_silent_source_begins_again() {
    let warm = [day(0, 100, 0), day(1, 200, 0), day(2, 400, 0)];
    assert_eq!(told(31, &warm), "warm");
    let again = "1: from the first again, as nothing was sent since 2026-11-03";
    assert_eq!(told(32, &warm), again);
    let later = [&warm[..], &[day(40, 100, 0)]].concat();
    assert_eq!(told(41, &later), "2: 2026-12-11 passed with 100 attempts");
}

#[test]
fn a_warm_source_stays_warm_whatever_a_day_brings() {
    let history = [day(0, 100, 0), day(1, 200, 0), day(2, 400, 0), day(3, 400, 400)];
    assert_eq!(told(4, &history), "warm");
}

fn index(stage: &Stage, schedule: &Schedule) -> usize {
    match stage {
        Stage::Cold { stage, .. } => *stage,
        Stage::Warm => schedule.stages.len(),
    }
}

fn histories() -> impl Strategy<Value = Vec<Day>> {
    let one = (-3_i64..120, 0_u64..500, 0_u64..60, 0_u64..20);
    let one = one.prop_map(|(after, attempts, deferred, blocked)| {
        let mut day = day(after, attempts, deferred.min(attempts));
        day.tally.blocked = blocked.min(attempts);
        day
    });
    prop::collection::vec(one, 0..80)
}

proptest! {
    #[test]
    fn a_stage_moves_by_one_a_day_or_back_to_the_first(history in histories()) {
        let schedule = schedule();
        let mut before = 0;
        for today in START..START + 125 {
            let now = index(&stage_on(&schedule, START, today, &history), &schedule);
            prop_assert!(now <= before + 1, "from {before} to {now}");
            prop_assert!(now + 1 >= before || now == 0, "from {before} to {now}");
            before = now;
        }
    }

    #[test]
    fn only_the_past_counts_in_whatever_pieces_it_comes(
        history in histories(),
        after in 0_i64..125,
    ) {
        let (schedule, today) = (schedule(), START + after);
        let whole = stage_on(&schedule, START, today, &history);
        let mut known: Vec<Day> = history.iter().filter(|d| d.day < today).copied().collect();
        prop_assert_eq!(&stage_on(&schedule, START, today, &known), &whole);
        known.reverse();
        let halves = known.iter().flat_map(|day| {
            let Tally { attempts, delivered, deferred, blocked, bad_recipients } = day.tally;
            let first = Tally { attempts: attempts / 2, ..Tally::default() };
            let attempts = attempts - attempts / 2;
            let rest = Tally { attempts, delivered, deferred, blocked, bad_recipients };
            [first, rest].map(|tally| Day { day: day.day, tally })
        });
        prop_assert_eq!(&stage_on(&schedule, START, today, &halves.collect::<Vec<_>>()), &whole);
    }
}

#[test]
fn the_shipped_schedules_are_as_published() {
    let shipped = shipped();
    let found: Vec<_> = shipped
        .iter()
        .map(|it| {
            let (first, last) = (it.stages[0], it.stages[it.stages.len() - 1]);
            let share = |cap: Cap| cap.daily.or(cap.hourly).unwrap();
            (it.name.as_str(), it.stages.len(), share(first), share(last))
        })
        .collect();
    assert_eq!(
        found,
        [
            ("sparkpost", 29, 200, 10_000_000),
            ("sendgrid", 17, 50, 4_000_000),
            ("sendgrid-automated", 36, 20, 2_603_222),
            ("mailtrap", 21, 300, 57_000),
            ("acelle", 30, 1_000, 250_000),
            ("momentum-yahoo", 28, 50_000, 1_400_000),
            ("momentum-gmail", 15, 10_000, 100_000),
            ("momentum-aol", 11, 1_000, 100_000),
        ]
    );
    for schedule in &shipped {
        let grows = |pair: &[Cap]| {
            pair[0].daily.unwrap_or(0) <= pair[1].daily.unwrap_or(0)
                && pair[0].hourly.unwrap_or(0) <= pair[1].hourly.unwrap_or(0)
        };
        assert!(schedule.stages.windows(2).all(grows), "{}", schedule.name);
        assert!(schedule.source.starts_with("https://"), "{}", schedule.name);
        assert_eq!(schedule.rewarm_after, 30 * DAY, "{}", schedule.name);
    }
    let acelle = &shipped[4].stages;
    assert_eq!(acelle[3], acelle[5], "what is not named is as on the day before");
}

#[test]
fn whoever_uses_a_shipped_schedule_to_the_full_becomes_warm() {
    for schedule in shipped() {
        let mut history = Vec::new();
        let mut today = START;
        while let Stage::Cold { cap, stage, .. } = stage_on(&schedule, START, today, &history) {
            assert_eq!(stage as i64, today - START, "{}", schedule.name);
            let attempts = cap.daily.or(cap.hourly.map(|hourly| hourly * 8)).unwrap();
            let tally = Tally { attempts, delivered: attempts, ..Tally::default() };
            history.push(Day { day: today, tally });
            today += 1;
        }
        assert_eq!(today - START, schedule.stages.len() as i64);
    }
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_place() {
    let text = r#"
[[schedule]]
name = "a"
source = ""
rewarm_after = "3h"
deferral_max = 8
at_leest = 5
used_min = 0.5
stages = [
    { day = 1, daily = 200 }, { day = 1, daily = 300 },
    { day = 3, daily = 100 }, { day = 4 }, { daily = 7 },
    { day = 400, daily = 0 }, 5,
]

[[schedule]]
name = "b"
"#;
    let problems = parse("w.toml", text).unwrap_err();
    let told: Vec<String> =
        problems.iter().map(|it| format!("{}: {}", it.place, it.what)).collect();
    assert_eq!(
        told,
        [
            "w.toml:4:10: source = \"\" is not possible",
            "w.toml:5:16: rewarm_after = \"3h\" is not possible",
            "w.toml:6:16: deferral_max = 8 is not possible",
            "w.toml:7:1: unknown key \"at_leest\"",
            "w.toml:10:31: day 1 where a later one than 1 is due",
            "w.toml:11:5: day 3 allows less than the day before",
            "w.toml:11:31: the stage limits nothing",
            "w.toml:11:44: day is missing",
            "w.toml:12:26: daily = 0 is not possible",
            "w.toml:12:31: stage = 5 is not possible",
            "w.toml:15:1: at_least is missing",
            "w.toml:15:1: rewarm_after is missing",
            "w.toml:15:1: source is missing",
            "w.toml:15:1: stages is missing",
            "w.toml:15:1: used_min is missing",
        ]
    );
    assert_eq!(problems[3].help, "did you mean \"at_least\"?");
}

#[test]
fn two_schedules_of_a_name_and_broken_lines_are_mistakes() {
    let one = "[[schedule]]\nname = \"a\"\nsource = \"me\"\nrewarm_after = \"30d\"\n\
               at_least = 50\nused_min = 0.5\nstages = [{ day = 1, hourly = 5 }]\n";
    assert_eq!(parse("w.toml", one).map(|schedules| schedules.len()), Ok(1));
    let twice = parse("w.toml", &one.repeat(2)).unwrap_err();
    assert_eq!(
        twice[0].to_string().lines().next(),
        Some("w.toml:8:1: there are two schedules \"a\"")
    );
    let broken = parse("w.toml", &one.replace("\"me\"", "\"me")).unwrap_err();
    assert!(broken[0].to_string().starts_with("w.toml:3:"), "{broken:?}");
    for (text, problems) in [("", 1), ("x = 1", 2), ("schedule = 5", 1), ("[[schedul]]", 1)] {
        let told = parse("w.toml", text).unwrap_err();
        assert_eq!(told.len(), problems, "{told:?}");
    }
}
