//! `kubectl pd import`: reads the sources, and writes the PDAutoscaler.

use pd_core::{PerRole, Role};
use serde_json::Value;

use super::RunError;
use crate::{
    args::{AiconfiguratorArgs, ClusterArgs, DynamoArgs, ObjectArgs, PairArgs, Source},
    cluster::{Cluster, ClusterError},
    import::{
        ImportError, Imported, aiconfigurator, dynamo, horizontal, manifest,
        pair::{Wanted, combine},
        planner,
        role::RoleImport,
        scaled_object,
        select::{Named, documents, name_of, select},
    },
    output::Output,
    source,
};

/// Runs the command; gives what is printed.
pub(super) async fn import(flags: &ClusterArgs, source: &Source) -> Result<String, RunError> {
    let (imported, object) = match source {
        Source::Hpa(args) => (pair(flags, args, &HPA).await?, &args.object),
        Source::Keda(args) => (pair(flags, args, &KEDA).await?, &args.object),
        Source::Dynamo(args) => (graph(flags, args).await?, &args.object),
        Source::Aiconfigurator(args) => (runs(flags, args)?, &args.object),
    };
    Ok(match object.output.output {
        None | Some(Output::Yaml) => manifest::yaml(&imported)?,
        Some(Output::Json) => {
            // JSON has no comments.
            eprint!("{}", manifest::comments(&imported));
            manifest::json_text(&imported)?
        }
        Some(Output::Table | Output::Wide) => manifest::remarks(&imported),
    })
}

/// A kind that scales one workload.
struct Kind {
    name: &'static str,
    resource: (&'static str, &'static str, &'static str, &'static str),
    remedy: &'static str,
    role: fn(&Value) -> Result<RoleImport, ImportError>,
}

const HPA: Kind = Kind {
    name: horizontal::KIND,
    resource: (
        "autoscaling",
        "v2",
        horizontal::KIND,
        "horizontalpodautoscalers",
    ),
    remedy: "give the objects by --filename",
    role: horizontal::role,
};

const KEDA: Kind = Kind {
    name: scaled_object::KIND,
    resource: ("keda.sh", "v1alpha1", scaled_object::KIND, "scaledobjects"),
    remedy: "KEDA is not installed there: give the objects by --filename",
    role: scaled_object::role,
};

async fn pair(flags: &ClusterArgs, args: &PairArgs, kind: &Kind) -> Result<Imported, RunError> {
    let objects = if let Some(path) = &args.filename {
        documents(&path.display().to_string(), &source::text(path)?)?
    } else {
        let cluster = Cluster::connect(flags).await?;
        cluster.foreign(kind.resource, kind.remedy).await?
    };
    let named = Named {
        names: PerRole {
            prefill: args.prefill.clone(),
            decode: args.decode.clone(),
        },
        without: PerRole {
            prefill: args.object.prefill_target.is_some(),
            decode: args.object.decode_target.is_some(),
        },
    };
    let found = select(kind.name, &objects, &named)?;
    let role = |role: Role| -> Result<RoleImport, ImportError> {
        match (&found[role], target(&args.object, role)) {
            (Some(object), _) => (kind.role)(object),
            (None, Some(target)) => Ok(RoleImport::named(target)),
            (None, None) => Err(ImportError::Role {
                role,
                remedy: format!("give --{role}=NAME or --{role}-target=KIND/NAME"),
            }),
        }
    };
    let roles = PerRole {
        prefill: role(Role::Prefill)?,
        decode: role(Role::Decode)?,
    };
    Ok(combine(roles, &wanted(flags, &args.object))?)
}

fn target(object: &ObjectArgs, role: Role) -> Option<&pd_api::v1alpha1::TargetReference> {
    let flag = match role {
        Role::Prefill => object.prefill_target.as_ref(),
        Role::Decode => object.decode_target.as_ref(),
    };
    flag.map(|flag| &flag.0)
}

fn wanted(flags: &ClusterArgs, object: &ObjectArgs) -> Wanted {
    Wanted {
        name: object.name.clone(),
        namespace: flags.namespace.clone(),
        ttft: object.ttft.clone(),
        tpot: object.tpot.clone(),
        max_replicas: object.max_replicas.map(|flag| flag.0),
    }
}

async fn graph(flags: &ClusterArgs, args: &DynamoArgs) -> Result<Imported, RunError> {
    let config = match &args.planner_config {
        Some(path) => {
            let name = path.display().to_string();
            let keys = planner::of_text(&name, &source::text(path)?)?;
            Some((name, keys))
        }
        None => None,
    };
    let wanted = wanted(flags, &args.object);
    let objects = match (&args.filename, &args.graph) {
        (Some(path), _) => documents(&path.display().to_string(), &source::text(path)?)?,
        (None, Some(_)) => graphs(flags).await?,
        (None, None) => Vec::new(),
    };
    let is_wanted = |object: &&Value| {
        object["kind"] == dynamo::KIND
            && args
                .graph
                .as_deref()
                .is_none_or(|name| name_of(object) == name)
    };
    if let Some(graph) = objects.iter().find(is_wanted) {
        let config = config
            .as_ref()
            .map(|(name, keys)| (name.as_str(), keys.clone()));
        return Ok(dynamo::import(graph, config, &wanted)?);
    }
    // A planner's configuration alone: the workloads are named on the command line.
    let roles = (
        target(&args.object, Role::Prefill),
        target(&args.object, Role::Decode),
    );
    if let (Some((name, keys)), (Some(prefill), Some(decode))) = (&config, roles) {
        let roles = PerRole {
            prefill: RoleImport::named(prefill),
            decode: RoleImport::named(decode),
        };
        let planner = planner::planner(name, keys)?;
        return Ok(dynamo::with_planner(roles, &planner, &wanted)?);
    }
    let place = args.filename.as_ref().map_or_else(
        || "the cluster".to_owned(),
        |path| path.display().to_string(),
    );
    Err(RunError::Import(ImportError::Role {
        role: Role::Prefill,
        remedy: format!(
            "{place} has no such {}: correct its name, or give --prefill-target and --decode-target with --planner-config",
            dynamo::KIND
        ),
    }))
}

/// The graphs of the namespace, of the newest version that is served.
async fn graphs(flags: &ClusterArgs) -> Result<Vec<Value>, RunError> {
    let cluster = Cluster::connect(flags).await?;
    let remedy = "Dynamo is not installed there: give the graph by --filename";
    let of = |version| {
        (
            "nvidia.com",
            version,
            dynamo::KIND,
            "dynamographdeployments",
        )
    };
    match cluster.foreign(of("v1beta1"), remedy).await {
        Err(ClusterError::NotServed { .. }) => Ok(cluster.foreign(of("v1alpha1"), remedy).await?),
        found => Ok(found?),
    }
}

fn runs(flags: &ClusterArgs, args: &AiconfiguratorArgs) -> Result<Imported, RunError> {
    let runs = args
        .directories
        .iter()
        .map(|directory| source::run(directory));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    let targets = PerRole::from_fn(|role| target(&args.object, role).cloned());
    Ok(aiconfigurator::import(
        &runs,
        &targets,
        &wanted(flags, &args.object),
    )?)
}
