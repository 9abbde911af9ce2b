//! Holds the files that a release is made of to each other: the Dockerfile, the script, the chart,
//! the changelog and the workspace say the same programs and the same version.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends it")]

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use pd_release::{
    layout::{Origin, labels},
    programs::{Form, LICENSE, PROGRAMS, REPOSITORY, SOURCE, USER, VERSION},
};
use serde_json::Value;

/// Programs of the workspace that are not given to others, and why.
const INTERNAL: &[(&str, &str)] = &[
    ("crdgen", "writes files of this repository"),
    ("pd-admission-load", "measures the webhook in a test"),
    (
        "pd-cluster",
        "a control plane to play with, from the source",
    ),
    (
        "pd-engine-emulator",
        "engines to play with, from the source",
    ),
    (
        "pd-gangs",
        "measures the placement of groups on a control plane of its own",
    ),
    ("pd-mirror-pace", "measures the mirror in a test"),
    ("pd-release", "makes releases"),
    ("pd-throughput", "measures the controller in a test"),
];

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap()
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap()
}

fn shipped(form: Form) -> impl Iterator<Item = &'static str> {
    let of_form = PROGRAMS.iter().filter(move |program| program.form == form);
    of_form.map(|program| program.name)
}

/// A stage of the Dockerfile: its name, what it begins with, and its instructions.
struct Stage {
    name: String,
    from: String,
    lines: Vec<String>,
}

/// The stages, with continued lines as one.
fn stages() -> Vec<Stage> {
    let joined = text("Dockerfile").replace("\\\n", " ");
    let mut stages: Vec<Stage> = Vec::new();
    for line in joined.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", rest @ .., "AS", name] => stages.push(Stage {
                name: (*name).to_owned(),
                from: rest.join(" "),
                lines: Vec::new(),
            }),
            [] => {}
            _ if line.starts_with('#') => {}
            words => {
                let stage = stages.last_mut().unwrap();
                stage.lines.push(words.join(" "));
            }
        }
    }
    stages
}

fn stage(name: &str) -> Stage {
    let found = stages().into_iter().find(|stage| stage.name == name);
    found.unwrap_or_else(|| unreachable!("the Dockerfile has no stage {name}"))
}

#[test]
fn every_program_of_the_workspace_ships_or_is_for_developers() {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let programs: BTreeSet<&str> = targets
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    let ships = PROGRAMS.iter().map(|program| program.name);
    let internal = INTERNAL.iter().map(|(name, _)| *name);
    let known: BTreeSet<&str> = ships.chain(internal).collect();
    assert_eq!(programs, known, "in the workspace, and in lists here");
}

#[test]
fn the_dockerfile_builds_every_program_that_ships_as_the_script_does() {
    let build = stage("build").lines.join("\n");
    let script = text("release/build.sh");
    for program in PROGRAMS {
        let name = program.name;
        assert!(
            build.contains(&format!("--package {name} --bin {name}")),
            "the Dockerfile does not build {name}"
        );
        let all = script
            .lines()
            .find(|line| line.starts_with("PROGRAMS="))
            .unwrap();
        assert!(all.contains(name), "the script does not build {name}");
    }
    for flags in ["--locked", "--profile dist"] {
        assert!(build.contains(flags) && script.contains(flags), "{flags}");
    }
    // Whatever is compiled stays for the next build.
    for cache in ["/usr/local/cargo/registry", "/source/target"] {
        let mount = format!("--mount=type=cache,target={cache}");
        assert!(build.contains(&mount), "{mount}");
    }
}

#[test]
fn every_image_of_the_dockerfile_is_that_of_the_release() {
    let base = stage("base");
    assert_eq!(base.from, "scratch");
    let user = format!("USER {USER}:{USER}");
    assert!(base.lines.contains(&user), "{user}");
    assert!(text("release/passwd").contains(&format!(":{USER}:{USER}:")));
    for (label, value) in [
        ("source", SOURCE),
        ("licenses", LICENSE),
        ("version", VERSION),
    ] {
        let want = format!("org.opencontainers.image.{label}=\"{value}\"");
        let labels = base.lines.iter().find(|line| line.starts_with("LABEL"));
        assert!(labels.unwrap().contains(&want), "{want}");
    }
    for program in PROGRAMS.iter().filter(|one| one.form == Form::Image) {
        let name = program.name;
        let stage = stage(name);
        assert_eq!(stage.from, "base");
        let want = [
            format!("COPY --from=build /programs/{name} /{name}"),
            format!("ENTRYPOINT [\"/{name}\"]"),
        ];
        for line in want {
            assert!(stage.lines.contains(&line), "{line}");
        }
        let origin = Origin {
            revision: String::new(),
            date: pd_release::date::SourceDate::new(0).unwrap(),
        };
        let stated = stage.lines.iter().find(|line| line.starts_with("LABEL"));
        for label in ["title", "description"] {
            let key = format!("org.opencontainers.image.{label}");
            let want = format!("{key}=\"{}\"", labels(program, &origin)[key.as_str()]);
            assert!(stated.unwrap().contains(&want), "{want}");
        }
    }
    // Without a target, the controller.
    assert_eq!(stages().last().unwrap().name, PROGRAMS[0].name);
}

#[test]
fn the_chart_names_the_images_that_are_built() {
    let values = yaml("charts/pd-autoscaler/values.yaml");
    let images = [
        "/image",
        "/webhook/image",
        "/extender/image",
        "/control/image",
    ];
    let named: BTreeSet<String> = images
        .iter()
        .map(|at| {
            values.pointer(at).unwrap()["repository"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let built = shipped(Form::Image).map(|name| format!("{REPOSITORY}/{name}"));
    assert_eq!(named, built.collect());
}

#[test]
fn the_version_is_the_same_everywhere() {
    let chart = yaml("charts/pd-autoscaler/Chart.yaml");
    assert_eq!(chart["version"], VERSION, "the chart's version");
    assert_eq!(chart["appVersion"], VERSION, "the chart's appVersion");
    // The newest section is that version, or leads to it.
    let changelog = text("CHANGELOG.md");
    let newest = changelog.split("\n## ").nth(1).unwrap();
    let heading = newest.lines().next().unwrap();
    let is_it = heading == VERSION || heading.starts_with(&format!("{VERSION} - "));
    let leads = heading == "Unreleased" && newest.contains(VERSION);
    assert!(
        is_it || leads,
        "CHANGELOG.md begins with `{heading}`: begin with `{VERSION} - DATE`, or say in Unreleased that it will be {VERSION}"
    );
    let pages = [
        "README.md",
        "docs/quickstart.md",
        "docs/release.md",
        "charts/pd-autoscaler/README.md",
        "Dockerfile",
    ];
    for page in pages {
        for (number, line) in text(page).lines().enumerate() {
            let Some((_, tag)) = line.split_once("registry.example.com/pd-autoscaler:") else {
                continue;
            };
            let tag = tag.split_whitespace().next().unwrap();
            assert_eq!(tag, VERSION, "{page}:{}", number + 1);
        }
    }
}

#[test]
fn the_compiler_is_the_same_everywhere() {
    let toolchain = text("rust-toolchain.toml");
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "));
    let channel = channel.unwrap().trim_matches('"');
    let build = stage("build");
    assert_eq!(
        build.from,
        format!("--platform=$BUILDPLATFORM rust:{channel}-alpine")
    );
    let pinned = format!("RUSTUP_TOOLCHAIN={channel}");
    assert!(
        build.lines.iter().any(|line| line.contains(&pinned)),
        "{pinned}"
    );
}

#[test]
fn the_script_and_the_dockerfile_build_for_the_platforms_of_the_release() {
    let (script, build) = (text("release/build.sh"), stage("build").lines.join("\n"));
    for platform in pd_release::platform::Platform::ALL {
        let target = platform.target();
        assert!(
            script.contains(&format!("{platform}) echo {target}")),
            "{target}"
        );
        let arm = format!("{}) echo {target}", platform.architecture());
        assert!(build.contains(&arm), "{arm}");
    }
}
