//! Playgrounds and Services of llmaz.

use pd_core::Role;
use serde_json::{Value, json};

use super::{PLAYGROUND, SERVICE};
use crate::{
    refusal::Refusal,
    systems::lws::LEADER_WORKER_SET,
    testing::{made_by, object, resolve, template, wanted},
};

fn playground() -> Value {
    object(
        &PLAYGROUND,
        "q",
        json!({ "replicas": 2, "modelClaim": { "modelName": "m" } }),
    )
}

#[test]
fn a_playground_is_one_role_in_groups_of_what_it_made() {
    let made = object(
        &LEADER_WORKER_SET,
        "q",
        json!({ "replicas": 2,
        "leaderWorkerTemplate": { "size": 2, "workerTemplate": template(4) } }),
    );
    let place = resolve(&PLAYGROUND, &playground(), &[made], None, Role::Prefill).unwrap();
    assert_eq!(
        (place.desired, place.unit.pods, place.gpus.clone()),
        (2, 2, Ok(8))
    );
    assert_eq!(wanted(&[(&place, 3)]).unwrap()[0].object.kind, "Playground");
    let refusal = resolve(
        &PLAYGROUND,
        &playground(),
        &[],
        Some("prefill"),
        Role::Prefill,
    )
    .unwrap_err();
    assert!(
        matches!(refusal, Refusal::RoleNotApplicable { .. }),
        "{refusal}"
    );
}

#[test]
fn a_service_has_a_template_of_its_own_and_may_be_a_playgrounds() {
    let service = object(
        &SERVICE,
        "q",
        json!({ "replicas": 1,
        "workloadTemplate": { "size": 3, "workerTemplate": template(1) } }),
    );
    let place = resolve(&SERVICE, &service, &[], None, Role::Decode).unwrap();
    assert_eq!((place.unit.pods, place.gpus.clone()), (3, Ok(3)));
    let place = resolve(
        &SERVICE,
        &made_by(service, "Playground", "q"),
        &[],
        None,
        Role::Decode,
    )
    .unwrap();
    assert!(
        wanted(&[(&place, 3)])
            .unwrap_err()
            .to_string()
            .contains("Playground `q`")
    );
}

#[test]
fn its_elastic_config_is_an_autoscaler() {
    let mut elastic = playground();
    elastic["spec"]["elasticConfig"] = json!({ "maxReplicas": 3 });
    let place = resolve(&PLAYGROUND, &elastic, &[], None, Role::Prefill).unwrap();
    assert!(matches!(wanted(&[(&place, 3)]), Err(Refusal::Contended(_))));
}
