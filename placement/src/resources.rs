//! Amounts of several resources, and how much of them one pod requests.
//!
//! CPU is counted in thousandths, everything else in whole units. The number of pods is a resource
//! too, of which every pod requests one, so that a node's most pods need no rule of their own.
//!
//! [`PodRequests`] is the rule of Kubernetes: containers add up; init containers run one after
//! another, so the largest counts; sidecars (init containers that always restart) stay, and run
//! beside all that come after them; the overhead of the runtime class comes on top.
//!
//! Source: kubernetes `staging/src/k8s.io/component-helpers/resource/helpers.go`.

use std::{collections::BTreeMap, fmt};

use crate::quantity::{Quantity, QuantityError};

/// The resource whose unit is a thousandth.
pub const CPU: &str = "cpu";
/// Memory, in bytes.
pub const MEMORY: &str = "memory";
/// How many pods a node takes.
pub const PODS: &str = "pods";

/// Amounts by the name of the resource. An absent one is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// Reads amounts as a manifest has them.
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QuantityError> {
        let read = |(name, text): (&str, &str)| {
            let quantity = Quantity::parse(text)?;
            let amount = match name {
                CPU => quantity.millis(),
                _ => quantity.units(),
            };
            Ok((name.to_owned(), amount))
        };
        texts.into_iter().map(read).collect()
    }

    /// The amount of `name`: thousandths of CPU, units of others.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Whether `name` is stated, be it as zero.
    pub fn states(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// States an amount.
    pub fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_owned(), amount);
    }

    /// Adds, name by name.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let sum = self.get(name).saturating_add(amount);
            self.set(name, sum);
        }
    }

    /// Takes the larger amount, name by name.
    pub fn raise_to(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let most = self.get(name).max(amount);
            self.set(name, most);
        }
    }

    /// Names and amounts, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let amounts = self.0.iter();
        amounts.map(|(name, amount)| (name.as_str(), *amount))
    }
}

impl FromIterator<(String, i64)> for Resources {
    fn from_iter<I: IntoIterator<Item = (String, i64)>>(amounts: I) -> Self {
        Self(amounts.into_iter().collect())
    }
}

/// An amount in words: `3 nvidia.com/gpu`, `1.5 cpu`, `64 GiB memory`.
#[derive(Clone, Copy, Debug)]
pub struct InWords<'a> {
    /// The resource.
    pub name: &'a str,
    /// Thousandths of CPU, units of others.
    pub amount: i64,
}

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GIB: i64 = 1 << 30;
        match self.name {
            CPU if self.amount % 1_000 != 0 => {
                let (whole, rest) = (self.amount / 1_000, (self.amount % 1_000).abs());
                let rest = format!("{rest:03}");
                write!(f, "{whole}.{} cpu", rest.trim_end_matches('0'))
            }
            CPU => write!(f, "{} cpu", self.amount / 1_000),
            PODS => write!(f, "{} places for pods", self.amount),
            name if self.amount >= GIB && (name == MEMORY || name.contains("storage")) => {
                let tenths = self.amount / (GIB / 10);
                write!(f, "{}.{} GiB {name}", tenths / 10, tenths % 10)
            }
            name => write!(f, "{} {name}", self.amount),
        }
    }
}

/// Requests and limits of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its requests.
    pub requests: Resources,
    /// Its limits. A resource with a limit and no request is requested in full, as the API server
    /// has it.
    pub limits: Resources,
    /// Among init containers: whether it always restarts, so that it stays.
    pub is_sidecar: bool,
}

impl Container {
    fn effective(&self) -> Resources {
        let mut requests = self.requests.clone();
        for (name, limit) in self.limits.iter() {
            if !requests.states(name) {
                requests.set(name, limit);
            }
        }
        requests
    }
}

/// All that a pod's requests follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRequests {
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers, in their order.
    pub init: Vec<Container>,
    /// Requests and limits of the pod as a whole, which replace the sum for CPU, memory and huge
    /// pages.
    pub whole: Container,
    /// Overhead of the runtime class.
    pub overhead: Resources,
}

impl PodRequests {
    /// The amounts that a node must have free, one of [`PODS`] included.
    pub fn total(&self) -> Resources {
        let mut total = Resources::default();
        for container in &self.containers {
            total.add(&container.effective());
        }
        let (mut sidecars, mut most) = (Resources::default(), Resources::default());
        for container in &self.init {
            let mut running = container.effective();
            if container.is_sidecar {
                total.add(&running);
                sidecars.add(&running);
                running = sidecars.clone();
            } else {
                running.add(&sidecars);
            }
            most.raise_to(&running);
        }
        total.raise_to(&most);
        for (name, amount) in self.whole.requests.iter().filter(of_a_pod) {
            total.set(name, amount);
        }
        for (name, limit) in self.whole.limits.iter().filter(of_a_pod) {
            if !total.states(name) {
                total.set(name, limit);
            }
        }
        total.add(&self.overhead);
        total.set(PODS, 1);
        total
    }
}

/// Whether a pod as a whole may state the resource.
fn of_a_pod((name, _): &(&str, i64)) -> bool {
    *name == CPU || *name == MEMORY || name.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(units: i64) -> Resources {
        [(CPU.to_owned(), units * 1_000)].into_iter().collect()
    }

    fn container(units: i64) -> Container {
        Container {
            requests: cpu(units),
            ..Container::default()
        }
    }

    fn sidecar(units: i64) -> Container {
        Container {
            is_sidecar: true,
            ..container(units)
        }
    }

    fn total(containers: &[Container], init: &[Container]) -> i64 {
        let pod = PodRequests {
            containers: containers.to_vec(),
            init: init.to_vec(),
            ..PodRequests::default()
        };
        pod.total().get(CPU) / 1_000
    }

    #[test]
    fn containers_add_up_and_init_containers_take_turns() {
        assert_eq!(total(&[container(2), container(3)], &[]), 5);
        assert_eq!(total(&[container(2)], &[container(4), container(3)]), 4);
        assert_eq!(total(&[container(5)], &[container(4)]), 5);
    }

    #[test]
    fn a_sidecar_runs_beside_all_that_come_after_it() {
        assert_eq!(total(&[container(2)], &[sidecar(1)]), 3);
        // The init container of 4 runs beside the sidecar before it, not the one after it.
        assert_eq!(
            total(&[container(1)], &[sidecar(1), container(4), sidecar(2)]),
            5
        );
        assert_eq!(total(&[container(1)], &[container(4), sidecar(2)]), 4);
    }

    #[test]
    fn overhead_whole_pod_requests_and_limits_count() {
        let mut limited = container(1);
        limited.limits.set("nvidia.com/gpu", 4);
        limited.limits.set(CPU, 9_000);
        let mut pod = PodRequests {
            containers: vec![limited],
            overhead: cpu(1),
            ..PodRequests::default()
        };
        let requested = pod.total();
        assert_eq!(
            requested.get(CPU),
            2_000,
            "a request is there, so its limit does not count"
        );
        assert_eq!(
            requested.get("nvidia.com/gpu"),
            4,
            "a limit alone is a request"
        );
        assert_eq!(requested.get(PODS), 1);
        pod.whole.requests = cpu(6);
        pod.whole.limits.set(MEMORY, 1 << 30);
        pod.whole.limits.set("nvidia.com/gpu", 1);
        let requested = pod.total();
        assert_eq!(
            requested.get(CPU),
            7_000,
            "the pod's own request replaces the sum"
        );
        assert_eq!(requested.get(MEMORY), 1 << 30);
        assert_eq!(
            requested.get("nvidia.com/gpu"),
            4,
            "no pod as a whole requests devices"
        );
    }

    #[test]
    fn amounts_read_well() {
        let said = |name, amount| InWords { name, amount }.to_string();
        assert_eq!(said(CPU, 1_500), "1.5 cpu");
        assert_eq!(said(CPU, 2_000), "2 cpu");
        assert_eq!(said(MEMORY, 64 << 30), "64.0 GiB memory");
        assert_eq!(said(MEMORY, 5), "5 memory");
        assert_eq!(said("nvidia.com/gpu", 3), "3 nvidia.com/gpu");
        assert_eq!(said(PODS, 1), "1 places for pods");
    }
}
