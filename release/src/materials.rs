//! Bills of materials: the packages that a program is built from, as CycloneDX 1.5 has them.
//!
//! The packages, with the features that are on, are those of `cargo tree` for the programs as they
//! are built together; licenses and addresses are those of `cargo metadata`. Packages that run only
//! while it is built, such as macros, are not in a program and not in its bill. Rust's own library
//! is, by the version of rustc. Package names and versions identify packages, and `Cargo.lock` has
//! their checksums. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    date::SourceDate,
    document,
    programs::{Program, VERSION},
};

/// Separates the depth of a line of `cargo tree` from its package.
pub const TREE_FORMAT: &str = "|{p}";

/// A bill could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MaterialsError {
    /// The tree of packages has another form.
    #[error("line `{0}` of cargo tree cannot be read: it must be a depth, `|` and a package")]
    Tree(String),
    /// The program is not in the tree.
    #[error("cargo tree has no package `{0}`: build it together with the others")]
    Missing(String),
    /// A package of the tree has no metadata.
    #[error("cargo metadata has no package `{0}`")]
    Unknown(String),
    /// It could not be written.
    #[error("the bill of materials cannot be written")]
    Write(#[from] serde_json::Error),
}

/// A package in its version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Package {
    fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// Packages and the packages that each needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    needs: BTreeMap<Package, BTreeSet<Package>>,
}

impl Tree {
    /// The tree that `cargo tree --prefix=depth --format=|{p}` printed. A package that comes again
    /// has its own needs only where it came first.
    pub fn parse(text: &str) -> Result<Self, MaterialsError> {
        let mut tree = Self::default();
        let mut above: Vec<Package> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let wrong = || MaterialsError::Tree(line.to_owned());
            let (depth, package) = line.split_once('|').ok_or_else(wrong)?;
            let depth: usize = depth.parse().map_err(|_| wrong())?;
            let mut words = package.split(' ');
            let (name, version) = (words.next(), words.next());
            let version = version.and_then(|version| version.strip_prefix('v'));
            let (Some(name), Some(version)) = (name, version) else {
                return Err(wrong());
            };
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
            };
            if depth > above.len() {
                return Err(wrong());
            }
            above.truncate(depth);
            if let Some(parent) = above.last() {
                let needs = tree.needs.entry(parent.clone()).or_default();
                needs.insert(package.clone());
            }
            tree.needs.entry(package.clone()).or_default();
            above.push(package);
        }
        Ok(tree)
    }

    /// The package called `name`, and all packages that are in it.
    fn of(&self, name: &str) -> Option<(Package, BTreeSet<Package>)> {
        let root = self.needs.keys().find(|package| package.name == name)?;
        let mut reached = BTreeSet::new();
        let mut left = vec![root];
        while let Some(package) = left.pop() {
            if reached.insert(package.clone()) {
                left.extend(self.needs.get(package).into_iter().flatten());
            }
        }
        Some((root.clone(), reached))
    }
}

/// The part of `cargo metadata` that a bill needs.
#[derive(Clone, Debug, Deserialize)]
pub struct CargoMetadata {
    packages: Vec<Known>,
}

#[derive(Clone, Debug, Deserialize)]
struct Known {
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    source: Option<String>,
}

/// The bill of `program` as JSON. `rustc` is the version of the compiler.
pub fn bill(
    program: &Program,
    tree: &Tree,
    metadata: &CargoMetadata,
    rustc: &str,
    date: &SourceDate,
) -> Result<Vec<u8>, MaterialsError> {
    let missing = || MaterialsError::Missing(program.name.to_owned());
    let (root, reached) = tree.of(program.name).ok_or_else(missing)?;
    let std = format!("rust-std@{rustc}");
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for package in &reached {
        let needs = tree.needs.get(package).into_iter().flatten();
        let needs = needs.map(Package::reference);
        dependencies.push(json!({
            "ref": package.reference(),
            "dependsOn": needs.chain([std.clone()]).collect::<Vec<_>>(),
        }));
        if package != &root {
            components.push(component("library", package, metadata)?);
        }
    }
    components.push(json!({
        "type": "library", "bom-ref": std, "name": "rust-std", "version": rustc,
        "purl": format!("pkg:generic/rust-std@{rustc}"),
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    // Without a serial number, which would be random: the same input gives the same bytes.
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": date.text(),
            "tools": { "components": [
                { "type": "application", "name": "pd-release", "version": VERSION },
            ] },
            "component": component("application", &root, metadata)?,
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(document::bytes(&bill)?)
}

fn component(
    kind: &str,
    package: &Package,
    metadata: &CargoMetadata,
) -> Result<Value, MaterialsError> {
    let mut known = metadata.packages.iter();
    let known = known
        .find(|known| known.name == package.name && known.version == package.version)
        .ok_or_else(|| MaterialsError::Unknown(package.reference()))?;
    let mut component = json!({
        "type": kind, "bom-ref": package.reference(),
        "name": package.name, "version": package.version,
    });
    if let Some(description) = &known.description {
        // CycloneDX has no line breaks there.
        let words: Vec<&str> = description.split_whitespace().collect();
        component["description"] = words.join(" ").into();
    }
    if let Some(license) = &known.license {
        // Older packages have a slash, which SPDX has not.
        let expression = license.split('/').map(str::trim).collect::<Vec<_>>();
        component["licenses"] = json!([{ "expression": expression.join(" OR ") }]);
    }
    // Our own packages are nowhere but in this repository.
    if known.source.is_some() {
        // A plus sign of a version means a space in an address.
        let version = package.version.replace('+', "%2B");
        component["purl"] = format!("pkg:cargo/{}@{version}", package.name).into();
    }
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::PROGRAMS;
    use rstest::rstest;

    const TREE: &str = "0|pd-autoscaler v0.1.0 (/source/autoscaler)\n\
        1|kube v5.0.0\n2|http v1.4.0\n3|bytes v1.11.0+fast\n1|bytes v1.11.0+fast\n1|pd-core v0.1.0 (/source/core)\n\
        \n0|kubectl-pd v0.1.0 (/source/kubectl-pd)\n1|kube v5.0.0 (*)\n1|clap v4.6.7\n";

    fn metadata() -> CargoMetadata {
        let of = |name: &str, version: &str, license: &str, source: Option<&str>| json!({ "name": name, "version": version, "license": license, "source": source, "description": "about\nit" });
        let registry = Some("registry+https://example.com/index");
        serde_json::from_value(json!({ "packages": [
            of("pd-autoscaler", "0.1.0", "Apache-2.0", None),
            of("pd-core", "0.1.0", "Apache-2.0", None),
            of("kubectl-pd", "0.1.0", "Apache-2.0", None),
            of("kube", "5.0.0", "Apache-2.0", registry),
            of("http", "1.4.0", "MIT/Apache-2.0", registry),
            of("bytes", "1.11.0+fast", "MIT", registry),
            of("clap", "4.6.7", "MIT OR Apache-2.0", registry),
        ] }))
        .unwrap()
    }

    fn bill_of(program: &Program) -> Value {
        let tree = Tree::parse(TREE).unwrap();
        let date = SourceDate::new(1_796_040_000).unwrap();
        let bytes = bill(program, &tree, &metadata(), "1.95.0", &date).unwrap();
        let again = bill(program, &tree, &metadata(), "1.95.0", &date).unwrap();
        assert!(bytes == again, "the same input gives the same bytes");
        serde_json::from_slice(&bytes).unwrap()
    }

    fn names(bill: &Value) -> Vec<&str> {
        let components = bill["components"].as_array().unwrap().iter();
        components
            .map(|one| one["bom-ref"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_bill_has_the_packages_that_its_program_reaches() {
        let bill = bill_of(&PROGRAMS[0]);
        assert_eq!(
            names(&bill),
            [
                "bytes@1.11.0+fast",
                "http@1.4.0",
                "kube@5.0.0",
                "pd-core@0.1.0",
                "rust-std@1.95.0"
            ]
        );
        assert_eq!(bill["metadata"]["component"]["name"], "pd-autoscaler");
        assert_eq!(bill["metadata"]["timestamp"], "2026-11-30T12:00:00Z");
        assert_eq!(bill["serialNumber"], Value::Null);
        let components = bill["components"].as_array().unwrap();
        assert!(
            components
                .iter()
                .all(|one| one["licenses"][0]["expression"].is_string())
        );
    }

    #[test]
    fn a_package_that_came_before_has_the_needs_that_it_had_there() {
        let bill = bill_of(&PROGRAMS[3]);
        assert_eq!(
            names(&bill),
            [
                "bytes@1.11.0+fast",
                "clap@4.6.7",
                "http@1.4.0",
                "kube@5.0.0",
                "rust-std@1.95.0"
            ]
        );
        let mut needs = bill["dependencies"].as_array().unwrap().iter();
        let of_kube = needs.find(|one| one["ref"] == "kube@5.0.0").unwrap();
        assert_eq!(
            of_kube["dependsOn"],
            json!(["http@1.4.0", "rust-std@1.95.0"])
        );
    }

    #[test]
    fn packages_of_the_registry_have_an_address_and_ours_have_none() {
        let bill = bill_of(&PROGRAMS[0]);
        let component = |name: &str| {
            let mut components = bill["components"].as_array().unwrap().iter();
            components.find(|one| one["name"] == name).unwrap().clone()
        };
        assert_eq!(component("http")["purl"], "pkg:cargo/http@1.4.0");
        assert_eq!(
            component("http")["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(component("http")["description"], "about it");
        assert_eq!(component("bytes")["purl"], "pkg:cargo/bytes@1.11.0%2Bfast");
        assert_eq!(component("pd-core")["purl"], Value::Null);
    }

    #[rstest]
    #[case::no_depth("pd-autoscaler v0.1.0")]
    #[case::no_version("0|pd-autoscaler")]
    #[case::a_level_is_missing("0|a v1\n2|b v1")]
    #[case::a_heading("[build-dependencies]")]
    fn other_texts_are_refused(#[case] text: &str) {
        let error = Tree::parse(text).unwrap_err();
        assert!(error.to_string().contains("cargo tree"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_built_has_no_bill() {
        let tree = Tree::parse(TREE).unwrap();
        let date = SourceDate::new(0).unwrap();
        let error = bill(&PROGRAMS[1], &tree, &metadata(), "1", &date).unwrap_err();
        assert!(error.to_string().contains("`pd-webhook`"), "{error}");
    }
}
