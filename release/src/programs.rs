//! The programs that ship, and in which form.

/// The form in which people get a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An image, for a cluster runs it.
    Image,
    /// An archive, for a person runs it.
    Archive,
}

/// A program that ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the package and of its binary.
    pub name: &'static str,
    /// The form.
    pub form: Form,
    /// A sentence without its end, for labels.
    pub about: &'static str,
}

/// All programs that ship.
pub const PROGRAMS: [Program; 5] = [
    Program {
        name: "pd-autoscaler",
        form: Form::Image,
        about: "Scales the prefill and decode workers of LLM services together",
    },
    Program {
        name: "pd-webhook",
        form: Form::Image,
        about: "Numeric SLA tolerations at admission",
    },
    Program {
        name: "pd-scheduler-plugin",
        form: Form::Image,
        about: "Numeric SLA tolerations at the scheduler",
    },
    Program {
        name: "kubectl-pd",
        form: Form::Archive,
        about: "The kubectl plugin of PDAutoscalers",
    },
    Program {
        name: "pd-sim",
        form: Form::Archive,
        about: "Plays LLM services and their autoscalers without a cluster",
    },
];

/// Where the source is.
pub const SOURCE: &str = env!("CARGO_PKG_REPOSITORY");
/// The license, as SPDX writes it.
pub const LICENSE: &str = env!("CARGO_PKG_LICENSE");
/// The version of all programs: the workspace has one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// First part of every image's repository, as the chart has it.
pub const REPOSITORY: &str = "pdautoscaler";
/// User and group that programs run as; no user of any node has that number.
pub const USER: u32 = 65_532;
