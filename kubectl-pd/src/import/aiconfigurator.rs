//! The output of NVIDIA's `AIConfigurator` for disaggregated serving as a PDAutoscaler.
//!
//! A run finds, for one kind of traffic, how many prefill workers and decode workers of which size
//! serve best within latency limits and a number of GPUs. The limits are the objective, the GPUs
//! the budget, and the best configuration of each run is an operating point for the ratio. It is
//! not a performance profile: capacity is learnt. The workloads are those of the run's manifest
//! for Dynamo, or are named by the caller.

use pd_api::v1alpha1::{
    OperatingPointSpec, RatioPolicyKind, RatioSpec, TargetReference,
    ratio::{OPERATING_POINT_TOKENS_MAX, OPERATING_POINTS_MAX},
};
use pd_core::{PerRole, Ratio, Role};
use pd_signals::import::aiconfigurator::{OperatingPoint, operating_points};
use serde::Deserialize;

use super::{
    Fate, ImportError, Imported, Remark,
    dynamo::{self, budget},
    field_error,
    pair::{Wanted, checked, combine, milliseconds},
    role::RoleImport,
    select::documents,
    text_error,
};

/// The texts of one run, from its folder `disagg`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The folder, as a sentence names it.
    pub folder: String,
    /// `best_config_topn.csv`.
    pub results: String,
    /// `exp_config.yaml`.
    pub experiment: Option<String>,
    /// `top1/k8s_deploy.yaml`.
    pub manifest: Option<String>,
}

/// The question of a run; keys that scaling has no use for are left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Experiment {
    ttft: Option<f64>,
    tpot: Option<f64>,
    total_gpus: Option<u32>,
}

/// The PDAutoscaler of `runs` of one service, each for a kind of traffic. `targets` are the
/// workloads where the runs name none.
pub fn import(
    runs: &[Run],
    targets: &PerRole<Option<TargetReference>>,
    wanted: &Wanted,
) -> Result<Imported, ImportError> {
    let mut remarks = Vec::new();
    let points = best(runs, &mut remarks)?;
    let (Some(first), Some(best)) = (runs.first(), points.first()) else {
        let remedy = "give the output directory of a run".to_owned();
        return Err(ImportError::Role {
            role: Role::Prefill,
            remedy,
        });
    };
    let experiment = experiment(first)?;
    let gpus = gpus_needed(&first.results).or(experiment.total_gpus);
    let gpus = gpus.and_then(|gpus| i32::try_from(gpus).ok());
    let per_worker = best.gpus_per_worker;
    let most = gpus.map(|gpus| i64::from(gpus).max(i64::try_from(best.gpus()).unwrap_or(i64::MAX)));
    let mut roles = roles(first, targets)?;
    for role in Role::ALL {
        let workers = i64::from(best.workers[role]);
        let max = match (most, &wanted.max_replicas) {
            (Some(gpus), _) => {
                let max =
                    (gpus - i64::from(per_worker[role.other()])) / i64::from(per_worker[role]);
                max.max(workers)
            }
            (None, Some(max)) => i64::from(max[role]),
            (None, None) => workers,
        };
        roles[role].gpus_per_replica = i32::try_from(per_worker[role]).ok();
        let (min, max) = (("minReplicas", 1), ("total_gpus", max));
        roles[role].bound(min, max, "")?;
    }
    let wanted = Wanted {
        ttft: wanted
            .ttft
            .clone()
            .or_else(|| milliseconds(experiment.ttft?)),
        tpot: wanted
            .tpot
            .clone()
            .or_else(|| milliseconds(experiment.tpot?)),
        ..wanted.clone()
    };
    let mut imported = combine(roles, &wanted)?;
    imported.from = format!("AIConfigurator {}", folders(runs));
    imported.object.spec.budget = most.and_then(|gpus| i32::try_from(gpus).ok()).map(budget);
    imported.object.spec.ratio = ratio(&points, &mut remarks);
    let is_limited = gpus.is_some() || wanted.max_replicas.is_some();
    remarks.extend(about(best, is_limited));
    imported.remarks.splice(0..0, remarks);
    checked(imported)
}

fn folders(runs: &[Run]) -> String {
    let names: Vec<String> = runs.iter().map(|run| format!("`{}`", run.folder)).collect();
    names.join(" and ")
}

/// The best configuration of each run. All must be of the same workers: a ratio of others means
/// other GPUs.
fn best(runs: &[Run], remarks: &mut Vec<Remark>) -> Result<Vec<OperatingPoint>, ImportError> {
    let mut points: Vec<OperatingPoint> = Vec::new();
    for run in runs {
        let what = format!("{}/best_config_topn.csv", run.folder);
        let found = operating_points(&run.results).map_err(|cause| ImportError::Table {
            what: what.clone(),
            cause,
        })?;
        if found.len() > 1 {
            let remark = "the best one is taken: ratios of workers of other sizes mean other GPUs";
            let value = format!("{} more", found.len() - 1);
            remarks.push(Remark::new(Fate::Dropped, &what, value, remark));
        }
        let Some(point) = found.into_iter().next() else {
            continue;
        };
        if let Some(first) = points.first()
            && first.gpus_per_worker != point.gpus_per_worker
        {
            let sizes = |point: &OperatingPoint| {
                let PerRole { prefill, decode } = point.gpus_per_worker;
                format!("{prefill} and {decode} GPUs")
            };
            let remedy = format!(
                "give runs whose workers are as large as the first one's, {}",
                sizes(first)
            );
            return Err(field_error(&what, "workers", sizes(&point), &remedy));
        }
        points.push(point);
    }
    Ok(points)
}

/// GPUs for the rate that `aiconfigurator cli recommend` was asked for: the best configuration as
/// often as the rate needs it. Other runs have no such column.
fn gpus_needed(results: &str) -> Option<u32> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(results.as_bytes());
    let mut columns = reader.headers().ok()?.iter();
    let column = columns.position(|column| column == "total_gpus_needed")?;
    let best = reader.records().next()?.ok()?;
    let needed = best.get(column)?;
    needed.strip_suffix(".0").unwrap_or(needed).parse().ok()
}

fn experiment(run: &Run) -> Result<Experiment, ImportError> {
    let Some(text) = &run.experiment else {
        return Ok(Experiment::default());
    };
    let what = format!("{}/exp_config.yaml", run.folder);
    serde_saphyr::from_str(text).map_err(|error| text_error(&what, error))
}

/// The workloads: those that are named, or the workers of the run's manifest.
fn roles(
    run: &Run,
    targets: &PerRole<Option<TargetReference>>,
) -> Result<PerRole<RoleImport>, ImportError> {
    let manifest = match &run.manifest {
        Some(text) => documents(&format!("{}/top1/k8s_deploy.yaml", run.folder), text)?,
        None => Vec::new(),
    };
    let graph = manifest.iter().find(|one| one["kind"] == dynamo::KIND);
    let role = |role: Role| -> Result<RoleImport, ImportError> {
        if let Some(target) = &targets[role] {
            return Ok(RoleImport::named(target));
        }
        let Some(graph) = graph else {
            let remedy = format!(
                "the run has no manifest of a {}: give --{role}-target=KIND/NAME",
                dynamo::KIND
            );
            return Err(ImportError::Role { role, remedy });
        };
        dynamo::worker(graph, role)
    };
    Ok(PerRole {
        prefill: role(Role::Prefill)?,
        decode: role(Role::Decode)?,
    })
}

/// The ratio of each run's best configuration, by its traffic.
fn ratio(points: &[OperatingPoint], remarks: &mut Vec<Remark>) -> RatioSpec {
    let mut named: Vec<OperatingPointSpec> = Vec::new();
    for point in points {
        let tokens = |tokens: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "bounded before")]
            let whole = tokens
                .round()
                .clamp(1.0, f64::from(OPERATING_POINT_TOKENS_MAX)) as i32;
            whole
        };
        let (input, output) = (tokens(point.input_tokens), tokens(point.output_tokens));
        let name = format!("isl{input}-osl{output}");
        let workers = format!("{}:{}", point.workers.prefill, point.workers.decode);
        let Some((prefill, decode)) = parts(point.workers) else {
            let remark = "it is no ratio that the API holds: the ratio follows the traffic";
            remarks.push(Remark::new(Fate::Dropped, "workers", workers, remark));
            continue;
        };
        let again = named.iter().any(|known| known.name == name);
        if again || named.len() == OPERATING_POINTS_MAX {
            let remark = "there is one operating point for a kind of traffic, and at most 32";
            remarks.push(Remark::new(Fate::Dropped, name, workers, remark));
            continue;
        }
        named.push(OperatingPointSpec {
            name,
            prefill,
            decode,
            input_tokens: input,
            output_tokens: output,
        });
    }
    if named.is_empty() {
        return RatioSpec::default();
    }
    RatioSpec {
        policy: RatioPolicyKind::OperatingPoints,
        operating_points: Some(named),
        ..RatioSpec::default()
    }
}

/// The workers of both roles, where they make a ratio that the API holds.
fn parts(workers: PerRole<u32>) -> Option<(i32, i32)> {
    let ratio = Ratio::new(workers.prefill, workers.decode)?;
    let part = |workers: u32| i32::try_from(workers).ok();
    Some((part(ratio.prefill())?, part(ratio.decode())?))
}

/// Results of a run that a PDAutoscaler has another idea of.
fn about(best: &OperatingPoint, is_limited: bool) -> Vec<Remark> {
    let mut remarks = vec![
        Remark::new(
            Fate::Changed,
            "ttft, tpot",
            format!(
                "{:.0} ms and {:.1} ms computed",
                best.ttft_seconds * 1e3,
                best.tpot_seconds * 1e3
            ),
            "computed means within the limits of the run; here the limits hold at the 95th percentile: see percentile",
        ),
        Remark::new(
            Fate::Dropped,
            "(p)seq/s/worker, (d)seq/s/worker",
            format!(
                "{} and {}",
                best.rate_per_worker_rps.prefill, best.rate_per_worker_rps.decode
            ),
            "it holds at one batch and length: capacity is learnt; a table of times goes into spec.capacity.prefill.profileRef",
        ),
    ];
    if !is_limited {
        let remark =
            "no total_gpus in exp_config.yaml: the workers of the best configuration are the most";
        remarks.push(Remark::new(
            Fate::Assumed,
            "spec.maxReplicas",
            "unset",
            remark,
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::import::role::TargetFlag;

    const RESULTS: &str =
        include_str!("../../fixtures/import/aiconfigurator/disagg/best_config_topn.csv");
    const EXPERIMENT: &str =
        include_str!("../../fixtures/import/aiconfigurator/disagg/exp_config.yaml");
    const MANIFEST: &str =
        include_str!("../../fixtures/import/aiconfigurator/disagg/top1/k8s_deploy.yaml");

    fn run() -> Run {
        Run {
            folder: "out/disagg".to_owned(),
            results: RESULTS.to_owned(),
            experiment: Some(EXPERIMENT.to_owned()),
            manifest: Some(MANIFEST.to_owned()),
        }
    }

    fn none() -> PerRole<Option<TargetReference>> {
        PerRole::from_fn(|_| None)
    }

    #[test]
    fn limits_budget_ratio_and_workers_are_carried_over() {
        let imported = import(&[run()], &none(), &Wanted::default()).unwrap();
        let spec = &imported.object.spec;
        assert_eq!(
            imported.object.metadata.name.as_deref(),
            Some("dynamo-disagg")
        );
        assert_eq!(
            (
                spec.objective.ttft.target.0.as_str(),
                spec.objective.tpot.target.0.as_str()
            ),
            ("300ms", "10ms")
        );
        assert_eq!(spec.budget.as_ref().unwrap().gpus, Some(32));
        assert_eq!(spec.prefill.gpus_per_replica, Some(4));
        assert_eq!(
            spec.prefill.target.role.as_deref(),
            Some("TRTLLMPrefillWorker")
        );
        // 32 GPUs, of which one worker of the other role holds 4.
        assert_eq!(
            (spec.prefill.max_replicas, spec.decode.max_replicas),
            (7, 7)
        );
        let point = &spec.ratio.operating_points.as_ref().unwrap()[0];
        assert_eq!(
            (
                point.prefill,
                point.decode,
                point.input_tokens,
                point.output_tokens
            ),
            (5, 3, 4_000, 500)
        );
        assert_eq!(point.name, "isl4000-osl500");
    }

    #[test]
    fn a_run_for_a_rate_says_the_gpus_that_the_rate_needs() {
        let lines = RESULTS
            .lines()
            .enumerate()
            .map(|(index, line)| match index {
                0 => format!("{line},replicas_needed,total_gpus_needed"),
                _ => format!("{line},2,64"),
            });
        let for_rate = Run {
            results: lines.collect::<Vec<_>>().join("\n"),
            ..run()
        };
        let spec = import(&[for_rate], &none(), &Wanted::default())
            .unwrap()
            .object
            .spec;
        assert_eq!(spec.budget.unwrap().gpus, Some(64));
        assert_eq!(
            (spec.prefill.max_replicas, spec.decode.max_replicas),
            (15, 15)
        );
    }

    #[test]
    fn runs_for_several_kinds_of_traffic_are_several_operating_points() {
        let chat = Run {
            results: RESULTS.replace(",4000,500,0,", ",500,1000,0,"),
            ..run()
        };
        let imported = import(&[run(), chat], &none(), &Wanted::default()).unwrap();
        let points = imported.object.spec.ratio.operating_points.unwrap();
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        assert_eq!(names, ["isl4000-osl500", "isl500-osl1000"]);
    }

    #[test]
    fn workloads_that_are_named_need_no_manifest() {
        let target = |text: &str| text.parse::<TargetFlag>().ok().map(|flag| flag.0);
        let targets = PerRole {
            prefill: target("LeaderWorkerSet/llama-prefill"),
            decode: target("LeaderWorkerSet/llama-decode"),
        };
        let without = Run {
            manifest: None,
            ..run()
        };
        let imported = import(&[without], &targets, &Wanted::default()).unwrap();
        assert_eq!(imported.object.metadata.name.as_deref(), Some("llama"));
        assert_eq!(imported.object.spec.prefill.target.kind, "LeaderWorkerSet");
    }

    #[rstest]
    #[case::more_than_the_gpus(Some(EXPERIMENT), Some((9, 3)), (9, 3), 2, false)]
    #[case::fewer_than_the_workers(Some(EXPERIMENT), Some((2, 2)), (2, 2), 2, false)]
    #[case::of_the_gpus(Some(EXPERIMENT), None, (7, 7), 0, false)]
    #[case::no_gpus(None, Some((9, 3)), (9, 3), 0, false)]
    #[case::the_workers_of_the_best(None, None, (5, 3), 0, true)]
    fn a_maximum_of_the_command_line_counts_before_the_runs(
        #[case] experiment: Option<&str>,
        #[case] max: Option<(i32, i32)>,
        #[case] want: (i32, i32),
        #[case] changed: usize,
        #[case] is_assumed: bool,
    ) {
        let run = Run {
            experiment: experiment.map(str::to_owned),
            ..run()
        };
        let limit = |text: &str| Some(pd_api::v1alpha1::DurationText(text.to_owned()));
        let wanted = Wanted {
            max_replicas: max.map(|(prefill, decode)| PerRole { prefill, decode }),
            ttft: limit("300ms"),
            tpot: limit("10ms"),
            ..Wanted::default()
        };
        let imported = import(&[run], &none(), &wanted).unwrap();
        let spec = &imported.object.spec;
        assert_eq!((spec.prefill.max_replicas, spec.decode.max_replicas), want);
        let remarks = &imported.remarks;
        let of_flag = remarks
            .iter()
            .filter(|one| one.remark.contains("--max-replicas"));
        assert_eq!(of_flag.count(), changed);
        assert_eq!(
            remarks.iter().any(|one| one.field == "spec.maxReplicas"),
            is_assumed
        );
    }

    #[rstest]
    #[case::no_workload(Run { manifest: None, ..run() }, "--prefill-target=KIND/NAME")]
    #[case::no_results(Run { results: "a,b\n".to_owned(), ..run() }, "out/disagg/best_config_topn.csv")]
    #[case::aggregated(Run { results: RESULTS.replace("(p)workers", "workers"), ..run() }, "no column `(p)workers`")]
    #[case::experiment(Run { experiment: Some("ttft: [".to_owned()), ..run() }, "out/disagg/exp_config.yaml")]
    #[case::no_limits(Run { experiment: None, ..run() }, "--ttft")]
    fn faults_are_named(#[case] run: Run, #[case] want: &str) {
        let error = import(&[run], &none(), &Wanted::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn workers_of_other_sizes_are_no_operating_point() {
        let larger = Run {
            folder: "other".to_owned(),
            results: RESULTS.replace(",4,1,1,1,1,1,tp4", ",8,1,1,1,1,1,tp8"),
            ..run()
        };
        let error = import(&[run(), larger], &none(), &Wanted::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("8 and 4 GPUs"), "{error}");
    }
}
