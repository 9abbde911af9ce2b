//! The module against a second reading of the rules that shares no code with it.
//!
//! The other reading compares numbers as decimal texts, digit by digit, with no integer type at
//! all, so that an overflow or a rounding on either side would show. Odd values are generated as
//! often as good ones.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::{
    eviction::{TolerationPeriod, toleration_period},
    extension::ParsedTaint,
    node::{first_untolerated, normalized, untolerated_preferences},
    rewrite::{Authored, restore, rewrite},
};

/// The largest magnitudes of int64, as texts.
const MOST: &str = "9223372036854775807";
const LEAST: &str = "9223372036854775808";

/// Sign and digits of a canonical int64, by text alone.
fn decimal(text: &str) -> Option<(bool, &str)> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        _ => (false, text),
    };
    let first = digits.chars().next()?;
    if digits.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    if first == '0' && (digits.len() > 1 || negative) {
        return None;
    }
    let limit = if negative { LEAST } else { MOST };
    (magnitude(digits, limit) != Ordering::Greater).then_some((negative, digits))
}

fn magnitude(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn request(a: &str, b: &str) -> Option<Ordering> {
    let ((a_negative, a), (b_negative, b)) = (decimal(a)?, decimal(b)?);
    Some(match (a_negative, b_negative) {
        (false, false) => magnitude(a, b),
        (true, true) => magnitude(b, a),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

/// The rules as sentences: each is a way to fail.
fn oracle(t: &Toleration, taint: &Taint, on: bool) -> bool {
    let effect_fits = ["", taint.effect.as_str()].contains(&t.effect.as_str());
    let key_fits = ["", taint.key.as_str()].contains(&t.key.as_str());
    let value_fits = match t.operator.as_str() {
        "" | "Equal" => t.value == taint.value,
        "Exists" => true,
        "Gt" => on && request(&taint.value, &t.value) == Some(Ordering::Greater),
        "Lt" => on && request(&taint.value, &t.value) == Some(Ordering::Less),
        _ => false,
    };
    effect_fits && key_fits && value_fits
}

fn value() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "-",
        "-0",
        "+5",
        "05",
        "-05",
        "0950",
        "99.95",
        "high",
        "1e3",
        "0x10",
        "1_000",
        " 950",
        "950 ",
        "٣",
        MOST,
        LEAST,
        "-9223372036854775808",
        "-9223372036854775809",
        "9007199254740993",
        "9007199254740992",
    ];
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (940i64..960).prop_map(|n| n.to_string()),
        (-3i64..3).prop_map(|n| n.to_string()),
        prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        "[-+]?[0-9]{1,21}",
    ]
}

fn text(from: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(from)
}

prop_compose! {
    fn any_toleration()(
        key in text(&["", "sla", "sla", "cost"]),
        operator in text(&["", "Equal", "Exists", "Gt", "Gt", "Lt", "Lt", "gt", "Ge"]),
        value in value(),
        effect in text(&["", "NoSchedule", "PreferNoSchedule", "NoExecute", "Never"]),
        seconds in prop::option::of(-2i64..100),
    ) -> Toleration {
        toleration(key, operator, &value, effect, seconds)
    }
}

prop_compose! {
    fn any_taint()(
        key in text(&["sla", "sla", "cost", ""]),
        value in value(),
        effect in text(&["NoSchedule", "PreferNoSchedule", "NoExecute", "Never", ""]),
    ) -> Taint {
        Taint::new(key, value, effect.into())
    }
}

fn gate(on: bool) -> Comparison {
    if on { Comparison::On } else { Comparison::Off }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn matching_agrees_with_the_sentences(t in any_toleration(), taint in any_taint(), on: bool) {
        prop_assert_eq!(t.tolerates(&taint, gate(on)), oracle(&t, &taint, on));
    }

    #[test]
    fn a_rule_tolerates_what_its_toleration_does(t in any_toleration(), taint in any_taint(), on: bool) {
        let want = t.tolerates(&taint, gate(on));
        let parsed = ParsedTaint::from(taint);
        prop_assert_eq!(Rule::plain(&t, gate(on)).tolerates(&parsed), want);
    }

    #[test]
    fn nodes_agree_with_the_sentences(
        pod in prop::collection::vec(any_toleration(), 0..4),
        node in prop::collection::vec(any_taint(), 0..4),
        on: bool,
    ) {
        let untolerated = |taint: &&Taint| !pod.iter().any(|t| oracle(t, taint, on));
        let refusing = node.iter().filter(|t| ["NoSchedule", "NoExecute"].contains(&t.effect.as_str()));
        prop_assert_eq!(first_untolerated(&node, &pod, gate(on)), refusing.clone().find(untolerated));
        let count = node.iter().filter(|t| t.effect == Effect::PreferNoSchedule).filter(untolerated).count();
        prop_assert_eq!(untolerated_preferences(&node, &pod, gate(on)) as usize, count);
    }

    #[test]
    fn stays_agree_with_the_sentences(
        pod in prop::collection::vec(any_toleration(), 0..4),
        node in prop::collection::vec(any_taint(), 0..4),
    ) {
        let evicting = node.iter().filter(|taint| taint.effect == Effect::NoExecute);
        let answers: Vec<Option<&Toleration>> =
            evicting.map(|taint| pod.iter().find(|t| oracle(t, taint, true))).collect();
        let seconds = answers.iter().flatten().filter_map(|t| t.toleration_seconds).min();
        let want = match seconds {
            _ if answers.contains(&None) => TolerationPeriod::Over,
            None => TolerationPeriod::Forever,
            Some(..=0) => TolerationPeriod::Over,
            Some(s) => TolerationPeriod::For(std::time::Duration::from_secs(s.unsigned_abs())),
        };
        prop_assert_eq!(toleration_period(&node, &pod, Comparison::On), want);
    }

    #[test]
    fn scores_agree_with_integer_division(counts in prop::collection::vec(0u32..9, 0..6)) {
        let most = counts.iter().max().copied().unwrap_or(0);
        let want: Vec<u32> =
            counts.iter().map(|n| 100 - (100 * n).checked_div(most).unwrap_or(0)).collect();
        prop_assert_eq!(normalized(&counts), want);
    }

    #[test]
    fn what_is_rewritten_is_restored(pod in prop::collection::vec(any_toleration(), 0..5), taint in any_taint()) {
        let (rewritten, originals) = rewrite(&pod);
        prop_assert_eq!(rewrite(&rewritten), (rewritten.clone(), vec![]));
        let parsed = ParsedTaint::from(taint.clone());
        let restored = restore(&rewritten, &originals).unwrap();
        prop_assert_eq!(restored.len(), pod.len());
        for (asked, t) in restored.iter().zip(&pod) {
            let rule = asked.rule().unwrap();
            prop_assert_eq!(rule.tolerates(&parsed), t.tolerates(&taint, Comparison::On));
            prop_assert_eq!(asked.toleration_seconds(), t.toleration_seconds);
            if let Authored::Plain(plain) = asked {
                prop_assert_eq!(*plain, t);
            }
        }
    }
}
