//! Taints and tolerations out of a seed.
//!
//! Values are drawn from short lists around the bounds where things go wrong (equal, one off, no
//! number to one reader and a number to another, the ends of int64), keys and effects from lists
//! short enough that most tolerations concern some taint. [`Generator::tolerations`] writes what an
//! API server with the gate on should take; [`Generator::odd`] also what none should.

use std::collections::BTreeSet;

use pd_tolerations::{
    Effect, Operator, Rule, Taint, Toleration,
    mirror::{constraints, lower},
    rewrite::{restore, rewrite},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const KEYS: [&str; 4] = ["sla", "sla", "cost", "example.com/sla"];

/// Values that a taint may have.
const TAINT_VALUES: [&str; 24] = [
    "0",
    "1",
    "2",
    "799",
    "800",
    "801",
    "949",
    "950",
    "950",
    "951",
    "990",
    "0950",
    "00",
    "99.95",
    "high",
    "1e3",
    "0x10",
    "1_000",
    "",
    "9223372036854775806",
    "9223372036854775807",
    "9223372036854775808",
    "9007199254740993",
    "012345678901234567890123456789012345678901234567890123456789012",
];

/// Bounds that a numeric toleration may have.
const BOUNDS: [&str; 18] = [
    "0",
    "1",
    "-1",
    "-950",
    "799",
    "800",
    "801",
    "900",
    "949",
    "950",
    "950",
    "951",
    "990",
    "9223372036854775806",
    "9223372036854775807",
    "-9223372036854775808",
    "9007199254740992",
    "9007199254740993",
];

/// Values that something or somebody refuses.
const ODD_VALUES: [&str; 20] = [
    "",
    "-",
    "-0",
    "+5",
    "05",
    "-05",
    "0950",
    " 950",
    "950 ",
    "9 50",
    "99.95",
    "1e3",
    "0x10",
    "1_000",
    "high",
    "9223372036854775808",
    "-9223372036854775809",
    "٣",
    "a\"b\\c\n<&>",
    "0123456789012345678901234567890123456789012345678901234567890123",
];

const ODD_KEYS: [&str; 6] = ["", "/x", "a/b/c", "-x", "Up.Case/y", "sla "];
const ODD_OPERATORS: [&str; 6] = ["gt", "Ge", "Le", "Range", "GT", "G<t"];
const ODD_EFFECTS: [&str; 3] = ["noexecute", "Evict", "NoExecute "];

/// Seconds that a toleration may have: few, none, less, and more than Kubernetes can count.
const SECONDS: [i64; 14] = [
    0,
    -1,
    -300,
    i64::MIN,
    1,
    2,
    4,
    5,
    300,
    9_223_372_036,
    9_223_372_037,
    18_446_744_074,
    i64::MAX - 1,
    i64::MAX,
];

/// Draws from one seed.
pub(crate) struct Generator(ChaCha8Rng);

impl Generator {
    /// The stream of one phase of one seed, so that a change of one phase leaves the others as they
    /// were.
    pub(crate) fn new(seed: u64, phase: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(phase);
        Self(random)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Up to `most` taints with `effects`, unique by key and effect, as the API server wants them.
    pub(crate) fn taints(&mut self, most: usize, effects: &[Effect]) -> Vec<Taint> {
        let mut seen = BTreeSet::new();
        let count = self.below(most + 1);
        let mut taints = Vec::new();
        for _ in 0..count {
            let effect = effects[self.below(effects.len())].clone();
            let key = self.pick(&KEYS);
            if seen.insert((key, effect.clone())) {
                taints.push(Taint::new(key, self.pick(&TAINT_VALUES), effect));
            }
        }
        taints
    }

    pub(crate) fn taint_value(&mut self) -> &'static str {
        self.pick(&TAINT_VALUES)
    }

    /// One to four tolerations that are valid with the gate on and few enough for an affinity, half
    /// of them aimed at `taints`.
    pub(crate) fn tolerations(&mut self, taints: &[Taint]) -> Vec<Toleration> {
        loop {
            let list = self.any_number(taints);
            if is_keepable(&list) {
                return list;
            }
        }
    }

    fn any_number(&mut self, taints: &[Taint]) -> Vec<Toleration> {
        let count = 1 + self.below(4);
        (0..count).map(|_| self.toleration(taints)).collect()
    }

    /// A valid toleration with any operator.
    fn toleration(&mut self, taints: &[Taint]) -> Toleration {
        let aim =
            (!taints.is_empty() && self.once_in(2)).then(|| &taints[self.below(taints.len())]);
        let operator = self.pick(&["Gt", "Gt", "Gt", "Lt", "Lt", "Lt", "Equal", "", "Exists"]);
        let effect = match aim {
            Some(taint) if !self.once_in(3) => taint.effect.as_str(),
            _ => self.pick(&["", "", "NoSchedule", "PreferNoSchedule", "NoExecute"]),
        };
        let value = match operator {
            "Gt" | "Lt" => self.pick(&BOUNDS),
            "Exists" => "",
            _ => aim.map_or_else(|| self.pick(&TAINT_VALUES), |taint| taint.value.as_str()),
        };
        let key = match (aim, operator) {
            (None, "Exists") if self.once_in(4) => "",
            (Some(taint), _) => &taint.key,
            (None, _) => self.pick(&KEYS),
        };
        Toleration {
            key: key.to_owned(),
            operator: Operator::from(operator),
            value: value.to_owned(),
            effect: Effect::from(effect),
            toleration_seconds: (effect == "NoExecute" && self.once_in(2))
                .then(|| self.pick(&SECONDS)),
        }
    }

    /// As [`Self::tolerations`], with one or two parts of each list possibly spoiled, and maybe too
    /// many for an affinity.
    pub(crate) fn odd(&mut self) -> Vec<Toleration> {
        let mut list = self.any_number(&[]);
        for _ in 0..self.below(3) {
            let place = self.below(list.len());
            let one = &mut list[place];
            match self.below(6) {
                0 => self.pick(&ODD_KEYS).clone_into(&mut one.key),
                1 => one.operator = Operator::from(self.pick(&ODD_OPERATORS)),
                2 | 3 => self.pick(&ODD_VALUES).clone_into(&mut one.value),
                4 => one.effect = Effect::from(self.pick(&ODD_EFFECTS)),
                _ => one.toleration_seconds = Some(self.pick(&SECONDS)),
            }
        }
        list
    }

    /// An edit of the list `meant`, which is stored as `said`: more tolerations at any place,
    /// fewer, another order, other seconds, other values.
    pub(crate) fn updated(&mut self, meant: &[Toleration], said: &[Toleration]) -> Edited {
        let mut edited = Edited {
            meant: meant.to_vec(),
            said: said.to_vec(),
            plain: Vec::new(),
        };
        for _ in 0..=self.below(2) {
            let place = self.below(edited.meant.len());
            match self.below(9) {
                0..=2 => {
                    let one = self.any_number(&[]).pop();
                    edited.insert(place, one);
                }
                3 => {
                    let one = self.odd().pop();
                    edited.insert(place, one);
                }
                4 | 5 => {
                    let seconds = (!self.once_in(4)).then(|| self.pick(&SECONDS));
                    edited.meant[place].toleration_seconds = seconds;
                    edited.said[place].toleration_seconds = seconds;
                }
                6 => {
                    // Whoever changes a number writes one.
                    let value = self.pick(&BOUNDS);
                    value.clone_into(&mut edited.meant[place].value);
                    edited.said[place] = edited.meant[place].clone();
                }
                7 => {
                    let other = self.below(edited.meant.len());
                    edited.meant.swap(place, other);
                    edited.said.swap(place, other);
                }
                _ if edited.meant.len() > 1 => {
                    edited.meant.remove(place);
                    edited.said.remove(place);
                }
                _ => {}
            }
        }
        edited
    }
}

/// An edited list: as its author means it, and as the request says it.
#[derive(Debug)]
pub(crate) struct Edited {
    pub(crate) meant: Vec<Toleration>,
    pub(crate) said: Vec<Toleration>,
    /// Each `Exists` that was added.
    pub(crate) plain: Vec<Toleration>,
}

impl Edited {
    fn insert(&mut self, place: usize, one: Option<Toleration>) {
        let Some(one) = one else {
            return;
        };
        if one.operator == Operator::Exists {
            self.plain.push(one.clone());
        }
        self.meant.insert(place, one.clone());
        self.said.insert(place, one);
    }
}

/// Whether the affinity of the rewritten list has few enough terms, which [`crate::difference`] is
/// about.
fn is_keepable(list: &[Toleration]) -> bool {
    let (rewritten, originals) = rewrite(list);
    let rules: Vec<Rule> = restore(&rewritten, &originals)
        .unwrap()
        .iter()
        .map(|asked| asked.rule().unwrap())
        .collect();
    constraints(&rules).is_ok_and(|constraints| lower(None, &constraints).is_ok())
}
