//! The metrics every binary has: which build runs, and what the process costs.
//!
//! Owns the registry's first entries and no others; each part of a binary registers its own. The
//! process metrics carry the conventional names of Prometheus clients, so that existing dashboards
//! and alerts fit. They are read from `/proc` at each scrape and are absent where `/proc` is
//! absent: a missing series is honest, a zero is not.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

/// Clock ticks per second in `/proc`: Linux fixes the value towards user space on all its current
/// architectures.
const TICKS_PER_SECOND: f64 = 100.0;

/// A registry with `pd_build_info` and the process metrics, for the binary `binary` at `version`.
///
/// Register further metrics before it is shared. The time of the call counts as the start of the
/// process.
pub fn registry(binary: &'static str, version: &'static str) -> Registry {
    let mut registry = Registry::default();
    registry.register(
        "pd_build",
        "The binary that runs and its version",
        Info::new(vec![("binary", binary), ("version", version)]),
    );
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    registry.register_collector(Box::new(Process {
        start_seconds: started.as_secs_f64(),
    }));
    registry
}

#[derive(Debug)]
struct Process {
    start_seconds: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        if let Some(seconds) = stat.as_deref().and_then(cpu_seconds) {
            let cpu = ConstCounter::new(seconds);
            let help = "User and system CPU time spent.";
            cpu.encode(encoder.encode_descriptor(
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                cpu.metric_type(),
            )?)?;
        }
        let status = fs::read_to_string("/proc/self/status").ok();
        if let Some(bytes) = status.as_deref().and_then(resident_bytes) {
            let resident = ConstGauge::new(bytes);
            let help = "Resident memory.";
            resident.encode(encoder.encode_descriptor(
                "process_resident_memory",
                help,
                Some(&Unit::Bytes),
                resident.metric_type(),
            )?)?;
        }
        let begin = ConstGauge::new(self.start_seconds);
        let help = "Start of the process since the Unix epoch.";
        begin.encode(encoder.encode_descriptor(
            "process_start_time",
            help,
            Some(&Unit::Seconds),
            begin.metric_type(),
        )?)
    }
}

/// User plus system time from the text of `/proc/self/stat`.
///
/// The second field is the program's name in parentheses and may hold spaces and parentheses
/// itself, so fields are counted from the last closing one: state is first, utime twelfth, stime
/// thirteenth.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// Resident memory from the text of `/proc/self/status`, which states it in kibibytes.
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("7 (pd) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 4", Some(3.0))]
    #[case::awkward_name("7 (a ) b (c) S 1 7 7 0 -1 0 1 2 3 4 5 6 0 0", Some(0.11))]
    #[case::cut_short("7 (pd) S 1 7", None)]
    #[case::empty("", None)]
    fn cpu_time_is_user_plus_system(#[case] stat: &str, #[case] seconds: Option<f64>) {
        assert_eq!(cpu_seconds(stat), seconds);
    }

    #[rstest]
    #[case::present(
        "VmPeak:\t  9 kB\nVmRSS:\t   2048 kB\nRssAnon: 1 kB\n",
        Some(2_097_152)
    )]
    #[case::absent("VmPeak:\t  9 kB\n", None)]
    #[case::no_unit("VmRSS:\t 2048\n", None)]
    fn resident_memory_is_in_bytes(#[case] status: &str, #[case] bytes: Option<i64>) {
        assert_eq!(resident_bytes(status), bytes);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn process_metrics_carry_the_conventional_names() {
        let mut body = String::new();
        text::encode(&mut body, &registry("pd", "1")).unwrap();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
        ] {
            assert!(
                body.lines().any(|line| line.starts_with(name)),
                "{name} not in:\n{body}"
            );
        }
    }
}
