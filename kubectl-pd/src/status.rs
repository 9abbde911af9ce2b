//! `kubectl pd status`: PDAutoscalers, one line each, and everything about one.
//!
//! The columns are those of `kubectl get pda`, by the same names and in the same order, and two
//! more: the share of requests that kept the objective, and the limit that keeps replicas from what
//! the objective needs. Pure: objects and a time in, text out. [`detail`] has the view of one.

pub mod detail;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use pd_api::{
    ConditionType,
    age::age,
    condition,
    v1alpha1::{PDAutoscaler, PDAutoscalerStatus},
    wording::{least_attainment, limited_by},
};

use crate::table::{or_none, table};

/// The cell of an object in a column; nothing where it is not known.
type Cell = fn(&PDAutoscaler, &PDAutoscalerStatus) -> Option<String>;

/// A column, and whether it is shown only when all are.
struct Column {
    name: &'static str,
    is_wide: bool,
    cell: Cell,
}

const fn column(name: &'static str, cell: Cell) -> Column {
    Column {
        name,
        is_wide: false,
        cell,
    }
}

const fn wide(name: &'static str, cell: Cell) -> Column {
    Column {
        is_wide: true,
        ..column(name, cell)
    }
}

/// The columns between the name and the age.
const COLUMNS: [Column; 15] = [
    column("Mode", |object, _| {
        Some(object.spec.mode.as_str().to_owned())
    }),
    column("Prefill", |_, status| {
        Some(status.prefill.as_ref()?.current_replicas.to_string())
    }),
    column("P-Desired", |_, status| {
        Some(status.prefill.as_ref()?.desired_replicas?.to_string())
    }),
    column("Decode", |_, status| {
        Some(status.decode.as_ref()?.current_replicas.to_string())
    }),
    column("D-Desired", |_, status| {
        Some(status.decode.as_ref()?.desired_replicas?.to_string())
    }),
    column("Ratio", |_, status| status.ratio.as_ref()?.current.clone()),
    column(ATTAINMENT, |_, status| {
        Some(format!("{}%", least_attainment(status)?))
    }),
    column("Ready", |_, status| {
        Some(
            condition::get(&status.conditions, ConditionType::Ready)?
                .status
                .clone(),
        )
    }),
    column("Reason", |_, status| {
        Some(
            condition::get(&status.conditions, ConditionType::Ready)?
                .reason
                .clone(),
        )
    }),
    column(LIMITED_BY, |_, status| {
        limited_by(status).map(str::to_owned)
    }),
    wide("TTFT-ms", |_, status| {
        Some(status.latency.as_ref()?.ttft_milliseconds?.to_string())
    }),
    wide("TPOT-ms", |_, status| {
        Some(status.latency.as_ref()?.tpot_milliseconds?.to_string())
    }),
    wide("Bottleneck", |_, status| status.bottleneck.clone()),
    wide("GPUs", |_, status| {
        Some(status.gpus.as_ref()?.current.to_string())
    }),
    wide("Decision", |_, status| {
        Some(status.last_decision.as_ref()?.message.clone())
    }),
];

/// The column that the CRD does not have: percent of requests that kept both limits.
const ATTAINMENT: &str = "Attainment";
/// The column that the CRD does not have: the reason of `ScalingLimited` while it is true.
const LIMITED_BY: &str = "Limited-By";

/// How much of a list is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Whether the namespace is a column.
    pub namespace: bool,
    /// Whether the columns of `-o wide` are shown.
    pub wide: bool,
}

/// The table of `objects`, in the order of their namespaces and names.
pub fn list(objects: &[PDAutoscaler], columns: Columns, now: Timestamp) -> String {
    let shown: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| columns.wide || !column.is_wide)
        .collect();
    let mut header = vec!["Name"];
    if columns.namespace {
        header.insert(0, "Namespace");
    }
    header.extend(shown.iter().map(|column| column.name));
    header.push("Age");
    let mut objects: Vec<&PDAutoscaler> = objects.iter().collect();
    objects.sort_by_key(|object| (object.namespace(), object.name_any()));
    let row = |object: &&PDAutoscaler| {
        let status = object.status.clone().unwrap_or_default();
        let mut row = vec![object.name_any()];
        if columns.namespace {
            row.insert(0, object.namespace().unwrap_or_default());
        }
        row.extend(
            shown
                .iter()
                .map(|column| or_none((column.cell)(object, &status))),
        );
        row.push(created(object, now));
        row
    };
    let rows: Vec<Vec<String>> = objects.iter().map(row).collect();
    table(&header, &rows)
}

/// The age of an object.
fn created(object: &PDAutoscaler, now: Timestamp) -> String {
    let created = object.creation_timestamp();
    or_none(created.map(|created| age(&created, now)))
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;
    use crate::tests::samples::{NOW, object};

    #[test]
    fn the_columns_are_those_of_kubectl_get() {
        let crd = PDAutoscaler::crd();
        let columns = crd.spec.versions[0]
            .additional_printer_columns
            .clone()
            .unwrap();
        let want: Vec<(String, bool)> = columns
            .into_iter()
            .map(|column| (column.name, column.priority.unwrap_or(0) > 0))
            .filter(|(name, _)| name != "Age")
            .collect();
        let own = |column: &&Column| ![ATTAINMENT, LIMITED_BY].contains(&column.name);
        let got: Vec<(String, bool)> = COLUMNS
            .iter()
            .filter(own)
            .map(|column| (column.name.to_owned(), column.is_wide))
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn an_object_without_status_has_a_line_too() {
        let mut fresh = object("steady");
        fresh.status = None;
        let text = list(&[fresh], Columns::default(), NOW);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("llama-70b   Auto"), "{line}");
        assert_eq!(line.matches(" -").count(), 9, "{line}");
    }

    #[test]
    fn objects_are_sorted_by_namespace_and_name() {
        let named = |namespace: &str, name: &str| {
            let mut one = object("steady");
            one.metadata.namespace = Some(namespace.to_owned());
            one.metadata.name = Some(name.to_owned());
            one
        };
        let all = [named("b", "a"), named("a", "z"), named("a", "b")];
        let columns = Columns {
            namespace: true,
            wide: false,
        };
        let text = list(&all, columns, NOW);
        let places: Vec<String> = text
            .lines()
            .skip(1)
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().take(2).collect();
                words.join("/")
            })
            .collect();
        assert_eq!(places, ["a/b", "a/z", "b/a"]);
    }
}
