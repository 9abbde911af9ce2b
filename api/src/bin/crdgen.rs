//! Writes the `CustomResourceDefinition`s into the chart.
//!
//! Run it from anywhere in the repository after a change of the API types; the drift test of this
//! crate says so when it was forgotten. With `-` the YAML goes to standard output instead.

use std::{env, error::Error, fs, io::Write, path::Path};

use pd_api::Resource;

fn main() -> Result<(), Box<dyn Error>> {
    for resource in Resource::ALL {
        let yaml = resource.crd_yaml()?;
        if env::args().nth(1).as_deref() == Some("-") {
            writeln!(std::io::stdout(), "---\n{yaml}")?;
            continue;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(resource.chart_path());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, yaml)?;
    }
    Ok(())
}
