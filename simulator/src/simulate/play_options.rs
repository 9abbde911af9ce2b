//! Options of every command that plays traffic: how much of it, how dense, how fast, and the seed.

/// Which part of the traffic is played, and how.
#[derive(Clone, Copy, Debug, PartialEq, clap::Args)]
pub struct PlayOptions {
    /// Seed of generated requests and of the shifts of copies; the same seed gives the same result
    #[arg(long, default_value_t = 7, allow_negative_numbers = true)]
    pub seed: u64,
    /// Leave out the first hours
    #[arg(long, value_name = "H", default_value_t = 0.0, value_parser = from, allow_negative_numbers = true)]
    pub from: f64,
    /// Play only the first hours, after those left out
    #[arg(long, value_name = "H", value_parser = hours, allow_negative_numbers = true)]
    pub hours: Option<f64>,
    /// Lay so many copies of each trace over each other, each starting elsewhere within ten minutes
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub copies: u32,
    /// So many times the requests: whole copies laid over each other, and a part of one more drawn
    /// by the seed
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = rate_scale, allow_negative_numbers = true)]
    pub rate_scale: f64,
    /// Play so many times as fast: requests come closer together, and the run is shorter
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = time_scale, allow_negative_numbers = true)]
    pub time_scale: f64,
}

fn from(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|hours| (0.0..=100_000.0).contains(hours))
        .ok_or_else(|| "give a number of hours from 0 to 100000".to_owned())
}

fn hours(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|hours| (0.01..=100_000.0).contains(hours))
        .ok_or_else(|| "give a number of hours from 0.01 to 100000".to_owned())
}

/// How many times as fast traffic is played.
pub(crate) fn time_scale(text: &str) -> Result<f64, String> {
    scale(text)
}

/// How many times as many requests are played.
pub(crate) fn rate_scale(text: &str) -> Result<f64, String> {
    scale(text)
}

fn scale(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|scale| (0.001..=1_000.0).contains(scale))
        .ok_or_else(|| "give a number from 0.001 to 1000".to_owned())
}
