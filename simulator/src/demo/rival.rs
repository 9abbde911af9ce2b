//! The rival: another policy that plays the very same requests beside the product.
//!
//! It begins with the same replicas, in the same world, and decides at its own interval. A policy
//! that has to be searched by playing the day again and again is refused by name: a demo does not
//! wait for hours. Peers that take a ratio get that of the whole replicas which the day's mean
//! demands take, since the search that `pd-sim compare` gives it from is such a one.

use clap::ValueEnum;
use pd_core::PerRole;
use serde::Serialize;

use super::scenario::{Scenario, ScenarioError};
use crate::autoscaler::peer::{Known, TraceMeans};
use crate::autoscaler::{Autoscaler, Fixed, Peer, Planned, Variant};
use crate::clairvoyant::load::Load;
use crate::clairvoyant::{self, Bound, ReplicaPlan};
use crate::simulate::options::PolicyName;
use crate::time::{Nanos, SECOND};
use crate::world::Setup;

/// The policy that plays beside the product, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Against(pub Option<PolicyName>);

/// Reads the value of `--against`.
pub(super) fn against(text: &str) -> Result<Against, String> {
    if text == "none" {
        return Ok(Against(None));
    }
    let policy = PolicyName::from_str(text, false).map_err(|_| {
        let names = playable().map(PolicyName::as_str).collect::<Vec<_>>();
        format!("give none or one of {}", names.join(", "))
    })?;
    if is_playable(policy) {
        return Ok(Against(Some(policy)));
    }
    Err(match policy {
        PolicyName::Pdautoscaler => {
            "the demo plays it anyway: give another policy, or none".to_owned()
        }
        PolicyName::Peer(peer, _) => format!(
            "it is searched by playing the day many times: give {}, or use `pd-sim compare`",
            peer.name(Variant::Default)
        ),
        _ => "it is searched by playing the day many times: use `pd-sim compare`".to_owned(),
    })
}

fn playable() -> impl Iterator<Item = PolicyName> {
    let all = PolicyName::value_variants().iter().copied();
    all.filter(|policy| is_playable(*policy))
}

const fn is_playable(policy: PolicyName) -> bool {
    matches!(
        policy,
        PolicyName::Peer(_, Variant::Default)
            | PolicyName::StaticPeak
            | PolicyName::Clairvoyant
            | PolicyName::ClairvoyantOverall
    )
}

/// The rival as shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RivalAbout {
    /// The policy, as `--against` names it.
    pub policy: &'static str,
    /// A short name.
    pub name: &'static str,
    /// The name in a sentence.
    pub title: String,
    /// Its rule, in some words.
    pub rule: &'static str,
}

impl RivalAbout {
    /// The texts about `policy`.
    pub fn of(policy: PolicyName) -> Self {
        let (name, rule) = texts(policy);
        let title = match policy {
            PolicyName::Peer(..) => format!("{name} as shipped"),
            _ => name.to_owned(),
        };
        Self {
            policy: policy.as_str(),
            name,
            title,
            rule,
        }
    }
}

const fn texts(policy: PolicyName) -> (&'static str, &'static str) {
    match policy {
        PolicyName::Peer(peer, _) => texts_of_peer(peer),
        PolicyName::StaticPeak => (
            "static peak",
            "fixed replicas of each role, as many as the busiest minute of this very day needs",
        ),
        PolicyName::Clairvoyant | PolicyName::ClairvoyantOverall => (
            "clairvoyant plan",
            "a plan that knows every request of the day beforehand, which nobody can have",
        ),
        PolicyName::StaticHindsight => ("static with hindsight", "the fewest fixed replicas"),
        PolicyName::SimulatedOracle => ("oracle", "the cheapest plan known to attain"),
        PolicyName::Pdautoscaler | PolicyName::PdautoscalerTuned => ("PDAutoscaler", "the product"),
        PolicyName::Command => ("command", "a process"),
    }
}

const fn texts_of_peer(peer: Peer) -> (&'static str, &'static str) {
    match peer {
        Peer::HpaValue => (
            "HPA",
            "one HorizontalPodAutoscaler per role, without a behavior of its own: 5 requests waiting per \
             prefill worker, 80 % of the KV cache in use per decode worker",
        ),
        Peer::HpaAverageValue => (
            "HPA",
            "one HorizontalPodAutoscaler per role, without a behavior of its own: 4 requests in flight per \
             prefill worker, half a full batch per decode worker",
        ),
        Peer::Keda => (
            "KEDA",
            "one ScaledObject per role, without a behavior of its own: 5 requests waiting per worker",
        ),
        Peer::KnativeKpa => (
            "Knative KPA",
            "70 of 100 requests in flight per worker, over windows of 60 s and 6 s",
        ),
        Peer::AibrixApa => (
            "AIBrix APA",
            "requests waiting at prefill and KV cache in use at decode, over three minutes",
        ),
        Peer::KthenaPdRatio => (
            "Kthena",
            "10 requests waiting per role, within a range of P:D ratios",
        ),
        Peer::WvaSaturation => (
            "llm-d WVA",
            "tokens in use and queued against those that KV cache and batch take",
        ),
        Peer::DynamoThroughput => (
            "Dynamo planner",
            "its throughput loop, given the true performance of a replica",
        ),
        Peer::DynamoLoad => (
            "Dynamo planner",
            "its load loop, given the true performance of a replica",
        ),
        Peer::DynamoBoth => (
            "Dynamo planner",
            "both its loops, given the true performance of a replica",
        ),
        Peer::HeteroscaleFixedRatio => (
            "HeteroScale",
            "tokens per second of decode, prefill at a fixed ratio to it that was profiled",
        ),
        Peer::TokenscaleVelocity => (
            "TokenScale",
            "arriving tokens over the velocity of a replica, given the true one",
        ),
    }
}

/// A policy ready to play, and the setup that it begins with.
pub(super) fn ready(
    policy: PolicyName,
    scenario: &Scenario,
    setup: Setup,
) -> Result<(Box<dyn Autoscaler>, Setup), ScenarioError> {
    if let PolicyName::Peer(peer, _) = policy {
        let means = if peer.takes_a_ratio() {
            survey(scenario, &setup)?.0
        } else {
            TraceMeans::default()
        };
        let known = Known {
            scenario: &scenario.service,
            means,
            fixed: None,
        };
        let as_shipped = PerRole::from_fn(|_| 1.0);
        let interval = peer.interval();
        let setup = Setup {
            interval,
            // Points are taken at scrapes, so these meet the product's.
            scrape_interval: common(interval, setup.scrape_interval),
            ..setup
        };
        return Ok((peer.build(Variant::Default, &known, as_shipped), setup));
    }
    let bound = survey(scenario, &setup)?.1;
    Ok(match policy {
        PolicyName::Clairvoyant => planned(&bound.everywhere, setup),
        PolicyName::ClairvoyantOverall => planned(&bound.overall, setup),
        _ => {
            let replicas_at_start = bound.peak();
            let fixed = Box::new(Fixed::new(replicas_at_start));
            let setup = Setup {
                replicas_at_start,
                ..setup
            };
            (fixed, setup)
        }
    })
}

fn planned(plan: &ReplicaPlan, setup: Setup) -> (Box<dyn Autoscaler>, Setup) {
    let lead = PerRole {
        prefill: setup.profile.startup_time(crate::engine::Role::Prefill),
        decode: setup.profile.startup_time(crate::engine::Role::Decode),
    };
    let serving = plan.serving.clone();
    let planned = Planned::new(serving, clairvoyant::WINDOW, lead, setup.interval);
    let setup = Setup {
        replicas_at_start: plan.at_start(),
        ..setup
    };
    (Box::new(planned), setup)
}

/// Reads all requests beforehand: their means, and the plans that know them.
fn survey(scenario: &Scenario, setup: &Setup) -> Result<(TraceMeans, Bound), ScenarioError> {
    let mut load = Load::new(&scenario.service);
    let mut means = TraceMeans::default();
    for arrival in scenario.requests()? {
        let arrival = arrival?;
        load.add(&arrival);
        means.add(&setup.profile, &arrival);
    }
    load.end(setup.length);
    let bound = clairvoyant::bound(&scenario.service, &load);
    Ok((means, bound))
}

/// The longest time that both are multiples of; a second at least.
fn common(a: Nanos, b: Nanos) -> Nanos {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(SECOND)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nobody("none", Ok(None))]
    #[case::shipped("hpa-value-default", Ok(Some("hpa-value-default")))]
    #[case::baseline("static-peak", Ok(Some("static-peak")))]
    #[case::tuned("keda-tuned", Err("give keda-default"))]
    #[case::searched("simulated-oracle", Err("pd-sim compare"))]
    #[case::searched_product("pdautoscaler-tuned", Err("pd-sim compare"))]
    #[case::itself("pdautoscaler", Err("plays it anyway"))]
    #[case::unknown("hpa", Err("hpa-average-value-default"))]
    fn rivals_that_can_play_are_taken_and_others_refused_with_a_remedy(
        #[case] text: &str,
        #[case] wanted: Result<Option<&str>, &str>,
    ) {
        match (against(text), wanted) {
            (Ok(Against(policy)), Ok(name)) => assert_eq!(policy.map(PolicyName::as_str), name),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (read, wanted) => panic!("{text}: {read:?} where {wanted:?} is wanted"),
        }
    }

    #[test]
    fn scrapes_meet_the_points_of_the_charts() {
        let every = [2, 5, 10, 15, 60, 180].map(|interval| common(interval * SECOND, 15 * SECOND));
        assert_eq!(every, [1, 5, 5, 15, 15, 15].map(|scrape| scrape * SECOND));
        for policy in playable() {
            let about = RivalAbout::of(policy);
            assert!(
                !about.title.is_empty() && !about.rule.contains("  "),
                "{about:?}"
            );
        }
    }
}
