//! Updates: what somebody makes of the tolerations of a stored pod or template is accepted by both
//! or refused for the same causes, and what would be stored means the same.
//!
//! A live pod may gain tolerations and change the seconds of those it has, and nothing else; a
//! template may change in every way. Whoever updates writes the list with its numbers, as in the
//! manifest, or edits the list that is stored, in which the numbers that were there are `Exists`.
//! Nothing is kept.

use futures::{StreamExt as _, stream};
use kube::api::{Patch, PatchParams, PostParams};
use pd_tolerations::{
    ExtendedToleration, Toleration,
    rewrite::{ANNOTATION, restore, rewrite},
};
use serde_json::{Value, json};

use crate::{
    admission::{CONCURRENCY, KINDS, Refusal, api, object, refusal_of},
    difference::{Difference, Tally},
    generate::{Edited, Generator},
    planes::{Plane, Planes},
};

const UPDATES_PER_OBJECT: usize = 4;
/// Its template never changes, and the refusal shows all of it.
const IMMUTABLE: &str = "Job";

/// An object as it is created, and the lists that its tolerations are updated to.
struct Case {
    kind: usize,
    name: String,
    stored: Vec<Toleration>,
    updates: Vec<Edited>,
}

/// The answer of an API server: its objections, and the tolerations as meant of what it would
/// store.
type Answer = (Refusal, Vec<String>);

impl Case {
    /// The keys that lead to the pod's spec.
    fn path(&self) -> &'static [&'static str] {
        match KINDS[self.kind].1 {
            "Pod" => &["spec"],
            "PodTemplate" => &["template", "spec"],
            "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
            _ => &["spec", "template", "spec"],
        }
    }

    fn object(&self) -> Value {
        let mut object = object(self.kind, &self.stored);
        object["metadata"]["name"] = json!(self.name);
        let spec = self
            .path()
            .iter()
            .fold(&mut object, |part, key| &mut part[*key]);
        // Nobody runs it.
        spec["nodeSelector"] = json!({ "tests.pdautoscaler.io/nowhere": "" });
        spec["schedulerName"] = json!("nobody");
        object
    }

    async fn create(&self, plane: &Plane) {
        let object = serde_json::from_value(self.object()).unwrap();
        let api = api(&plane.client, self.kind);
        if let Err(error) = api.create(&PostParams::default(), &object).await {
            panic!("{}: {error}: {object:?}", plane.name);
        }
    }

    async fn update(&self, plane: &Plane, list: &[Toleration]) -> Answer {
        let dry_run = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let spec = json!({ "tolerations": list });
        let patch = self
            .path()
            .iter()
            .rev()
            .fold(spec, |part, key| json!({ *key: part }));
        let api = api(&plane.client, self.kind);
        let answer = api.patch(&self.name, &dry_run, &Patch::Merge(&patch)).await;
        let stored = answer.as_ref().ok().map(|stored| {
            let stored = serde_json::to_value(stored).unwrap();
            self.meant(&stored)
        });
        (refusal_of(answer), stored.unwrap_or_default())
    }

    /// The tolerations of a stored object as meant, in any order but for those of one key.
    fn meant(&self, stored: &Value) -> Vec<String> {
        let (spec, place) = self.path().split_last().unwrap();
        let template = place.iter().fold(stored, |part, key| &part[*key]);
        let list: Vec<Toleration> =
            serde_json::from_value(template[*spec]["tolerations"].clone()).unwrap_or_default();
        let entries = template["metadata"]["annotations"][ANNOTATION].as_str();
        let entries: Vec<ExtendedToleration> =
            serde_json::from_str(entries.unwrap_or("[]")).unwrap();
        let restored = restore(&list, &entries).unwrap();
        let mut meant: Vec<String> = restored.iter().map(ToString::to_string).collect();
        meant.sort_unstable();
        meant
    }

    fn told(&self, list: &Edited, native: &Answer, ours: &Answer) -> String {
        let (kind, stored) = (KINDS[self.kind].1, json!(self.stored));
        let list = json!(list.said);
        format!("{kind} with {stored} becomes {list}\nnative: {native:#?}\nours: {ours:#?}")
    }
}

fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut generator = Generator::new(seed, 5);
    (0..count.div_ceil(UPDATES_PER_OBJECT))
        .map(|index| {
            // Half of them pods.
            let mut kind = if index % 2 == 0 {
                0
            } else {
                index / 2 % KINDS.len()
            };
            if KINDS[kind].1 == IMMUTABLE {
                kind += 1;
            }
            let stored = generator.tolerations(&[]);
            let (rewritten, _) = rewrite(&stored);
            let updates = (0..UPDATES_PER_OBJECT).map(|update| {
                // As in the manifest, and as in what is stored.
                let said = if update % 2 == 0 { &stored } else { &rewritten };
                generator.updated(&stored, said)
            });
            Case {
                kind,
                name: format!("updated-{index}"),
                updates: updates.collect(),
                stored,
            }
        })
        .collect()
}

/// Puts `count` updates to both.
pub(crate) async fn compare(planes: &Planes, seed: u64, count: usize, tally: &mut Tally) {
    let cases = cases(seed, count);
    stream::iter(&cases)
        .for_each_concurrent(CONCURRENCY, |case| async {
            tokio::join!(case.create(&planes.native), case.create(&planes.ours));
        })
        .await;
    let updates = cases
        .iter()
        .flat_map(|case| case.updates.iter().map(move |list| (case, list)));
    let mut answers = std::pin::pin!(
        stream::iter(updates)
            .map(|(case, list)| async move {
                let answers = tokio::join!(
                    case.update(&planes.native, &list.meant),
                    case.update(&planes.ours, &list.said)
                );
                (case, list, answers)
            })
            .buffer_unordered(CONCURRENCY)
    );
    let mut refused = 0;
    while let Some((case, list, (native, ours))) = answers.next().await {
        tally.case("update");
        refused += usize::from(!native.0.is_empty());
        if native == ours {
            continue;
        }
        let (stored, _) = rewrite(&case.stored);
        let known = Difference::of_admission(&list.said, &native.0, &ours.0)
            .or_else(|| Difference::of_update(&case.stored, &stored, list, &ours.0));
        match known {
            Some(difference) => tally.differs(difference),
            None => tally.fail(case.told(list, &native, &ours)),
        }
    }
    eprintln!("updates: {count}, {refused} refused");
}
