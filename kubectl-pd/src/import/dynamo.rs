//! A DynamoGraphDeployment with its planner as a PDAutoscaler.
//!
//! Both versions of the API are read: `components` as a list (v1beta1) and `services` as a map
//! (v1alpha1). The targets are the graph's prefill and decode components, or their scaling adapters
//! where they have one, for then nobody else may write the replicas.

use pd_api::v1alpha1::{BudgetSpec, TargetReference};
use pd_core::{PerRole, Role};
use serde_json::{Map, Value};

use super::{
    Fate, ImportError, Imported, Remark, field_error,
    pair::{MAX_REPLICAS_REMEDY, Wanted, checked, combine},
    planner::{Planner, of_arguments, planner},
    role::RoleImport,
    select::{name_of, namespace_of, of_kind},
};

/// The kind.
pub const KIND: &str = "DynamoGraphDeployment";

/// Remark about a minimum below 1.
const AT_ZERO: &str = "a role of a graph keeps one replica at least";

/// One component of a graph.
#[derive(Clone, Debug, PartialEq)]
struct Component {
    name: String,
    kind: String,
    is_adapted: bool,
    gpus: Option<i32>,
    arguments: Vec<String>,
}

/// The PDAutoscaler for `graph`; `config` is the planner's configuration where it is not in the
/// graph.
pub fn import(
    graph: &Value,
    config: Option<(&str, Map<String, Value>)>,
    wanted: &Wanted,
) -> Result<Imported, ImportError> {
    let from = format!("{KIND} `{}`", name_of(graph));
    let components = components(graph, &from)?;
    let (source, keys) = match config {
        Some((source, keys)) => (source.to_owned(), keys),
        None => own_config(&components, &from)?,
    };
    let planner = planner(&source, &keys)?;
    let found = PerRole {
        prefill: role(graph, &components, Role::Prefill, &from)?,
        decode: role(graph, &components, Role::Decode, &from)?,
    };
    with_planner(found, &planner, wanted)
}

/// The configuration of the planner among `components`, and its name in a sentence.
fn own_config(
    components: &[Component],
    from: &str,
) -> Result<(String, Map<String, Value>), ImportError> {
    let Some(planner) = components.iter().find(|one| one.kind == "planner") else {
        let remedy =
            "give a graph with a planner, or the planner's configuration by --planner-config=FILE";
        return Err(field_error(from, "components", "no planner", remedy));
    };
    let source = format!("the planner of {from}");
    let keys = of_arguments(&source, &planner.arguments)?;
    Ok((source, keys))
}

/// The workers of `role` in `graph`.
pub(super) fn worker(graph: &Value, role: Role) -> Result<RoleImport, ImportError> {
    let from = format!("{KIND} `{}`", name_of(graph));
    self::role(graph, &components(graph, &from)?, role, &from)
}

/// The PDAutoscaler of two roles that a planner scaled.
pub fn with_planner(
    mut roles: PerRole<RoleImport>,
    planner: &Planner,
    wanted: &Wanted,
) -> Result<Imported, ImportError> {
    let mut remarks = planner.remarks.clone();
    let most = most(&roles, planner, wanted, &mut remarks)?;
    for role in Role::ALL {
        let own = std::mem::take(&mut roles[role].remarks);
        roles[role].bound(("min_endpoint", planner.min_replicas), most[role], AT_ZERO)?;
        roles[role].remarks.extend(own);
    }
    let wanted = Wanted {
        ttft: wanted.ttft.clone().or_else(|| Some(planner.ttft.clone())),
        tpot: wanted.tpot.clone().or_else(|| Some(planner.tpot.clone())),
        ..wanted.clone()
    };
    let mut imported = combine(roles, &wanted)?;
    imported.from.clone_from(&planner.from);
    imported.object.spec.budget = planner.gpus.map(budget);
    remarks.append(&mut imported.remarks);
    imported.remarks = remarks;
    checked(imported)
}

/// The most replicas of each role and where they are from: what the planner's budget leaves beside
/// the other role's minimum, or the caller's.
fn most(
    roles: &PerRole<RoleImport>,
    planner: &Planner,
    wanted: &Wanted,
    remarks: &mut Vec<Remark>,
) -> Result<PerRole<(&'static str, i64)>, ImportError> {
    let field = "max_gpu_budget";
    let Some(budget) = planner.gpus else {
        let Some(most) = &wanted.max_replicas else {
            return Err(field_error(
                &planner.from,
                field,
                "none",
                MAX_REPLICAS_REMEDY,
            ));
        };
        return Ok(PerRole::from_fn(|role| {
            ("--max-replicas", i64::from(most[role]))
        }));
    };
    let gpus = PerRole::from_fn(|role| {
        let stated = planner.gpus_per_replica[role];
        gpus(&roles[role], stated, remarks)
    });
    let most = PerRole::from_fn(|role| {
        let other = i64::from(gpus[role.other()]).saturating_mul(planner.min_replicas.max(1));
        (field, (i64::from(budget) - other) / i64::from(gpus[role]))
    });
    if most.iter().any(|(_, (_, most))| *most < 1) {
        let remedy = "give a budget that both roles' minimums fit into";
        return Err(field_error(&planner.from, field, budget, remedy));
    }
    Ok(most)
}

/// A budget of so many GPUs.
pub(super) fn budget(gpus: i32) -> BudgetSpec {
    BudgetSpec {
        gpus: Some(gpus),
        ..BudgetSpec::default()
    }
}

fn gpus(role: &RoleImport, stated: Option<i32>, remarks: &mut Vec<Remark>) -> i32 {
    if let Some(gpus) = stated.or(role.gpus_per_replica).filter(|gpus| *gpus > 0) {
        return gpus;
    }
    let remark = "no source says the GPUs of a replica: one is taken to share the budget";
    let field = format!("resources of {}", role.target.name);
    remarks.push(Remark::new(Fate::Assumed, field, 1, remark));
    1
}

fn role(
    graph: &Value,
    components: &[Component],
    role: Role,
    from: &str,
) -> Result<RoleImport, ImportError> {
    let of_role: Vec<&Component> = components
        .iter()
        .filter(|one| one.kind == role.as_str())
        .collect();
    let component = match of_role.as_slice() {
        [only] => *only,
        [] => {
            let remedy =
                "give a graph whose workers have the type (subComponentType) prefill and decode";
            return Err(field_error(
                from,
                "components",
                format!("no {role} worker"),
                remedy,
            ));
        }
        several => {
            let names: Vec<&str> = several.iter().map(|one| one.name.as_str()).collect();
            let remedy = format!(
                "a PDAutoscaler scales one of each: name it by --{role}-target={KIND}/NAME:COMPONENT"
            );
            return Err(field_error(
                from,
                "components",
                names.join(" and "),
                &remedy,
            ));
        }
    };
    let version = graph["apiVersion"].as_str().unwrap_or("nvidia.com/v1beta1");
    let mut remarks = Vec::new();
    let target = if component.is_adapted {
        let name = format!("{}-{}", name_of(graph), component.name.to_lowercase());
        let remark = "its scaling adapter is the target, for nobody else may write its replicas: check its name with kubectl get dgdsa";
        let field = format!("scalingAdapter of {}", component.name);
        remarks.push(Remark::new(Fate::Changed, field, &name, remark));
        TargetReference {
            api_version: version.to_owned(),
            kind: "DynamoGraphDeploymentScalingAdapter".to_owned(),
            name,
            role: None,
        }
    } else {
        TargetReference {
            api_version: version.to_owned(),
            kind: KIND.to_owned(),
            name: name_of(graph).to_owned(),
            role: Some(component.name.clone()),
        }
    };
    Ok(RoleImport {
        namespace: namespace_of(graph),
        gpus_per_replica: component.gpus,
        remarks,
        ..RoleImport::of_target(from.to_owned(), target)
    })
}

fn components(graph: &Value, from: &str) -> Result<Vec<Component>, ImportError> {
    let remedy = "give a DynamoGraphDeployment of nvidia.com";
    of_kind(graph, "nvidia.com", KIND, remedy)?;
    let spec = &graph["spec"];
    if let Some(components) = spec["components"].as_array() {
        return Ok(components.iter().map(of_list).collect());
    }
    if let Some(services) = spec["services"].as_object() {
        return Ok(services
            .iter()
            .map(|(name, service)| of_map(name, service))
            .collect());
    }
    Err(field_error(
        from,
        "spec.components",
        "unset",
        "give a graph with components or services",
    ))
}

/// A component of v1beta1.
fn of_list(component: &Value) -> Component {
    let text = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
    let containers = &component["podTemplate"]["spec"]["containers"];
    let of_container =
        |container: &Value| whole(&container["resources"]["limits"]["nvidia.com/gpu"]);
    let containers: Vec<&Value> = containers.as_array().into_iter().flatten().collect();
    let gpus = containers
        .iter()
        .filter_map(|one| of_container(one))
        .sum::<i32>();
    Component {
        name: text("name"),
        kind: text("type"),
        is_adapted: component["scalingAdapter"].is_object(),
        gpus: per_replica(gpus, component),
        arguments: containers.iter().flat_map(|one| words(one)).collect(),
    }
}

/// A service of v1alpha1.
fn of_map(name: &str, service: &Value) -> Component {
    let text = |key: &str| service[key].as_str();
    let kind = text("subComponentType").or(text("componentType"));
    let gpus = whole(&service["resources"]["limits"]["gpu"]).unwrap_or(0);
    Component {
        name: name.to_owned(),
        kind: kind.unwrap_or_default().to_owned(),
        is_adapted: service["scalingAdapter"]["enabled"] == true,
        gpus: per_replica(gpus, service),
        arguments: words(&service["extraPodSpec"]["mainContainer"]),
    }
}

/// GPUs of a replica, whose pods are as many as its nodes.
fn per_replica(gpus: i32, component: &Value) -> Option<i32> {
    let nodes = whole(&component["multinode"]["nodeCount"])
        .unwrap_or(1)
        .max(1);
    (gpus > 0).then(|| gpus.saturating_mul(nodes))
}

fn words(container: &Value) -> Vec<String> {
    let of = |key: &str| container[key].as_array().into_iter().flatten();
    let words = of("command").chain(of("args"));
    words
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect()
}

fn whole(value: &Value) -> Option<i32> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::import::select::documents;

    const BETA: &str = include_str!("../../fixtures/import/dynamo-v1beta1.yaml");
    const ALPHA: &str = include_str!("../../fixtures/import/dynamo-v1alpha1.yaml");

    fn graph(text: &str) -> Value {
        documents("graph", text).unwrap().remove(0)
    }

    #[test]
    fn objective_budget_and_components_are_carried_over() {
        let imported = import(&graph(BETA), None, &Wanted::default()).unwrap();
        let spec = &imported.object.spec;
        assert_eq!(imported.object.metadata.name.as_deref(), Some("qwen"));
        assert_eq!(
            imported.object.metadata.namespace.as_deref(),
            Some("inference")
        );
        assert_eq!(
            spec.prefill.target.role.as_deref(),
            Some("VllmPrefillWorker")
        );
        assert_eq!(spec.decode.target.role.as_deref(), Some("VllmDecodeWorker"));
        assert_eq!(
            (
                spec.objective.ttft.target.0.as_str(),
                spec.objective.tpot.target.0.as_str()
            ),
            ("300ms", "20ms")
        );
        assert_eq!(spec.budget.as_ref().unwrap().gpus, Some(32));
        // 2 GPUs a prefill replica, 4 a decode replica of two nodes: one of the other fits always.
        assert_eq!(
            (spec.prefill.max_replicas, spec.decode.max_replicas),
            (14, 7)
        );
    }

    #[test]
    fn the_older_version_has_a_map_and_adapters_are_targets() {
        let imported = import(&graph(ALPHA), None, &Wanted::default()).unwrap();
        let spec = &imported.object.spec;
        assert_eq!(spec.prefill.target.api_version, "nvidia.com/v1alpha1");
        assert_eq!(
            spec.prefill.target.role.as_deref(),
            Some("TRTLLMPrefillWorker")
        );
        let decode = &spec.decode.target;
        assert_eq!(decode.kind, "DynamoGraphDeploymentScalingAdapter");
        assert_eq!(
            (decode.name.as_str(), decode.role.as_deref()),
            ("qwen-trtllmdecodeworker", None)
        );
        assert!(
            imported
                .remarks
                .iter()
                .any(|one| one.field.starts_with("scalingAdapter"))
        );
    }

    #[test]
    fn a_limit_of_the_command_line_counts_before_the_planners() {
        let wanted = Wanted {
            ttft: Some(pd_api::v1alpha1::DurationText("1s".to_owned())),
            ..Wanted::default()
        };
        let imported = import(&graph(BETA), None, &wanted).unwrap();
        assert_eq!(imported.object.spec.objective.ttft.target.0, "1s");
        assert_eq!(imported.object.spec.objective.tpot.target.0, "20ms");
    }

    #[test]
    fn a_configuration_from_a_file_counts_before_the_graphs() {
        let keys = json!({ "optimization_target": "sla", "ttft_ms": 700, "itl_ms": 30, "max_gpu_budget": 12 });
        let config = Some(("planner.yaml", keys.as_object().unwrap().clone()));
        let imported = import(&graph(BETA), config, &Wanted::default()).unwrap();
        assert_eq!(imported.from, "planner.yaml");
        assert_eq!(imported.object.spec.objective.ttft.target.0, "700ms");
    }

    #[rstest]
    #[case::no_planner("/spec/components/0/type", json!("frontend"), "no planner")]
    #[case::no_prefill("/spec/components/2/type", json!("worker"), "no prefill worker")]
    #[case::two_decodes("/spec/components/2/type", json!("decode"), "no prefill worker")]
    #[case::no_components("/spec/components", json!(null), "spec.components `unset`")]
    #[case::kind("/kind", json!("Deployment"), "is no DynamoGraphDeployment")]
    fn faults_are_named(#[case] pointer: &str, #[case] value: Value, #[case] want: &str) {
        let mut graph = graph(BETA);
        *graph.pointer_mut(pointer).unwrap() = value;
        let error = import(&graph, None, &Wanted::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
    }

    /// The planner's configuration with `budget`.
    fn with_budget(budget: &Value) -> (&'static str, Map<String, Value>) {
        let keys = json!({ "optimization_target": "sla", "ttft": 300, "itl": 20, "max_gpu_budget": budget });
        ("planner.yaml", keys.as_object().unwrap().clone())
    }

    fn with_max(prefill: i32, decode: i32) -> Wanted {
        Wanted {
            max_replicas: Some(PerRole { prefill, decode }),
            ..Wanted::default()
        }
    }

    #[rstest]
    #[case::v1beta1(BETA)]
    #[case::v1alpha1(ALPHA)]
    fn a_planner_without_a_budget_has_the_maximum_of_the_command_line(#[case] text: &str) {
        let imported =
            import(&graph(text), Some(with_budget(&json!(-1))), &with_max(6, 9)).unwrap();
        let spec = &imported.object.spec;
        assert_eq!(
            (spec.prefill.max_replicas, spec.decode.max_replicas),
            (6, 9)
        );
        assert_eq!(spec.budget, None);
        let shared = imported
            .remarks
            .iter()
            .find(|one| one.remark.contains("budget"));
        assert_eq!(shared, None);
    }

    #[test]
    fn a_planner_without_a_budget_and_a_maximum_names_the_flag() {
        let error = import(
            &graph(BETA),
            Some(with_budget(&json!(-1))),
            &Wanted::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("max_gpu_budget `none`") && error.contains("--max-replicas=16"),
            "{error}"
        );
    }

    #[test]
    fn a_maximum_of_the_command_line_counts_before_the_budgets_and_the_budget_stays() {
        let imported =
            import(&graph(BETA), Some(with_budget(&json!(32))), &with_max(3, 4)).unwrap();
        let spec = &imported.object.spec;
        assert_eq!(
            (spec.prefill.max_replicas, spec.decode.max_replicas),
            (3, 4)
        );
        assert_eq!(spec.budget.as_ref().unwrap().gpus, Some(32));
        let remarked = imported
            .remarks
            .iter()
            .filter(|one| one.remark.contains("--max-replicas"));
        assert_eq!(remarked.count(), 2);
    }

    #[test]
    fn workloads_without_a_graph_have_the_maximum_of_the_command_line() {
        let target = |name: &str| {
            let text = format!("Deployment/{name}");
            RoleImport::named(&text.parse::<crate::import::role::TargetFlag>().unwrap().0)
        };
        let roles = PerRole {
            prefill: target("qwen-prefill"),
            decode: target("qwen-decode"),
        };
        let (from, keys) = with_budget(&json!(-1));
        let planner = planner(from, &keys).unwrap();
        let imported = with_planner(roles.clone(), &planner, &with_max(6, 9)).unwrap();
        let spec = &imported.object.spec;
        assert_eq!(
            (spec.prefill.max_replicas, spec.decode.max_replicas),
            (6, 9)
        );
        let error = with_planner(roles, &planner, &Wanted::default()).unwrap_err();
        assert!(error.to_string().contains("--max-replicas"), "{error}");
    }

    #[test]
    fn a_budget_that_holds_no_pair_is_refused() {
        let keys = json!({ "ttft": 1, "itl": 1, "max_gpu_budget": 5 });
        let config = Some(("c", keys.as_object().unwrap().clone()));
        let error = import(&graph(BETA), config, &Wanted::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("max_gpu_budget `5`"), "{error}");
    }
}
