//! The chart's documents: README and schema say what `values.yaml` says.
//!
//! `values.yaml` is the source. Every value has a line `# -- ...` above it; the README's table is
//! made of these lines, by this test when `PD_UPDATE` is set.

use std::{fmt::Write as _, fs};

use pd_tests::chart;
use serde_json::Value;

/// A value of the chart as `values.yaml` documents it.
struct Documented {
    path: String,
    default: Value,
    text: String,
}

/// The values with a `# --` comment, in the order of the file. Panics on a value that no comment
/// covers.
fn documented(yaml: &str) -> Vec<Documented> {
    let values: Value = serde_saphyr::from_str(yaml).unwrap();
    let mut found = Vec::<Documented>::new();
    let (mut parents, mut comment) = (Vec::<(usize, String)>::new(), None);
    for line in yaml.lines() {
        let content = line.trim_start();
        let depth = line.len() - content.len();
        if let Some(text) = content.strip_prefix("# -- ") {
            comment = Some(text.to_owned());
        }
        let Some((key, rest)) = content
            .split_once(':')
            .filter(|_| !content.starts_with(['#', '-']))
        else {
            continue;
        };
        parents.retain(|(parent, _)| *parent < depth);
        parents.push((depth, key.to_owned()));
        let path = parents
            .iter()
            .map(|(_, key)| key.as_str())
            .collect::<Vec<_>>()
            .join(".");
        let covered = found
            .iter()
            .any(|known| path.starts_with(&format!("{}.", known.path)));
        match comment.take() {
            Some(text) => {
                let default = values
                    .pointer(&format!("/{}", path.replace('.', "/")))
                    .unwrap()
                    .clone();
                found.push(Documented {
                    path,
                    default,
                    text,
                });
            }
            None => assert!(
                covered || rest.is_empty(),
                "values.yaml: `{path}` needs a `# --` line above it"
            ),
        }
    }
    found
}

#[test]
fn the_readme_lists_every_value() {
    let yaml = fs::read_to_string(chart::directory().join("values.yaml")).unwrap();
    let mut table = String::from("| Value | Default | Meaning |\n|---|---|---|\n");
    for Documented {
        path,
        default,
        text,
    } in documented(&yaml)
    {
        writeln!(
            table,
            "| `{path}` | `{default}` | {} |",
            text.replace('|', "\\|")
        )
        .unwrap();
    }
    let file = chart::directory().join("README.md");
    let readme = fs::read_to_string(&file).unwrap();
    let (start, end) = ("<!-- values: begin -->\n", "<!-- values: end -->");
    let (head, rest) = readme.split_once(start).expect("a place for the values");
    let (shown, tail) = rest.split_once(end).expect("an end of the values");
    if std::env::var_os("PD_UPDATE").is_some() {
        fs::write(&file, format!("{head}{start}{table}{end}{tail}")).unwrap();
        return;
    }
    assert!(
        shown == table,
        "the chart's README.md differs from values.yaml; run \
         `PD_UPDATE=1 cargo test -p pd-tests --test chart the_readme` and commit the result"
    );
}

#[test]
fn the_schema_knows_the_values_and_no_others() {
    let read = |name| fs::read_to_string(chart::directory().join(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut faults = Vec::new();
    compare(&schema, &schema, &values, "", &mut faults);
    faults.retain(|fault| fault != "/global: in the schema only");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Reports where `values` and the properties of `schema`, below `path`, differ.
fn compare(root: &Value, schema: &Value, values: &Value, path: &str, faults: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let (Some(properties), Some(values)) = (schema["properties"].as_object(), values.as_object())
    else {
        return;
    };
    if schema["additionalProperties"] != false {
        faults.push(format!("{path}: takes unknown values"));
    }
    for (key, value) in values {
        match properties.get(key) {
            Some(property) => compare(root, property, value, &format!("{path}/{key}"), faults),
            None => faults.push(format!("{path}/{key}: not in the schema")),
        }
    }
    // Free-form values, such as probes and resources, name in the schema more than they have by
    // default.
    if !values.contains_key("periodSeconds") && !values.contains_key("requests") {
        let unknown = properties.keys().filter(|key| !values.contains_key(*key));
        faults.extend(unknown.map(|key| format!("{path}/{key}: in the schema only")));
    }
}
