//! The judgement that follows from who compares numbers: a pure function of what was seen.
//!
//! The API server decides. Takes it numbers, then everybody downstream must compare them too, and
//! each that does not breaks something else. Refuses it them, then nothing with numbers gets
//! further, and pd-webhook is what makes them work. What cannot be seen is a warning, never a
//! failure and never fine.

use serde::Serialize;

use strum::IntoStaticStr;

use super::evidence::{Gate, Seen};

/// Who has to compare numbers, or to rewrite them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Component {
    /// Takes or refuses `Gt` and `Lt`.
    KubeApiserver,
    /// Filters nodes.
    KubeScheduler,
    /// Evicts pods, and places those of `DaemonSets`.
    KubeControllerManager,
    /// Admits bound pods.
    Kubelet,
    /// Simulates the scheduler.
    ClusterAutoscaler,
    /// Rewrites numbers; its gate is on if it does.
    PdWebhook,
}

impl Component {
    /// Every one, in the order of the output.
    pub const ALL: [Self; 6] = [
        Self::KubeApiserver,
        Self::KubeScheduler,
        Self::KubeControllerManager,
        Self::Kubelet,
        Self::ClusterAutoscaler,
        Self::PdWebhook,
    ];

    /// Its name, as its program is called.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The damage if it does not compare numbers and the API server takes them.
    const fn breaks(self) -> &'static str {
        match self {
            Self::KubeApiserver => "objects with Gt or Lt are refused",
            Self::KubeScheduler => {
                "pods with Gt or Lt stay Pending: nodes with the taint are filtered out for them"
            }
            Self::KubeControllerManager => {
                "pods with Gt or Lt for NoExecute are deleted at once, and DaemonSet pods are not placed or removed"
            }
            Self::Kubelet => {
                "pods with Gt or Lt fail with reason TaintToleration on nodes with a NoExecute taint"
            }
            Self::ClusterAutoscaler => {
                "it scales up the wrong pool for pods with Gt or Lt, or none"
            }
            Self::PdWebhook => "nobody rewrites Gt and Lt",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::KubeApiserver | Self::PdWebhook => "install the chart with webhook.enabled: true",
            Self::KubeScheduler
            | Self::KubeControllerManager
            | Self::Kubelet
            | Self::ClusterAutoscaler => {
                "start it with --feature-gates=TaintTolerationComparisonOperators=true; or take the gate from kube-apiserver and install the chart with webhook.enabled: true"
            }
        }
    }

    const fn remedy_unknown(self) -> &'static str {
        match self {
            Self::KubeApiserver => {
                "allow this account to create pods in the probe namespace, and to get /metrics"
            }
            Self::KubeScheduler | Self::KubeControllerManager => {
                "give --metrics-url, or --prometheus-url of a server that scrapes it; on a managed cluster assume off"
            }
            Self::Kubelet => {
                "allow this account to get nodes/proxy, or give --prometheus-url of a server that scrapes kubelets"
            }
            Self::ClusterAutoscaler => {
                "look at its --feature-gates where it runs; on a managed cluster assume off"
            }
            Self::PdWebhook => "allow this account to create pods in namespace default",
        }
    }
}

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing breaks.
    Ok,
    /// It cannot be seen whether something breaks.
    Warning,
    /// Something breaks.
    Failure,
}

/// The judgement of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Which.
    pub component: Component,
    /// Whether it compares numbers.
    pub gate: Gate,
    /// How that is known, or why it is not.
    pub how: String,
    /// How bad that is.
    pub severity: Severity,
    /// The damage, certain or possible.
    pub breaks: Option<&'static str>,
    /// The remedy.
    pub remedy: Option<&'static str>,
}

/// How numeric tolerations are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PreflightVerdict {
    /// By Kubernetes itself.
    Native,
    /// By this project.
    Rewritten,
    /// Something breaks.
    Broken,
    /// Not everything can be seen.
    Unknown,
}

impl PreflightVerdict {
    /// The reason of the condition and of the event.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Native => "Native",
            Self::Rewritten => "Rewritten",
            Self::Broken => "GateMissing",
            Self::Unknown => "GateUnknown",
        }
    }

    /// The status of the condition.
    pub const fn status(self) -> &'static str {
        match self {
            Self::Native | Self::Rewritten => "True",
            Self::Broken => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The whole judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// How numeric tolerations are served.
    pub verdict: PreflightVerdict,
    /// A line for each component.
    pub lines: Vec<Line>,
}

impl Judgement {
    /// One sentence.
    pub fn summary(&self) -> String {
        let worst: Vec<String> = self
            .lines
            .iter()
            .filter(|line| line.severity != Severity::Ok)
            .filter(|line| {
                self.verdict == PreflightVerdict::Unknown || line.severity == Severity::Failure
            })
            .map(|line| {
                let breaks = line.breaks.unwrap_or_default();
                format!(
                    "{} is {}: {breaks}",
                    line.component.as_str(),
                    line.gate.as_str()
                )
            })
            .collect();
        match self.verdict {
            PreflightVerdict::Native => "every component compares numbers by itself".to_owned(),
            PreflightVerdict::Rewritten => {
                "the API server does not compare numbers, and pd-webhook rewrites them".to_owned()
            }
            PreflightVerdict::Broken => worst.join("; "),
            PreflightVerdict::Unknown => {
                format!("not everything can be seen: {}", worst.join("; "))
            }
        }
    }
}

/// Judges what was seen. `seen` gives each component's state.
pub fn judge(seen: impl Fn(Component) -> Seen) -> Judgement {
    let api = seen(Component::KubeApiserver).gate;
    let webhook = seen(Component::PdWebhook).gate;
    let line = |component| {
        let Seen { gate, how } = seen(component);
        let severity = severity(component, gate, api, webhook);
        let says = severity != Severity::Ok;
        let remedy = if gate == Gate::Unknown {
            component.remedy_unknown()
        } else {
            component.remedy()
        };
        Line {
            component,
            gate,
            how,
            severity,
            breaks: says.then(|| component.breaks()),
            remedy: says.then_some(remedy),
        }
    };
    let lines: Vec<Line> = Component::ALL.map(line).into();
    let worst = lines.iter().map(|line| line.severity).max();
    let verdict = match worst {
        Some(Severity::Failure) => PreflightVerdict::Broken,
        Some(Severity::Warning) => PreflightVerdict::Unknown,
        _ if api == Gate::On => PreflightVerdict::Native,
        _ => PreflightVerdict::Rewritten,
    };
    Judgement { verdict, lines }
}

fn severity(component: Component, gate: Gate, api: Gate, webhook: Gate) -> Severity {
    match component {
        Component::KubeApiserver => match (api, webhook) {
            (Gate::On, _) | (Gate::Off, Gate::On) => Severity::Ok,
            (Gate::Off, Gate::Off | Gate::Absent) => Severity::Failure,
            (Gate::Off, Gate::Unknown) | (Gate::Unknown | Gate::Absent, _) => Severity::Warning,
        },
        // Its absence is the API server's line.
        Component::PdWebhook => match (gate, api) {
            (Gate::Unknown, Gate::Off | Gate::Unknown) => Severity::Warning,
            _ => Severity::Ok,
        },
        // Nothing with numbers gets further than an API server that refuses them.
        _ if api == Gate::Off => Severity::Ok,
        Component::ClusterAutoscaler | Component::Kubelet if gate == Gate::Absent => Severity::Ok,
        _ => match gate {
            Gate::On => Severity::Ok,
            Gate::Off if api == Gate::On => Severity::Failure,
            Gate::Off | Gate::Unknown | Gate::Absent => Severity::Warning,
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// States in the order of the components: + on, - off, ? unknown, 0 absent.
    fn judged(states: &str) -> Judgement {
        let gate = |component: Component| {
            let index = Component::ALL.iter().position(|one| *one == component);
            match states.as_bytes()[index.unwrap()] {
                b'+' => Gate::On,
                b'-' => Gate::Off,
                b'0' => Gate::Absent,
                _ => Gate::Unknown,
            }
        };
        judge(|component| Seen::new(gate(component), "seen"))
    }

    #[rstest]
    #[case::native("+++++0", PreflightVerdict::Native, 0)]
    #[case::native_without_autoscaler("++++0-", PreflightVerdict::Native, 0)]
    #[case::rewritten("-----+", PreflightVerdict::Rewritten, 0)]
    #[case::rewritten_whatever_is_downstream("-+??0+", PreflightVerdict::Rewritten, 0)]
    #[case::refused("------", PreflightVerdict::Broken, 1)]
    #[case::refused_or_not("-----?", PreflightVerdict::Unknown, 0)]
    #[case::only_the_api_server("+----0", PreflightVerdict::Broken, 4)]
    #[case::the_scheduler_lacks_it("+-++0+", PreflightVerdict::Broken, 1)]
    #[case::the_controller_manager_lacks_it("++-+0+", PreflightVerdict::Broken, 1)]
    #[case::a_kubelet_lacks_it("+++-0+", PreflightVerdict::Broken, 1)]
    #[case::the_autoscaler_lacks_it("++++-+", PreflightVerdict::Broken, 1)]
    #[case::managed("+???0?", PreflightVerdict::Unknown, 0)]
    #[case::a_failure_is_worse_than_the_unknown("+??-0+", PreflightVerdict::Broken, 1)]
    #[case::nothing_is_known("??????", PreflightVerdict::Unknown, 0)]
    #[case::the_api_server_is_unknown("?---0+", PreflightVerdict::Unknown, 0)]
    fn states_are_judged(
        #[case] states: &str,
        #[case] want: PreflightVerdict,
        #[case] failures: usize,
    ) {
        let judgement = judged(states);
        assert_eq!(judgement.verdict, want, "{judgement:?}");
        let failing = |line: &&Line| line.severity == Severity::Failure;
        assert_eq!(judgement.lines.iter().filter(failing).count(), failures);
        for line in &judgement.lines {
            let says = line.severity != Severity::Ok;
            assert_eq!((line.breaks.is_some(), line.remedy.is_some()), (says, says));
        }
        assert!(!judgement.summary().is_empty());
    }

    #[test]
    fn every_combination_has_a_judgement_that_hides_no_failure() {
        let states = ['+', '-', '?', '0'];
        for number in 0..4_usize.pow(6) {
            let text: String = (0..6)
                .map(|place| states[number / 4_usize.pow(place) % 4])
                .collect();
            let judgement = judged(&text);
            let broken = judgement
                .lines
                .iter()
                .any(|line| line.severity == Severity::Failure);
            assert_eq!(broken, judgement.verdict == PreflightVerdict::Broken);
            if judgement.verdict == PreflightVerdict::Native {
                assert!(text.starts_with("+++"), "{text}");
            }
        }
    }
}
