//! DisaggregatedSets and the scalers of their roles.

use pd_core::Role;
use rstest::rstest;
use serde_json::{Value, json};

use super::{DISAGGREGATED_SET, ROLE_SCALER};
use crate::{
    edit::Write,
    refusal::Refusal,
    testing::{
        counts, differences, made_by, object, patched, place, pod, resolve, template, wanted,
    },
};

fn set(slices: u32, external: bool, roles: &[(&str, u32)]) -> Value {
    let role = |(name, replicas): &(&str, u32)| {
        let mode = if external { "External" } else { "Static" };
        json!({ "name": name, "scaling": { "mode": mode }, "spec": { "replicas": replicas,
            "leaderWorkerTemplate": { "size": 2, "workerTemplate": template(4) } } })
    };
    let roles: Vec<Value> = roles.iter().map(role).collect();
    object(
        &DISAGGREGATED_SET,
        "llama",
        json!({ "slices": slices, "roles": roles }),
    )
}

const PD: [(&str, u32); 2] = [("prefill", 4), ("decode", 2)];

#[test]
fn static_roles_change_in_one_write_and_nothing_else_does() {
    let set = set(1, false, &PD);
    let (p, d) = (
        place(&DISAGGREGATED_SET, &set, "prefill"),
        place(&DISAGGREGATED_SET, &set, "decode"),
    );
    assert_eq!((p.desired, p.gpus.clone(), p.unit.pods), (4, Ok(8), 2));
    let edits = wanted(&[(&p, 3), (&d, 5)]).unwrap();
    assert_eq!(edits.len(), 1);
    let changed = differences(&set, &patched(&set, &edits[0]));
    let at = |index: u32| format!("/spec/roles/{index}/spec/replicas");
    assert_eq!(changed, [(at(0), json!(3)), (at(1), json!(5))]);
}

#[test]
fn slices_multiply_and_a_role_grows_by_one_in_each() {
    let set = set(2, false, &PD);
    let p = place(&DISAGGREGATED_SET, &set, "prefill");
    assert_eq!((p.desired, p.copies), (8, 2));
    // Nine replicas are five in each slice; seven are four, which it has.
    let edits = wanted(&[(&p, 9)]).unwrap();
    let changed = differences(&set, &patched(&set, &edits[0]));
    assert_eq!(
        changed,
        [("/spec/roles/0/spec/replicas".to_owned(), json!(5))]
    );
    assert_eq!(wanted(&[(&p, 7)]).unwrap(), []);
}

#[rstest]
#[case::one_role(&PD, &[0], true)]
#[case::both_roles(&PD, &[0, 0], false)]
#[case::a_third_stays(&[("prefill", 4), ("decode", 2), ("encode", 1)], &[0, 0], true)]
#[case::one_back_alone(&[("prefill", 0), ("decode", 0)], &[1], true)]
#[case::both_back(&[("prefill", 0), ("decode", 0)], &[1, 1], false)]
#[case::not_to_zero(&PD, &[1], false)]
fn roles_are_at_zero_together_or_not_at_all(
    #[case] roles: &[(&str, u32)],
    #[case] to: &[u32],
    #[case] refused: bool,
) {
    let set = set(1, false, roles);
    let places = [
        place(&DISAGGREGATED_SET, &set, "prefill"),
        place(&DISAGGREGATED_SET, &set, "decode"),
    ];
    let changes: Vec<_> = places.iter().zip(to.iter().copied()).collect();
    let result = wanted(&changes);
    assert_eq!(
        matches!(result, Err(Refusal::ZeroAlone { .. })),
        refused,
        "{result:?}"
    );
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal reads better without a borrow"
)]
fn scaler(replicas: Value) -> Value {
    object(
        &ROLE_SCALER,
        "llama-prefill",
        json!({ "replicas": replicas }),
    )
}

#[test]
fn an_external_role_is_its_scalers() {
    let set = set(1, true, &PD);
    let refusal = resolve(
        &DISAGGREGATED_SET,
        &set,
        &[],
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("DisaggregatedSetRoleScaler `llama-prefill`"),
        "{refusal}"
    );
    let scaler = made_by(scaler(json!(3)), "DisaggregatedSet", "llama");
    let place = resolve(&ROLE_SCALER, &scaler, &[set], None, Role::Prefill).unwrap();
    assert_eq!((place.desired, place.gpus.clone()), (3, Ok(8)));
    let edits = wanted(&[(&place, 5)]).unwrap();
    assert!(matches!(edits[0].write, Write::Scale { replicas: 5, .. }));
    assert_eq!(edits[0].object.kind, "DisaggregatedSetRoleScaler");
}

#[test]
fn a_scaler_that_moves_nothing_is_refused() {
    let set_of = |slices| set(slices, true, &PD);
    // Made by hand, so that the set does not adopt it.
    let refusal = resolve(
        &ROLE_SCALER,
        &scaler(json!(3)),
        &[set_of(1)],
        None,
        Role::Prefill,
    )
    .unwrap_err();
    assert!(matches!(refusal, Refusal::Lacks { .. }), "{refusal}");
    let owned = made_by(scaler(json!(3)), "DisaggregatedSet", "llama");
    let refusal = resolve(&ROLE_SCALER, &owned, &[set_of(2)], None, Role::Prefill).unwrap_err();
    assert!(refusal.to_string().contains("spec.slices `2`"), "{refusal}");
    let refusal = resolve(&ROLE_SCALER, &owned, &[], None, Role::Prefill).unwrap_err();
    assert!(matches!(refusal, Refusal::Lacks { .. }), "{refusal}");
}

#[test]
fn groups_of_all_slices_and_revisions_are_the_roles() {
    let set = set(2, false, &PD);
    let place = place(&DISAGGREGATED_SET, &set, "prefill");
    let group = |lws: &str, group: &str, state: &str, role: &str| {
        ["0", "1"].map(|worker| {
            pod(
                &format!("{lws}-{group}-{worker}"),
                state,
                &[
                    ("disaggregatedset.x-k8s.io/name", "llama"),
                    ("disaggregatedset.x-k8s.io/role", role),
                    (super::NAME, lws),
                    (super::GROUP, group),
                    ("leaderworkerset.sigs.k8s.io/worker-index", worker),
                ],
            )
        })
    };
    let pods = [
        group("llama-0-aaaaaaaa-prefill", "0", "ready", "prefill"),
        group("llama-1-aaaaaaaa-prefill", "0", "ready", "prefill"),
        group("llama-1-bbbbbbbb-prefill", "0", "starting", "prefill"),
        group("llama-0-aaaaaaaa-decode", "0", "ready", "decode"),
    ]
    .concat();
    let (ready, starting, _, serving) = counts(&place, &pods);
    assert_eq!((ready, starting), (2, 1));
    assert_eq!(
        serving,
        [
            "llama-0-aaaaaaaa-prefill-0-0",
            "llama-1-aaaaaaaa-prefill-0-0"
        ]
    );
}
