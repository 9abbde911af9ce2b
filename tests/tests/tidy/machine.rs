//! Keeps out what means nothing on another machine: its folders, and hosts that not everybody
//! reaches.

use super::Findings;

/// Folders that are somebody's own, and hosts that not everybody reaches, in parts, for this file
/// is read too.
const MACHINE_FOLDERS: [&str; 4] = ["work", "root", "home", "Users"];
const REGISTRY_HOSTS: [(&str, &str); 10] = [
    ("ghcr", "io"),
    ("docker", "io"),
    ("quay", "io"),
    ("gcr", "io"),
    ("nvcr", "io"),
    ("registry.k8s", "io"),
    ("public.ecr", "aws"),
    ("mcr.microsoft", "com"),
    ("index.crates", "io"),
    ("proxy.golang", "org"),
];

/// Reports folders of one machine and registries that not everybody reaches.
pub(super) fn machine(path: &str, text: &str, findings: &mut Findings) {
    // Written by tools, and full of names that look like hosts.
    if path == "Cargo.lock" || path.ends_with("go.sum") || path.ends_with("go.mod") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(folder) = MACHINE_FOLDERS
            .into_iter()
            .find(|folder| names_folder(line, folder))
        {
            let message = format!(
                "names the folder /{folder} of one machine: make it relative, or ask the environment"
            );
            findings.add(path, number + 1, &message);
        }
        for (name, domain) in REGISTRY_HOSTS {
            if line.contains(&format!("{name}.{domain}")) {
                let message = format!(
                    "names the registry {name}.{domain}: leave it to the user's configuration"
                );
                findings.add(path, number + 1, &message);
            }
        }
    }
}

/// Whether an absolute path in `line` begins with `/folder`.
fn names_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let begins = before.is_none_or(|c| !c.is_alphanumeric() && !"_.}~)-/$*".contains(c));
        begins && after.is_none_or(|c| !c.is_alphanumeric() && !"_.-".contains(c))
    })
}

#[test]
fn folders_of_a_machine_are_told_from_other_paths() {
    let root = MACHINE_FOLDERS[1];
    for line in [
        format!("cd /{root}/x"),
        format!("\"/{root}\""),
        format!("a=/{root}/.cargo"),
    ] {
        assert!(names_folder(&line, root), "{line}");
    }
    for line in [
        format!("https://example.com/{root}/x"),
        format!("/{root}fs"),
        format!("./{root}/x"),
    ] {
        assert!(!names_folder(&line, root), "{line}");
    }
}
