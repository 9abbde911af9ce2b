//! The options of `pd-sim demo`, refused by name when they make no sense.

use std::path::PathBuf;
use std::time::Duration;

use super::rival::{Against, against};
use super::scenario::Day;
use crate::simulate::play_options::time_scale;

/// Longest time a run may take: the day as it is.
const DURATION_MAX: Duration = Duration::from_hours(24);

/// Options as the user gave them.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoOptions {
    /// Wall-clock time for the whole day, such as 60s or 5m; 0 plays as fast as the machine can
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// File for the self-contained HTML report
    #[arg(long, value_name = "FILE", default_value = "pd-demo-report.html")]
    pub report: PathBuf,
    /// Port of the live page on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub port: u16,
    /// Do not open the live page in a browser
    #[arg(long)]
    pub no_browser: bool,
    /// Seed of the requests; the same seed gives the same day
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// The embedded day that is played
    #[arg(
        long,
        value_name = "NAME",
        default_value = "chat",
        conflicts_with = "trace"
    )]
    pub day: Day,
    /// The rival that plays the same requests beside the product, drawn in grey: a policy as
    /// `pd-sim compare` names it, as shipped and not tuned, or none
    #[arg(long, value_name = "POLICY", default_value = "hpa-average-value-default", value_parser = against)]
    pub against: Against,
    /// Multiple of the traffic's rates, 0.1 to 40; without, 16 for the chat day, whose published
    /// rate would be 25, 5 for the reasoning day, three times its published one, and 1 for a trace
    #[arg(long, value_name = "X", value_parser = rate_scale, allow_negative_numbers = true)]
    pub rate_scale: Option<f64>,
    /// Request trace to play instead of the embedded day, of any format that `pd-sim simulate`
    /// reads
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Play the trace so many times as fast: requests come closer together, and the run is shorter
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = time_scale, requires = "trace", allow_negative_numbers = true)]
    pub time_scale: f64,
}

/// A time that is no duration of a run.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = if text == "0" {
        Ok(Duration::ZERO)
    } else {
        humantime::parse_duration(text)
    };
    let duration =
        parsed.map_err(|_| "give a time with its unit, such as 60s or 5m, or 0".to_owned())?;
    if duration > DURATION_MAX {
        return Err("give at most 24h, the length of the day itself".to_owned());
    }
    Ok(duration)
}

fn rate_scale(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|scale| (0.1..=40.0).contains(scale))
        .ok_or_else(|| "give a number from 0.1 to 40".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::simulate::options::PolicyName;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: DemoOptions,
    }

    fn parse(arguments: &[&str]) -> Result<DemoOptions, String> {
        let all = ["demo"].iter().chain(arguments);
        Cli::try_parse_from(all)
            .map(|cli| cli.options)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_a_day_takes_a_minute() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.duration, Duration::from_mins(1));
        assert_eq!(options.report, PathBuf::from("pd-demo-report.html"));
        assert_eq!((options.port, options.no_browser), (0, false));
        assert_eq!(options.day, Day::Chat);
        let rival = options.against.0.map(PolicyName::as_str);
        assert_eq!(rival, Some("hpa-average-value-default"));
    }

    #[test]
    fn a_trace_and_a_day_are_not_played_at_once() {
        let message = parse(&["--trace", "x.csv", "--day", "reasoning"]).unwrap_err();
        assert!(message.contains("cannot be used with"), "{message}");
        assert_eq!(parse(&["--trace", "x.csv"]).unwrap().day, Day::Chat);
    }

    #[test]
    fn zero_is_as_fast_as_possible_with_and_without_a_unit() {
        for text in ["0", "0s"] {
            assert_eq!(
                parse(&["--duration", text]).unwrap().duration,
                Duration::ZERO
            );
        }
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        for (option, value, remedy) in [
            ("--duration", "60", "60s or 5m"),
            ("--duration", "soon", "60s or 5m"),
            ("--duration", "25h", "at most 24h"),
            ("--rate-scale", "0", "0.1 to 40"),
            ("--rate-scale", "nan", "0.1 to 40"),
            ("--port", "70000", "70000"),
            ("--rate-scale", "-1", "0.1 to 40"),
            ("--port", "-1", "-1"),
            ("--seed", "-1", "-1"),
            ("--day", "night", "chat, reasoning"),
            ("--against", "hpa", "hpa-average-value-default"),
            ("--against", "keda-tuned", "keda-default"),
        ] {
            let message = parse(&[option, value]).unwrap_err();
            assert!(message.contains(option), "{message}");
            assert!(message.contains(remedy), "{message}");
        }
    }
}
