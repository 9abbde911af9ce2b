//! The answer to a query of many objects, row by row as it arrives, into an answer for each object.
//!
//! An object gets the rows of its namespace whose pod or workload is one of its two, and no other:
//! an object cannot name another namespace here. A row takes sixteen bytes, because its labels are
//! kept once for all objects. Whoever gets no row has what a query of its own would have without
//! one: the same answer of an empty list. Whether the answer is whole is the caller's to know.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pd_core::{PerRole, Role};
use pd_signals::Sample;

use super::{Join, Of, PART, Part, TAG, WORKLOAD, gateway::folded, workload::key_of_pod};

/// Most rows of an object in one answer: those of a thousand pods, with room for their histograms.
/// An object with more has no answer, and harms no other.
const ROWS_MAX: usize = 20_000;

/// Most sets of labels that an object brings: those of a thousand pods, with room for edges.
const OWN_SETS_MAX: usize = 5_000;

/// Most sets of labels in one answer: those of fifty pods a role for each object of a chunk. Each
/// takes some 250 bytes for as long as the answer is kept.
const SETS_MAX: usize = 100_000;

/// Why a row is not taken, and the answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// No query of many objects gives such a row.
    #[error("a row of a grouped answer is of no part that was asked for")]
    Strange,
    /// The labels of too many differ.
    #[error("a grouped answer has more labels than are taken")]
    TooMany,
}

/// The objects of one query, found by namespace and workload.
#[derive(Debug, Default)]
pub struct Directory {
    namespaces: HashMap<String, HashMap<String, Vec<(usize, Role)>>>,
    in_namespaces: HashMap<String, Vec<usize>>,
    /// Objects by their namespaces and models.
    served: HashMap<String, HashMap<String, Vec<usize>>>,
    /// Objects by their models.
    served_anywhere: HashMap<String, Vec<usize>>,
    homes: Vec<String>,
    objects: usize,
}

impl Directory {
    /// Without any object yet. `homes` are namespaces of what serves every namespace.
    pub fn with_homes(homes: &[String]) -> Self {
        Self {
            homes: homes.to_vec(),
            ..Self::default()
        }
    }

    /// Adds an object in `namespace` whose roles' workloads have `keys`, which differ. Objects are
    /// numbered in the order in which they are added.
    pub fn add(&mut self, namespace: &str, keys: PerRole<&str>) {
        let of_namespace = self.namespaces.entry(namespace.to_owned()).or_default();
        for (role, key) in keys.iter() {
            let found = of_namespace.entry((*key).to_owned()).or_default();
            found.push((self.objects, role));
        }
        let in_namespace = self.in_namespaces.entry(namespace.to_owned());
        in_namespace.or_default().push(self.objects);
        self.objects += 1;
    }

    /// Adds an object in `namespace` of `model`, in the case in which models are compared, whose
    /// gateway is read. Objects are numbered as those of [`Self::add`] are.
    pub fn add_served(&mut self, namespace: &str, model: &str) {
        let in_namespace = self.served.entry(namespace.to_owned()).or_default();
        for by_model in [in_namespace, &mut self.served_anywhere] {
            let found = by_model.entry(model.to_owned()).or_default();
            found.push(self.objects);
        }
        self.objects += 1;
    }

    /// The namespaces, in order.
    pub fn namespaces(&self) -> Vec<&str> {
        let names = self.namespaces.keys().chain(self.served.keys());
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// How many objects it has.
    pub const fn len(&self) -> usize {
        self.objects
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.objects == 0
    }

    fn find(&self, namespace: &str, key: &str) -> &[(usize, Role)] {
        let of_namespace = self.namespaces.get(namespace);
        of_namespace
            .and_then(|of_namespace| of_namespace.get(key))
            .map_or(&[], Vec::as_slice)
    }

    fn is_home(&self, namespace: &str) -> bool {
        self.homes.iter().any(|home| home == namespace)
    }

    /// The objects that look into `namespace`.
    fn looking_into(&self, namespace: &str) -> Vec<(usize, Role)> {
        if self.is_home(namespace) {
            return (0..self.objects).map(of_none).collect();
        }
        let own = self.in_namespaces.get(namespace).into_iter().flatten();
        own.copied().map(of_none).collect()
    }

    /// The objects of `model` that look into `namespace`.
    fn served_in(&self, namespace: &str, model: &str) -> Vec<(usize, Role)> {
        let by_model = if self.is_home(namespace) {
            Some(&self.served_anywhere)
        } else {
            self.served.get(namespace)
        };
        let found = by_model.and_then(|by_model| by_model.get(&folded(model)));
        found.into_iter().flatten().copied().map(of_none).collect()
    }
}

/// An object to whose row no role belongs.
const fn of_none(object: usize) -> (usize, Role) {
    (object, Role::Prefill)
}

/// One row of an object.
#[derive(Clone, Copy, Debug)]
struct Row {
    value: f64,
    labels: u32,
    part: u16,
    role: Role,
}

/// Sets of labels, each once.
#[derive(Debug, Default)]
struct LabelSets {
    numbers: HashMap<String, u32>,
    sets: Vec<BTreeMap<String, String>>,
    /// The set that is looked for, as one text.
    text: String,
}

impl LabelSets {
    /// The number of the set of `labels`, and whether it is new; nothing if there are too many.
    fn number<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<(u32, bool)> {
        self.text.clear();
        for (name, value) in labels.clone() {
            // No label holds this character, which ends texts in every program that reads them.
            self.text.extend([name, "\0", value, "\0"]);
        }
        if let Some(known) = self.numbers.get(&self.text) {
            return Some((*known, false));
        }
        let number = u32::try_from(self.sets.len()).ok();
        let number = number.filter(|_| self.sets.len() < SETS_MAX)?;
        self.numbers.insert(self.text.clone(), number);
        let owned = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.sets.push(owned.collect());
        Some((number, true))
    }
}

/// The rows of one object so far.
#[derive(Clone, Debug, Default)]
struct Own {
    rows: Vec<Row>,
    /// Sets of labels that it was the first to have.
    sets: usize,
    /// Whether it has more than are taken, so that it has none.
    is_overfull: bool,
}

impl Own {
    fn add(&mut self, row: Row) {
        if self.rows.len() < ROWS_MAX && self.sets <= OWN_SETS_MAX {
            self.rows.push(row);
        } else {
            self.rows = Vec::new();
            self.is_overfull = true;
        }
    }
}

/// Takes rows, and gives each object its own.
#[derive(Debug)]
pub struct Splitter<'a> {
    directory: &'a Directory,
    parts: Arc<[Part]>,
    namespace_label: &'a str,
    pod_label: &'a str,
    labels: LabelSets,
    own: Vec<Own>,
    has_too_many: bool,
}

impl<'a> Splitter<'a> {
    /// A splitter of the answer to a query with `parts` about the objects of `directory`.
    pub fn new(
        directory: &'a Directory,
        parts: Arc<[Part]>,
        (namespace_label, pod_label): (&'a str, &'a str),
    ) -> Self {
        Self {
            directory,
            parts,
            namespace_label,
            pod_label,
            labels: LabelSets::default(),
            own: vec![Own::default(); directory.objects],
            has_too_many: false,
        }
    }

    /// Whether a row was not taken because there were too many.
    pub const fn has_too_many(&self) -> bool {
        self.has_too_many
    }

    /// Takes the number `value` of a row with `labels`.
    pub fn add<L: AsRef<str>>(&mut self, labels: &[(L, L)], value: f64) -> Result<(), NotTaken> {
        self.row(labels, |kept, take| take(kept, value))
    }

    /// Takes a native histogram with `labels`.
    pub fn add_native<L: AsRef<str>>(
        &mut self,
        labels: &[(L, L)],
        (count, sum): (f64, f64),
        buckets: &[(f64, f64)],
    ) -> Result<(), NotTaken> {
        self.row(labels, |kept, take| {
            let own = kept.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            for sample in Sample::of_native(&own.collect(), count, sum, buckets) {
                let labels = sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
                take(&labels.collect::<Vec<_>>(), sample.value);
            }
        })
    }

    /// Finds the objects of a row with `labels`, and hands what is left of the labels to `of`,
    /// which takes values under labels.
    fn row<L: AsRef<str>>(
        &mut self,
        labels: &[(L, L)],
        of: impl FnOnce(&[(&str, &str)], &mut dyn FnMut(&[(&str, &str)], f64)),
    ) -> Result<(), NotTaken> {
        let find = |name: &str| {
            let mut labels = labels.iter();
            let found = labels.find(|(known, _)| known.as_ref() == name);
            found.map(|(_, value)| value.as_ref())
        };
        let number = find(PART).and_then(|number| number.parse::<u16>().ok());
        let number = number.ok_or(NotTaken::Strange)?;
        let part = self
            .parts
            .get(usize::from(number))
            .ok_or(NotTaken::Strange)?;
        let namespace = find(self.namespace_label).ok_or(NotTaken::Strange)?;
        let looking;
        let mut model_label = None;
        let found = match (part.of, find(WORKLOAD), find(self.pod_label)) {
            (Of::Namespaces, ..) => {
                looking = self.directory.looking_into(namespace);
                &looking
            }
            (Of::Models(label), ..) => {
                model_label = Some(label);
                let model = find(label).ok_or(NotTaken::Strange)?;
                looking = self.directory.served_in(namespace, model);
                &looking
            }
            (Of::Pods, Some(key), _) => self.directory.find(namespace, key),
            (Of::Pods, None, Some(pod)) => self.directory.find(namespace, &key_of_pod(pod)),
            // A series without a pod is of no object.
            (Of::Pods, None, None) => &[],
        };
        let reads =
            |(object, role): &(usize, Role)| part.reads(*role) && !self.own[*object].is_overfull;
        let objects: Vec<_> = found.iter().copied().filter(reads).collect();
        let Some(&(first, _)) = objects.first() else {
            return Ok(());
        };
        let of_row = model_label.unwrap_or(WORKLOAD);
        let marks = [PART, of_row, self.namespace_label];
        let kept = labels
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()));
        let kept: Vec<_> = kept.filter(|(name, _)| !marks.contains(name)).collect();
        let mut values = Vec::with_capacity(1);
        of(&kept, &mut |labels, value| {
            values.push((self.labels.number(labels.iter().copied()), value));
        });
        for (labels, value) in values {
            let Some((labels, is_new)) = labels else {
                self.has_too_many = true;
                return Err(NotTaken::TooMany);
            };
            self.own[first].sets += usize::from(is_new);
            for &(object, role) in &objects {
                self.own[object].add(Row {
                    value,
                    labels,
                    part: number,
                    role,
                });
            }
        }
        Ok(())
    }

    /// The answer of each object, in the order of the directory.
    pub fn finish(self) -> Vec<Split> {
        let sets: Arc<[_]> = self.labels.sets.into();
        let split = |own: Own| Split {
            rows: own.rows.into(),
            is_overfull: own.is_overfull,
            sets: Arc::clone(&sets),
            parts: Arc::clone(&self.parts),
        };
        self.own.into_iter().map(split).collect()
    }
}

/// The rows of one object.
#[derive(Clone, Debug)]
pub struct Split {
    rows: Arc<[Row]>,
    sets: Arc<[BTreeMap<String, String>]>,
    parts: Arc<[Part]>,
    is_overfull: bool,
}

impl Split {
    /// Whether the object has more rows or labels than are taken, so that it has none.
    pub const fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// The samples that a query of the object's own would have given, in some order.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(self.rows.len());
        let mut joined: BTreeMap<(u16, u32, &str), f64> = BTreeMap::new();
        for row in &*self.rows {
            let part = &self.parts[usize::from(row.part)];
            for (tag, of) in &part.tags {
                match (of, part.join) {
                    (Some(of), _) if *of != row.role => {}
                    (Some(_), _) | (None, Join::Apart) => {
                        samples.push(self.sample(row.labels, tag, row.value));
                    }
                    (None, Join::Add | Join::Largest) => {
                        let both = joined.entry((row.part, row.labels, tag));
                        let join = |before: &mut f64| match part.join {
                            Join::Largest => *before = before.max(row.value),
                            Join::Add | Join::Apart => *before += row.value,
                        };
                        both.and_modify(join).or_insert(row.value);
                    }
                }
            }
        }
        let joined = joined.into_iter();
        samples.extend(joined.map(|((_, labels, tag), value)| self.sample(labels, tag, value)));
        samples
    }

    fn sample(&self, labels: u32, tag: &str, value: f64) -> Sample {
        let set = usize::try_from(labels)
            .ok()
            .and_then(|at| self.sets.get(at));
        let mut labels = set.cloned().unwrap_or_default();
        labels.insert(TAG.to_owned(), tag.to_owned());
        Sample { labels, value }
    }
}

#[cfg(test)]
mod tests;
