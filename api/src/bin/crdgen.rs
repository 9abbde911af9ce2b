//! Writes the `CustomResourceDefinition` into the chart.
//!
//! Run it from anywhere in the repository after a change of the API types; the drift test of this
//! crate says so when it was forgotten. With `-` the YAML goes to standard output instead.

use std::{env, error::Error, fs, io::Write, path::Path};

use pd_api::crd::{CHART_PATH, crd_yaml};

fn main() -> Result<(), Box<dyn Error>> {
    let yaml = crd_yaml()?;
    if env::args().nth(1).as_deref() == Some("-") {
        return Ok(std::io::stdout().write_all(yaml.as_bytes())?);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(CHART_PATH);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, yaml)?)
}
