//! docs/systems.md, made from the kinds of the systems.
//!
//! It is written with `PD_UPDATE=1 cargo test -p pd-systems --test page`.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use pd_systems::{
    ALL,
    kind::{Form, Kind, Roles},
    system::System,
    systems::scale::AnyScale,
};

const PAGE: &str = "../docs/systems.md";

const HEAD: &str = "# Systems

How pd-systems describes each workload system: the kinds, one replica, and a safe write. A test makes this page from the code.
The chart grants the rights on a kind by its switch, `targets.<switch>.enabled`; Deployments and StatefulSets need none. A CRD
that is absent, or comes later, is no fault: the condition TargetResolved says so until it is there.

A replica of several pods serves when all of its pods are ready. One pod that is lost, not ready or unschedulable takes the
whole replica with it. Only the pods named under metrics are scraped.

A write changes replicas and nothing else, and only if they are what the decision saw. A JSON patch tests the object's version,
the role's place in the list and the old number. Where one object holds both roles, both change in one write.

Refused for every kind: an object whose replicas somebody else sets. These are a HorizontalPodAutoscaler, a ScaledObject of KEDA,
a PodAutoscaler of AIBrix, an AutoscalingPolicy of Kthena, llm-d's variant autoscaler, a planner of Dynamo, the controller that
made the object, and Argo CD, Flux or Fleet where the manifest states the replicas. Helm is none of them: it acts when it is
called, and then resets the replicas that its chart renders.

";

fn row(page: &mut String, system: &dyn System, kind: &Kind) {
    let api_version = match kind.version {
        "" => String::new(),
        _ => format!(" ({})", kind.api_version()),
    };
    let role = match kind.roles {
        Roles::One => "whole object",
        Roles::Several => "by `role`",
    };
    let form = match kind.form {
        Form::Scale => "`scale`",
        Form::JsonPatch => "JSON patch",
    };
    let victim: &str = kind.victim.into();
    writeln!(
        page,
        "| {} | {}{api_version} | {role} | {form} | {} | {} | {victim} | {} | {} |",
        system.name(),
        kind.kind,
        kind.replica,
        kind.serving,
        kind.switch,
        kind.refused
    )
    .unwrap();
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| System | Kind | Role | Write | Replica | Metrics | Goes first | Switch | Refused |\n|---|---|---|---|---|---|---|---|---|\n");
    let systems = ALL.into_iter().chain([&AnyScale as &dyn System]);
    for system in systems {
        for kind in system.kinds() {
            row(&mut page, system, kind);
        }
    }
    page
}

#[test]
fn the_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if env::var_os("PD_UPDATE").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written,
        page(),
        "{PAGE} differs from the code: run with PD_UPDATE=1"
    );
}

#[test]
fn no_two_systems_claim_a_kind() {
    let kinds: Vec<(String, &str)> = ALL
        .into_iter()
        .flat_map(System::kinds)
        .map(|kind| (kind.api_version(), kind.kind))
        .collect();
    let distinct: BTreeSet<&(String, &str)> = kinds.iter().collect();
    assert_eq!(distinct.len(), kinds.len());
    for (api_version, kind) in &kinds {
        let (_, found) = pd_systems::find(api_version, kind).unwrap();
        assert!(found.is(api_version, kind));
    }
}
