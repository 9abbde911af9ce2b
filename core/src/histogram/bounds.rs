//! The shares that a histogram's exact sum rules out.
//!
//! Buckets alone leave open where in them observations lie. The sum does not: with all of them
//! between 1 and 2.5 s and a mean of 2.45 s at most a tenth is within 2 s. With counts per bucket
//! and an exact sum the least and the most that can lie below a limit are a linear programme with
//! one free number, the observations of the limit's own bucket that lie below it; both ends have a
//! closed form. A sum that no observations in the buckets could have (windows of counts and sums
//! differ a little) rules nothing out.

/// The observations of a histogram around the bucket that a limit lies in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// Lower edge of the bucket.
    pub(super) low: f64,
    /// Upper edge; infinite beyond the last.
    pub(super) high: f64,
    /// Observations in it.
    pub(super) inside: f64,
    /// The least that the sum of the observations in all other buckets can be.
    pub(super) others_least: f64,
    /// The most that it can be.
    pub(super) others_most: f64,
    /// Sum of all observations.
    pub(super) sum: f64,
}

impl Around {
    /// Least and most observations of the bucket at or below `limit`, which lies in it.
    pub(super) fn within(&self, limit: f64) -> (f64, f64) {
        if !self.is_possible() {
            return (0.0, self.inside);
        }
        // Those above the limit take the more of the sum, the fewer are below it.
        let least = ratio(
            self.others_least + self.inside * limit - self.sum,
            limit - self.low,
        );
        let most = if self.high.is_finite() && self.others_most.is_finite() {
            ratio(
                self.others_most + self.inside * self.high - self.sum,
                self.high - limit,
            )
        } else {
            self.inside
        };
        let most = most.clamp(0.0, self.inside);
        (least.clamp(0.0, most), most)
    }

    /// Least and most that the value can be which `rank` of the bucket's observations do not
    /// exceed.
    pub(super) fn value_of(&self, rank: f64) -> (f64, f64) {
        let beyond = self.inside - rank;
        if !self.is_possible() || rank <= 0.0 {
            return (self.low, self.high);
        }
        // The inverse of both ends of `within`.
        let least = if self.high.is_finite() && self.others_most.is_finite() {
            self.high - (self.others_most + self.inside * self.high - self.sum) / rank
        } else {
            self.low
        };
        let most = if beyond > 0.0 {
            (self.sum - self.others_least - rank * self.low) / beyond
        } else {
            self.high
        };
        let most = most.clamp(self.low, self.high);
        (least.clamp(self.low, most), most)
    }

    fn is_possible(&self) -> bool {
        let least = self.others_least + self.inside * self.low;
        let most = self.others_most + self.inside * self.high;
        self.sum >= least && (self.sum <= most || most.is_nan())
    }
}

fn ratio(part: f64, width: f64) -> f64 {
    if width > 0.0 { part / width } else { 0.0 }
}
