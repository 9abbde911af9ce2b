//! Objects as the controller leaves them, and a cluster that has everything.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{apps::v1::Deployment, coordination::v1::Lease},
    jiff::Timestamp,
};
use pd_api::v1alpha1::PDAutoscaler;
use pd_core::PerRole;

use crate::{
    controller::Controller,
    preflight::{
        judge::{Facts, Found, Workload, kinds},
        rights::{of_controller, of_user},
        series::Series,
    },
};

/// The time at which tests look: 2026-11-30T12:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_796_040_000, 0);

const STEADY: &str = include_str!("../../fixtures/objects/steady.yaml");
const LIMITED: &str = include_str!("../../fixtures/objects/limited.yaml");
const UNTARGETED: &str = include_str!("../../fixtures/objects/untargeted.yaml");
const RECOMMENDED: &str = include_str!("../../fixtures/objects/recommended.yaml");
const UNMEASURED: &str = include_str!("../../fixtures/objects/unmeasured.yaml");
const CONTROLLER: &str = include_str!("../../fixtures/objects/controller.yaml");

/// The object of that name in `fixtures/objects`.
pub(crate) fn object(name: &str) -> PDAutoscaler {
    let text = match name {
        "steady" => STEADY,
        "limited" => LIMITED,
        "untargeted" => UNTARGETED,
        "recommended" => RECOMMENDED,
        "unmeasured" => UNMEASURED,
        other => panic!("no object {other}"),
    };
    serde_saphyr::from_str(text).unwrap()
}

/// The controller as the chart installs it.
pub(crate) fn controller() -> Controller {
    let deployment: Deployment = serde_saphyr::from_str(CONTROLLER).unwrap();
    Controller::of(&deployment)
}

/// A cluster that has everything that the steady object needs.
pub(crate) fn facts() -> Facts {
    let served = pd_api::Resource::ALL.map(|resource| resource.plural().to_owned());
    let lease: Lease = serde_saphyr::from_str(
        "{ metadata: {}, spec: { holderIdentity: pd-autoscaler-7d9c5b6f4-x2x8k, leaseDurationSeconds: 15, renewTime: '2026-11-30T11:59:55.000000Z' } }",
    )
    .unwrap();
    let objects = vec![object("steady")];
    let rights = of_controller("", &kinds(&objects));
    let found = |name: &str, replicas| Workload {
        name: format!("Deployment `{name}`"),
        found: Some(Ok(Found {
            replicas,
            gpus: Ok(1),
            owners: Vec::new(),
        })),
    };
    let pods = ["llama-prefill-0", "llama-decode-0", "llama-decode-1"].map(str::to_owned);
    let series = Series {
        pods: BTreeMap::from([("inference".to_owned(), BTreeSet::from(pods))]),
        unlabelled: false,
    };
    Facts {
        served: Ok(Some(BTreeSet::from(served))),
        controllers: Ok(vec![(controller(), Ok(Some(lease)))]),
        own_rights: of_user("inference")
            .into_iter()
            .map(|right| (right, Ok(true)))
            .collect(),
        controller_rights: vec![(
            "pd-system/pd-autoscaler".to_owned(),
            rights.into_iter().map(|right| (right, Ok(true))).collect(),
        )],
        prometheus: vec![("http://prometheus.monitoring:9090".to_owned(), Ok(series))],
        workloads: vec![(
            "inference".to_owned(),
            "llama-70b".to_owned(),
            PerRole {
                prefill: found("llama-prefill", 4),
                decode: found("llama-decode", 8),
            },
        )],
        objects: Ok(objects),
    }
}
