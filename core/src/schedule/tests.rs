//! Schedules against the calendar: instants looked up in the time zone database, and an oracle.
//!
//! Windows are compared with a walk over every minute around clock changes: a start happens when
//! local time first reaches it.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{prelude::*, sample::select};
use rstest::rstest;

use super::*;

fn at(text: &str) -> Timestamp {
    let time = DateTime::parse_from_rfc3339(text).unwrap();
    Timestamp::from_millis(time.timestamp_millis())
}

fn text(at: Timestamp) -> String {
    let time = DateTime::from_timestamp_millis(at.as_millis()).unwrap();
    let text = time.naive_utc().to_string().replace(' ', "T");
    text.strip_suffix(":00").unwrap_or(&text).to_owned() + "Z"
}

fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

fn schedule(cron: &str, zone: &str, duration: Duration) -> Schedule {
    Schedule {
        cron: cron.parse().unwrap(),
        time_zone: zone.parse().unwrap(),
        duration,
        replicas: PerRole::default(),
    }
}

fn with(mut schedule: Schedule, min: Option<u32>, max: Option<u32>) -> Schedule {
    schedule.replicas.prefill = ScheduledBounds {
        min_replicas: min,
        max_replicas: max,
    };
    schedule
}

fn base(min_replicas: u32, max_replicas: u32) -> PerRole<Bounds> {
    let bounds = Bounds {
        min_replicas,
        max_replicas,
    };
    PerRole {
        prefill: bounds,
        decode: bounds,
    }
}

fn no_lead() -> PerRole<Duration> {
    PerRole::default()
}

#[rstest]
#[case::berlin_winter(
    "0 8 * * 1-5",
    "Europe/Berlin",
    "2026-01-14T00:00:00Z",
    "2026-01-14T07:00Z"
)]
#[case::berlin_summer(
    "0 8 * * 1-5",
    "Europe/Berlin",
    "2026-07-15T00:00:00Z",
    "2026-07-15T06:00Z"
)]
#[case::over_the_weekend(
    "0 8 * * MON-FRI",
    "Europe/Berlin",
    "2026-01-16T07:00:00Z",
    "2026-01-19T07:00Z"
)]
#[case::berlin_gap(
    "30 2 * * *",
    "Europe/Berlin",
    "2026-03-28T12:00:00Z",
    "2026-03-29T01:00Z"
)]
#[case::berlin_gap_is_over(
    "30 2 * * *",
    "Europe/Berlin",
    "2026-03-29T01:00:00Z",
    "2026-03-30T00:30Z"
)]
#[case::berlin_overlap_first_pass(
    "30 2 * * *",
    "Europe/Berlin",
    "2026-10-24T12:00:00Z",
    "2026-10-25T00:30Z"
)]
#[case::berlin_overlap_fires_once(
    "30 2 * * *",
    "Europe/Berlin",
    "2026-10-25T00:30:00Z",
    "2026-10-26T01:30Z"
)]
#[case::berlin_second_pass(
    "30 2 * * *",
    "Europe/Berlin",
    "2026-10-25T01:10:00Z",
    "2026-10-26T01:30Z"
)]
#[case::new_york_gap(
    "0 2 * * 0",
    "America/New_York",
    "2026-03-07T12:00:00Z",
    "2026-03-08T07:00Z"
)]
#[case::new_york_overlap(
    "30 1 * * 7",
    "America/New_York",
    "2026-10-31T12:00:00Z",
    "2026-11-01T05:30Z"
)]
#[case::kolkata(
    "15 9 * * *",
    "Asia/Kolkata",
    "2026-06-01T00:00:00Z",
    "2026-06-01T03:45Z"
)]
#[case::lord_howe_gap(
    "10 2 * * *",
    "Australia/Lord_Howe",
    "2026-10-03T12:00:00Z",
    "2026-10-03T15:30Z"
)]
#[case::lord_howe_overlap(
    "45 1 * * *",
    "Australia/Lord_Howe",
    "2026-04-04T12:00:00Z",
    "2026-04-04T14:45Z"
)]
#[case::lord_howe_overlap_fires_once(
    "45 1 * * *",
    "Australia/Lord_Howe",
    "2026-04-04T15:05:00Z",
    "2026-04-05T15:15Z"
)]
#[case::first_of_month_or_monday(
    "0 0 1 * 1",
    "Etc/UTC",
    "2026-01-27T00:00:00Z",
    "2026-02-01T00:00Z"
)]
#[case::a_star_in_a_list_restricts_nothing(
    "0 0 *,1 * 3",
    "Etc/UTC",
    "2026-01-28T00:00:00Z",
    "2026-02-04T00:00Z"
)]
#[case::a_step_of_one_restricts_nothing(
    "0 0 */1 * 1",
    "Etc/UTC",
    "2026-01-27T00:00:00Z",
    "2026-02-02T00:00Z"
)]
#[case::dateline_skips_a_day(
    "0 12 30 12 *",
    "Pacific/Apia",
    "2011-12-29T23:00:00Z",
    "2011-12-30T10:00Z"
)]
fn starts_are_where_the_calendar_has_them(
    #[case] cron: &str,
    #[case] zone: &str,
    #[case] after: &str,
    #[case] want: &str,
) {
    let schedule = schedule(cron, zone, hours(1));
    let start = schedule.next_start(at(after), DURATION_MAX).unwrap();
    assert_eq!(text(start), want);
    let window = schedule.active_at(start).unwrap();
    assert_eq!(window.start, start);
    let before = Timestamp::from_millis(start.as_millis() - 1);
    assert_ne!(
        schedule.active_at(before).map(|window| window.start),
        Some(start)
    );
}

#[rstest]
#[case::spring("2026-03-28T21:00:00Z", "2026-03-29T07:00Z")]
#[case::autumn("2026-10-24T20:00:00Z", "2026-10-25T06:00Z")]
fn durations_are_elapsed_time_across_clock_changes(#[case] start: &str, #[case] end: &str) {
    let night = schedule("0 22 * * 6", "Europe/Berlin", hours(10));
    let window = night.active_at(at(start)).unwrap();
    assert_eq!(text(window.end), end);
    let last = Timestamp::from_millis(window.end.as_millis() - 1);
    assert_eq!(night.active_at(last), Some(window));
    assert_eq!(night.active_at(window.end), None);
}

#[rstest]
#[case::four_fields("0 8 * *", "has 4 fields")]
#[case::seconds("0 0 8 * * *", "has 6 fields")]
#[case::empty("", "has 0 fields")]
#[case::macro_name("@daily", "has 1 fields")]
#[case::minute("60 8 * * *", "has `60` for the minute; write 0 to 59")]
#[case::hour("0 24 * * *", "has `24` for the hour; write 0 to 23")]
#[case::day("0 8 0 * *", "has `0` for the day of month; write 1 to 31")]
#[case::month("0 8 * Foo *", "has `Foo` for the month; write 1 to 12 or JAN to DEC")]
#[case::weekday("0 8 * * 8", "has `8` for the day of week; write 0 to 7 or SUN to SAT")]
#[case::last_day("0 8 L * *", "has `L` for the day of month")]
#[case::question_mark("0 8 ? * *", "has `?` for the day of month")]
#[case::hash("0 8 * * 1#2", "has `1#2` for the day of week")]
#[case::backwards(
    "0 18-8 * * *",
    "has the range `18-8` for the hour, which ends before it starts"
)]
#[case::weekend_backwards("0 8 * * SAT-SUN", "ends before it starts")]
#[case::step_of_nothing("*/0 * * * *", "has the step `*/0` for the minute")]
#[case::step_of_one_value(
    "5/10 * * * *",
    "has the step `5/10` for the minute; write `*` or a range"
)]
#[case::hole_in_a_list("1,,2 * * * *", "has `` for the minute")]
#[case::sign("+1 * * * *", "has `+1` for the minute")]
#[case::february("0 0 30 2 *", "never starts")]
#[case::thirty_first("0 0 31 4,6,9,11 *", "never starts")]
fn bad_patterns_say_field_value_and_remedy(#[case] cron: &str, #[case] says: &str) {
    let error = cron.parse::<Cron>().unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn texts_survive_the_snapshot_and_bad_ones_do_not_enter() {
    let night = with(
        schedule("0 22 * * MON-fri", "Asia/Kolkata", hours(9)),
        Some(2),
        None,
    );
    let json = serde_json::to_value(&night).unwrap();
    assert_eq!(json["cron"], "0 22 * * MON-fri");
    assert_eq!(json["timeZone"], "Asia/Kolkata");
    assert_eq!(serde_json::from_value::<Schedule>(json).unwrap(), night);
    assert!(serde_json::from_str::<Cron>("\"0 25 * * *\"").is_err());
    assert!(serde_json::from_str::<TimeZone>("\"Europe/Bonn\"").is_err());
    let remedy = "europe/berlin".parse::<TimeZone>().unwrap_err().to_string();
    assert!(remedy.contains("`Europe/Berlin`"), "{remedy}");
}

#[test]
fn an_open_window_takes_the_place_of_the_bounds() {
    let day = with(
        schedule("0 8 * * *", "Etc/UTC", hours(10)),
        Some(2),
        Some(40),
    );
    let schedules = [day];
    for (time, want) in [
        ("2026-01-14T07:59:59Z", (4, 8)),
        ("2026-01-14T08:00:00Z", (2, 40)),
        ("2026-01-14T17:59:59Z", (2, 40)),
        ("2026-01-14T18:00:00Z", (4, 8)),
    ] {
        let (bounds, steps) = bounds(&schedules, base(4, 8), at(time), no_lead());
        let prefill = bounds.prefill;
        assert_eq!((prefill.min_replicas, prefill.max_replicas), want, "{time}");
        assert_eq!(bounds.decode, base(4, 8).decode);
        assert_eq!(steps.len(), usize::from(want == (2, 40)), "{steps:?}");
    }
}

#[test]
fn the_largest_minimum_and_the_least_maximum_win() {
    let all_day = |min, max| with(schedule("0 0 * * *", "Etc/UTC", hours(24)), min, max);
    let schedules = [
        all_day(Some(3), Some(20)),
        all_day(Some(5), None),
        all_day(None, Some(12)),
    ];
    let (bounds, steps) = bounds(
        &schedules,
        base(1, 32),
        at("2026-01-14T12:00:00Z"),
        no_lead(),
    );
    assert_eq!(
        bounds.prefill,
        Bounds {
            min_replicas: 5,
            max_replicas: 12
        }
    );
    assert_eq!(
        steps[0].message,
        "schedules[1] and schedules[2] set minReplicas 5 and maxReplicas 12 for the next 43200 s"
    );
}

#[test]
fn a_minimum_above_the_maximum_wins_and_is_reported() {
    let all_day = |min, max| with(schedule("0 0 * * *", "Etc/UTC", hours(24)), min, max);
    let schedules = [all_day(Some(9), None), all_day(None, Some(3))];
    let (bounds, steps) = bounds(
        &schedules,
        base(1, 32),
        at("2026-01-14T12:00:00Z"),
        no_lead(),
    );
    assert_eq!(
        bounds.prefill,
        Bounds {
            min_replicas: 9,
            max_replicas: 9
        }
    );
    let conflict = steps
        .iter()
        .find(|step| step.reason == Reason::ScheduleConflict);
    assert_eq!(
        conflict.unwrap().message,
        "minReplicas 9 is above maxReplicas 3, which gives way"
    );
}

#[test]
fn a_minimum_holds_from_the_lead_time_before_the_start_and_only_raises() {
    let day = |min| {
        [with(
            schedule("0 8 * * *", "Etc/UTC", hours(10)),
            Some(min),
            Some(40),
        )]
    };
    let lead = PerRole {
        prefill: Duration::from_mins(5),
        decode: Duration::from_mins(10),
    };
    let at_time = |min, time| bounds(&day(min), base(4, 8), at(time), lead);
    let prefill = |min, time| at_time(min, time).0.prefill.min_replicas;
    assert_eq!(prefill(6, "2026-01-14T07:54:59Z"), 4);
    assert_eq!(prefill(6, "2026-01-14T07:55:00Z"), 6);
    assert_eq!(prefill(2, "2026-01-14T07:55:00Z"), 4);
    assert_eq!(prefill(2, "2026-01-14T08:00:00Z"), 2);
    let (ahead, steps) = at_time(6, "2026-01-14T07:58:00Z");
    assert_eq!(
        ahead.prefill.max_replicas, 8,
        "the maximum waits for the start"
    );
    assert_eq!(steps[0].reason, Reason::ScheduleAhead);
    assert_eq!(
        steps[0].message,
        "schedules[0] starts in 120 s, and its minReplicas 6 holds already"
    );
}

#[test]
fn bounds_that_cannot_be_stay_usable() {
    let zero = [with(
        schedule("* * * * *", "Etc/UTC", hours(1)),
        Some(0),
        Some(0),
    )];
    let (bounds, _) = bounds(&zero, base(1, 8), at("2026-01-14T12:00:00Z"), no_lead());
    assert_eq!(
        bounds.prefill,
        Bounds {
            min_replicas: 1,
            max_replicas: 1
        }
    );
}

#[rstest]
#[case::closed_opens_next("0 8 * * *", 10, "2026-01-14T07:00:00Z", Some("2026-01-14T08:00Z"))]
#[case::open_closes_next("0 8 * * *", 10, "2026-01-14T08:00:00Z", Some("2026-01-14T18:00Z"))]
#[case::windows_that_touch_are_one(
    "0 */6 * * 1-2",
    6,
    "2026-01-12T08:00:00Z",
    Some("2026-01-14T00:00Z")
)]
#[case::always_open("0 * * * *", 2, "2026-01-12T08:00:00Z", None)]
#[case::next_year("0 0 1 1 *", 1, "2026-01-12T08:00:00Z", None)]
fn the_next_change_is_known(
    #[case] cron: &str,
    #[case] duration: u64,
    #[case] now: &str,
    #[case] want: Option<&str>,
) {
    let schedules = [schedule(cron, "Etc/UTC", hours(duration))];
    let change = next_change(&schedules, at(now));
    assert_eq!(change.map(text).as_deref(), want);
}

#[test]
fn active_schedules_are_named_by_index() {
    let schedules =
        ["0 8 * * *", "0 20 * * *", "0 9 * * *"].map(|cron| schedule(cron, "Etc/UTC", hours(3)));
    assert_eq!(active(&schedules, at("2026-01-14T10:00:00Z")), [0, 2]);
}

/// Text of one cron field with values from `least` to `most`.
fn any_field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let value = move || least..=most;
    let part = prop_oneof![
        4 => value().prop_map(|v| v.to_string()),
        2 => (value(), value()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (value(), value(), 2u32..9).prop_map(|(a, b, s)| format!("{}-{}/{s}", a.min(b), a.max(b))),
        1 => (2u32..20).prop_map(|s| format!("*/{s}")),
    ];
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(",")),
    ]
}

fn any_cron() -> impl Strategy<Value = String> {
    let days = prop_oneof![2 => Just("*".to_owned()), 1 => any_field(1, 28)];
    let months = prop_oneof![4 => Just("*".to_owned()), 1 => any_field(1, 12)];
    (
        any_field(0, 59),
        any_field(0, 23),
        days,
        months,
        any_field(0, 6),
    )
        .prop_map(|(minute, hour, day, month, weekday)| {
            format!("{minute} {hour} {day} {month} {weekday}")
        })
}

proptest! {
    #[test]
    fn starts_are_found_within_the_days_and_not_beyond(
        cron in any_cron(), seconds in 1_600_000_000i64..1_900_000_000, days in 0u32..40,
    ) {
        let cron: Cron = cron.parse().unwrap();
        let now = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap().naive_utc();
        let near = |found: &chrono::NaiveDateTime| {
            (found.date() - now.date()).num_days().unsigned_abs() <= u64::from(days)
        };
        // No pattern of these skips more than a leap day's four years, or eight around 1900.
        let (next, last) = (cron.first_after(now, 3_000), cron.last(now, 3_000));
        prop_assert_eq!(cron.first_after(now, days), next.filter(near));
        prop_assert_eq!(cron.last(now, days), last.filter(near));
        let (next, last) = (next.unwrap(), last.unwrap());
        prop_assert!(last <= now && now < next);
        // Nothing starts between: looked at from either side, the neighbours are each other's.
        prop_assert_eq!(cron.first_after(last, 3_000), Some(next));
        prop_assert_eq!(cron.last(next - TimeDelta::minutes(1), 3_000), Some(last));
    }

    #[test]
    fn windows_agree_with_a_walk_over_every_minute(
        cron in any_cron(),
        (zone, change) in select(vec![
            ("Europe/Berlin", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ("Asia/Kolkata", "2026-06-01T00:00:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ]),
        duration_minutes in 1u64..300,
    ) {
        let schedule = schedule(&cron, zone, Duration::from_mins(duration_minutes));
        let (minute, change) = (60_000, at(change).as_millis());
        let time = |index: i64| Timestamp::from_millis(change + index * minute);
        let local = |index| schedule.time_zone.local(time(index)).unwrap();
        let mut reached = local(-1_500);
        let mut start = None;
        for index in -1_499..1_500 {
            let now = local(index);
            if now > reached {
                if schedule.cron.last(now, 2).is_some_and(|last| last > reached) {
                    start = Some(index);
                }
                reached = now;
            }
            // Windows that opened before the walk began are not known to it.
            if index < -1_100 {
                continue;
            }
            let open = start.filter(|start| index - start < duration_minutes.cast_signed());
            let got = schedule.active_at(time(index));
            prop_assert_eq!(got.map(|window| window.start), open.map(time), "{} {}", zone, index);
            if let Some(next) = schedule.next_start(time(index), Duration::from_mins(200)) {
                prop_assert!(next > time(index));
                prop_assert_eq!(schedule.last_start(next, Duration::ZERO), Some(next));
            }
        }
    }

    #[test]
    fn no_moment_and_no_bounds_panic(
        cron in any_cron(), millis: i64, seconds: u64, lead: u64, min: Option<u32>, max: Option<u32>,
    ) {
        let schedule = schedule(&cron, "Europe/Berlin", Duration::from_secs(seconds));
        let schedules = [with(schedule, min, max)];
        let now = Timestamp::from_millis(millis);
        let lead = PerRole::from_fn(|_| Duration::from_secs(lead));
        let (bounds, _) = bounds(&schedules, base(1, 32), now, lead);
        prop_assert!(1 <= bounds.prefill.min_replicas);
        prop_assert!(bounds.prefill.min_replicas <= bounds.prefill.max_replicas);
        next_change(&schedules, now);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}", fields in "[0-9*/,\\-A-Z ]{0,40}") {
        let _ = (text.parse::<Cron>(), fields.parse::<Cron>());
    }
}
