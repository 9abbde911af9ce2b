//! The common setup of several commands' tests: their options, read as from a command line, on the
//! shipped ramp.

use std::path::Path;

use clap::{Args, Command, Error};

/// The options of a command, read from its arguments.
pub(crate) fn parsed<O: Args>(arguments: &[&str]) -> Result<O, Error> {
    let command = O::augment_args(Command::new("pd-sim").no_binary_name(true));
    O::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

/// The options of a command on so many copies of the shipped ramp, with further arguments.
pub(crate) fn on_the_ramp<O: Args>(copies: &str, further: &[&str]) -> O {
    let ramp = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ramp.csv");
    let ramp = ramp.to_str().unwrap();
    let mut arguments = vec!["--trace", ramp];
    if !further.contains(&"--copies") {
        arguments.extend(["--copies", copies]);
    }
    arguments.extend(further);
    parsed(&arguments).unwrap()
}
