//! `pd-scheduler-plugin preflight`: whether numeric tolerations work on this cluster, who stands in
//! the way, and the remedy.
//!
//! [`probe`] asks, [`evidence`] reads answers, [`judge`] says what follows; the controllers repeat
//! all three. Nothing is changed: probes are dry runs. The exit code is 0 if nothing breaks as far
//! as can be seen, 1 if something does, and 2 if the API server does not answer at all.

use std::{io::Write, process::ExitCode};

use pd_runtime::{
    kubernetes::{KubeArgs, error_message},
    prometheus::{PrometheusArgs, Servers},
};
use serde_json::json;

use self::{
    judge::{Judgement, Severity, judge},
    probe::Prober,
};
use crate::args::{Output, PreflightArgs, ProbeArgs};

mod command_line;
pub mod evidence;
pub mod judge;
pub mod probe;

/// Columns of a line's continuation.
const WIDTH: usize = 100;

/// Exit code when the API server does not answer.
const NOT_ANSWERED: u8 = 2;

/// Runs the command.
pub async fn run(args: &PreflightArgs, out: &mut impl Write) -> ExitCode {
    let judgement = match look(args).await {
        Ok(judgement) => judgement,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(NOT_ANSWERED);
        }
    };
    let text = match args.output {
        Output::Text => text(&judgement),
        Output::Json => format!("{:#}\n", as_json(&judgement)),
    };
    let broken = judgement.verdict == judge::PreflightVerdict::Broken;
    match out.write_all(text.as_bytes()) {
        Ok(()) if !broken => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

async fn look(args: &PreflightArgs) -> anyhow::Result<Judgement> {
    let client = args.kubernetes.client(crate::NAME, crate::VERSION).await?;
    let prober = prober(client, &args.kubernetes, &args.probe, &args.prometheus).await?;
    let seen = prober.look().await;
    let seen = seen.map_err(|error| anyhow::Error::msg(error_message(&error)))?;
    Ok(judged(&seen))
}

/// The prober that the flags ask for.
pub async fn prober(
    client: kube::Client,
    kubernetes: &KubeArgs,
    probe: &ProbeArgs,
    prometheus: &PrometheusArgs,
) -> anyhow::Result<Prober> {
    let mut metrics = Vec::new();
    for (component, url) in &probe.metrics_url {
        let path = match url.path() {
            "/" => "/metrics".to_owned(),
            path => path.to_owned(),
        };
        let mut server = url.clone().into_parts();
        server.path_and_query = Some("/".parse()?);
        let server = axum::http::Uri::from_parts(server)?;
        let client = kubernetes
            .client_at(server, crate::NAME, crate::VERSION)
            .await?;
        metrics.push((*component, client, path));
    }
    let limit = prometheus.prometheus_timeout;
    let servers = || Servers::new(limit, crate::NAME, crate::VERSION);
    let prometheus = prometheus.endpoint().map(|endpoint| (servers(), endpoint));
    Ok(Prober {
        client,
        namespace: probe.probe_namespace.clone(),
        metrics,
        prometheus,
        kubelets_max: probe.kubelets_max,
    })
}

/// The judgement that follows from the evidence.
pub fn judged(seen: &probe::AllSeen) -> Judgement {
    judge(|component| {
        let unseen = || evidence::Seen::unknown("not looked for");
        seen.get(&component).cloned().unwrap_or_else(unseen)
    })
}

/// The answer for people.
fn text(judgement: &Judgement) -> String {
    let title = "numeric-tolerations";
    let mut text = format!("{title}\n{}\n", "-".repeat(title.len()));
    for line in &judgement.lines {
        let mark = match line.severity {
            Severity::Ok => "√",
            Severity::Warning => "‼",
            Severity::Failure => "×",
        };
        let (name, gate, how) = (line.component.as_str(), line.gate.as_str(), &line.how);
        text += &wrapped(&format!("{mark} {name:<23} {gate:<7} {how}"), 34);
        if let Some(breaks) = line.breaks {
            let may = if line.severity == Severity::Failure {
                "breaks"
            } else {
                "if off"
            };
            text += &wrapped(&format!("    {may}: {breaks}"), 12);
        }
        if let Some(remedy) = line.remedy {
            text += &wrapped(&format!("    remedy: {remedy}"), 12);
        }
    }
    let mark = match judgement.verdict {
        judge::PreflightVerdict::Native | judge::PreflightVerdict::Rewritten => "√",
        judge::PreflightVerdict::Unknown => "‼",
        judge::PreflightVerdict::Broken => "×",
    };
    let outcome = match judgement.verdict {
        judge::PreflightVerdict::Native => "Kubernetes compares numbers by itself",
        judge::PreflightVerdict::Rewritten => {
            "pd-webhook rewrites numbers, for the API server refuses them"
        }
        judge::PreflightVerdict::Unknown => {
            "nothing is known to break, but not everything can be seen"
        }
        judge::PreflightVerdict::Broken => "numeric tolerations do not work as they should",
    };
    text + &format!("\nStatus is {mark}: {outcome}\n")
}

/// `line` in lines of at most [`WIDTH`] columns where words allow it, further ones begin at column
/// `indent`.
fn wrapped(line: &str, indent: usize) -> String {
    let mut text = String::new();
    let mut column = 0;
    let start = line.len() - line.trim_start().len();
    text += &line[..start];
    column += start;
    for (index, word) in line[start..].split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 {
            if column + 1 + length > WIDTH {
                text.push('\n');
                text += &" ".repeat(indent);
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
        }
        text += word;
        column += length;
    }
    text.push('\n');
    text
}

/// The answer for programs. Its keys stay.
fn as_json(judgement: &Judgement) -> serde_json::Value {
    json!({
        "verdict": judgement.verdict,
        "ok": judgement.verdict != judge::PreflightVerdict::Broken,
        "summary": judgement.summary(),
        "components": judgement.lines,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        evidence::{Gate, Seen},
        judge::Component,
        *,
    };

    fn only_the_api_server() -> Judgement {
        judge(|component| match component {
            Component::KubeApiserver => Seen::new(true, "took a numeric pod"),
            Component::KubeScheduler => Seen::new(false, "all 1 (its command line)"),
            Component::ClusterAutoscaler => Seen::new(Gate::Absent, "none"),
            _ => Seen::unknown("why not"),
        })
    }

    #[test]
    fn the_text_marks_each_line_and_names_what_breaks_and_the_remedy() {
        let text = text(&only_the_api_server());
        assert!(
            text.contains("√ kube-apiserver          on      took a numeric pod\n"),
            "{text}"
        );
        assert!(text.contains("× kube-scheduler          off "), "{text}");
        assert!(
            text.contains("    breaks: pods with Gt or Lt stay Pending"),
            "{text}"
        );
        assert!(
            text.contains("    remedy: start it with --feature-gates="),
            "{text}"
        );
        assert!(
            text.contains("‼ kubelet                 unknown why not\n    if off:"),
            "{text}"
        );
        assert!(text.ends_with("Status is ×: numeric tolerations do not work as they should\n"));
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
    }

    #[test]
    fn the_json_says_the_same() {
        let json = as_json(&only_the_api_server());
        assert_eq!(json["verdict"], "broken");
        assert_eq!(json["ok"], false);
        assert_eq!(json["components"][1]["component"], "kube-scheduler");
        assert_eq!(json["components"][1]["gate"], "off");
        assert_eq!(json["components"][1]["severity"], "failure");
        assert!(
            json["summary"]
                .as_str()
                .unwrap()
                .starts_with("kube-scheduler is off")
        );
    }
}
