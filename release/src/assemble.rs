//! From programs in folders to the folder of a release.
//!
//! Everything is read and checked before the first file is written, so that a program that would
//! not start leaves no half release behind.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
};

use crate::{
    date::SourceDate,
    executable::{self, ExecutableError},
    layout::{self, LayoutError, Origin, base_layer, layout, program_layer, sha256},
    materials::{CargoMetadata, MaterialsError, TREE_FORMAT, Tree, bill},
    platform::{Platform, PlatformError},
    programs::{Form, PROGRAMS, Program, VERSION},
    tarball::{Tarball, gzip},
};

/// The chart's folder, which is packed too.
const CHART: &str = "charts/pd-autoscaler";
/// Manifests for those without helm, which are copied.
const MANIFESTS: &str = "deploy";

/// Programs of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// The platform.
    pub platform: Platform,
    /// Where they are.
    pub folder: PathBuf,
}

/// A text that does not say which programs are where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinariesError {
    /// No folder.
    #[error("`{0}` has no folder: give PLATFORM=FOLDER")]
    Folder(String),
    /// No platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

impl FromStr for Binaries {
    type Err = BinariesError;

    fn from_str(text: &str) -> Result<Self, BinariesError> {
        let folder = || BinariesError::Folder(text.to_owned());
        let (platform, path) = text.split_once('=').ok_or_else(folder)?;
        if path.is_empty() {
            return Err(folder());
        }
        Ok(Self {
            platform: platform.parse()?,
            folder: path.into(),
        })
    }
}

/// The input of a release.
#[derive(Clone, Debug)]
pub struct Release {
    /// Where the programs are, a folder for each platform.
    pub binaries: Vec<Binaries>,
    /// Only these programs; all that ship if none is named.
    pub only: Vec<String>,
    /// Commit of the source.
    pub revision: String,
    /// Its date.
    pub date: SourceDate,
    /// Folder of the repository.
    pub source: PathBuf,
}

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A program is named that does not ship.
    #[error("--program `{0}` does not ship: give one of {all}", all = PROGRAMS.map(|one| one.name).join(", "))]
    Program(String),
    /// Two folders are given for a platform.
    #[error("--binaries `{0}` is given twice: give one folder for a platform")]
    Twice(Platform),
    /// A file could not be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program would not start.
    #[error("`{}` {source}", path.display())]
    Executable {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: ExecutableError,
    },
    /// A program that cargo or rustc could not answer.
    #[error("`{command}` failed: {cause}")]
    Command {
        /// The command.
        command: String,
        /// Its words.
        cause: String,
    },
    /// A bill of materials could not be made.
    #[error(transparent)]
    Materials(#[from] MaterialsError),
    /// An image could not be made.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> ReleaseError {
    let path = path.to_owned();
    move |source| ReleaseError::File { path, source }
}

/// Makes the release in the new folder `output`. Gives a line for each file and image, for people.
pub fn assemble(release: &Release, output: &Path) -> Result<String, ReleaseError> {
    let programs = wanted(&release.only)?;
    let binaries = by_platform(&release.binaries)?;
    let cargo = Cargo::ask(&release.source, binaries.keys().copied())?;
    let license = read(&release.source.join("LICENSE"))?;
    let license = String::from_utf8_lossy(&license).into_owned();
    let mut trees = BTreeMap::new();
    for platform in binaries.keys() {
        trees.insert(*platform, cargo.tree(*platform, &programs)?);
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut images = BTreeMap::new();
    for program in programs {
        let mut built = BTreeMap::new();
        for (platform, tree) in &trees {
            let path = binaries[platform].join(program.name);
            let binary = read(&path)?;
            executable::check(&binary, *platform)
                .map_err(|source| ReleaseError::Executable { path, source })?;
            let bill = bill(program, tree, &cargo.metadata, &cargo.rustc, &release.date)?;
            built.insert(*platform, (binary, bill));
        }
        for (platform, (_, bill)) in &built {
            let name = format!("{}.cdx.json", of_platform(program, *platform));
            files.insert(name, bill.clone());
        }
        match program.form {
            Form::Image => {
                let image = image(program, release, &license, &built)?;
                let archive = image
                    .archive(&release.date)
                    .map_err(file(Path::new(program.name)))?;
                files.insert(format!("{}-{VERSION}.oci.tar", program.name), archive);
                images.insert(program.name, image);
            }
            Form::Archive => {
                for (platform, (binary, _)) in &built {
                    let name = format!("{}.tar.gz", of_platform(program, *platform));
                    let tarball = Tarball::default()
                        .with_program(program.name, binary.clone())
                        .with_file("LICENSE", license.clone());
                    files.insert(name, packed(&tarball, &release.date)?);
                }
            }
        }
    }
    files.insert(
        format!("pd-autoscaler-{VERSION}.tgz"),
        packed(&chart(&release.source)?, &release.date)?,
    );
    for (name, contents) in folder(&release.source.join(MANIFESTS))? {
        files.insert(name, contents);
    }
    let sums = sums(&files);
    write(output, &files, &images, &sums)?;
    Ok(summary(&files, &images))
}

fn of_platform(program: &Program, platform: Platform) -> String {
    let (name, architecture) = (program.name, platform.architecture());
    format!("{name}-{VERSION}-linux-{architecture}")
}

fn wanted(only: &[String]) -> Result<Vec<&'static Program>, ReleaseError> {
    let ships = |name: &String| PROGRAMS.iter().any(|program| program.name == name);
    if let Some(unknown) = only.iter().find(|name| !ships(name)) {
        return Err(ReleaseError::Program(unknown.clone()));
    }
    let is_wanted =
        |program: &&Program| only.is_empty() || only.iter().any(|name| name == program.name);
    Ok(PROGRAMS.iter().filter(is_wanted).collect())
}

fn by_platform(binaries: &[Binaries]) -> Result<BTreeMap<Platform, &Path>, ReleaseError> {
    let mut found = BTreeMap::new();
    for Binaries { platform, folder } in binaries {
        if found.insert(*platform, folder.as_path()).is_some() {
            return Err(ReleaseError::Twice(*platform));
        }
    }
    Ok(found)
}

fn image(
    program: &Program,
    release: &Release,
    license: &str,
    built: &BTreeMap<Platform, (Vec<u8>, Vec<u8>)>,
) -> Result<layout::Layout, ReleaseError> {
    let origin = Origin {
        revision: release.revision.clone(),
        date: release.date.clone(),
    };
    let platforms: Vec<(Platform, Vec<Tarball>)> = built
        .iter()
        .map(|(platform, (binary, bill))| {
            let layers = vec![base_layer(license), program_layer(program, binary, bill)];
            (*platform, layers)
        })
        .collect();
    Ok(layout(program, &origin, &platforms)?)
}

/// The chart as helm packs it.
fn chart(source: &Path) -> Result<Tarball, ReleaseError> {
    let mut tarball = Tarball::default();
    for (path, contents) in folder(&source.join(CHART))? {
        tarball = tarball.with_file(format!("pd-autoscaler/{path}"), contents);
    }
    Ok(tarball)
}

fn packed(tarball: &Tarball, date: &SourceDate) -> Result<Vec<u8>, ReleaseError> {
    tarball
        .tar(date)
        .and_then(|tar| gzip(&tar))
        .map_err(|error| ReleaseError::Layout(error.into()))
}

/// All files below `folder` by their paths relative to it.
fn folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, ReleaseError> {
    let mut files = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).map_err(file(&at))? {
            let path = entry.map_err(file(&at))?.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            files.insert(relative.display().to_string(), read(&path)?);
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, ReleaseError> {
    fs::read(path).map_err(file(path))
}

/// The checksums as `sha256sum --check` reads them.
fn sums(files: &BTreeMap<String, Vec<u8>>) -> String {
    files.iter().fold(String::new(), |lines, (name, contents)| {
        lines + &sha256(contents) + "  " + name + "\n"
    })
}

fn write(
    output: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    images: &BTreeMap<&str, layout::Layout>,
    sums: &str,
) -> Result<(), ReleaseError> {
    fs::create_dir(output).map_err(file(output))?;
    let put = |path: PathBuf, contents: &[u8]| {
        let folder = path.parent().unwrap_or(output);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, contents))
            .map_err(file(&path))
    };
    for (name, contents) in files {
        put(output.join(name), contents)?;
    }
    for (name, image) in images {
        for (path, contents) in &image.files {
            put(output.join("images").join(name).join(path), contents)?;
        }
    }
    put(output.join("SHA256SUMS"), sums.as_bytes())
}

fn summary(files: &BTreeMap<String, Vec<u8>>, images: &BTreeMap<&str, layout::Layout>) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    for (name, contents) in files {
        let _ = writeln!(
            text,
            "{} {:>10} bytes  {name}",
            &sha256(contents)[..12],
            contents.len()
        );
    }
    for (name, image) in images {
        let _ = writeln!(text, "image {name} {}", image.digest);
        for (platform, bytes) in &image.pulled {
            let _ = writeln!(text, "  {platform}: {bytes} bytes to pull");
        }
    }
    text
}

/// Answers of cargo and rustc about the source.
struct Cargo<'a> {
    source: &'a Path,
    metadata: CargoMetadata,
    rustc: String,
}

impl<'a> Cargo<'a> {
    /// About `source`, as far as `platforms` are built from it: packages of others need not be
    /// there.
    fn ask(
        source: &'a Path,
        platforms: impl Iterator<Item = Platform>,
    ) -> Result<Self, ReleaseError> {
        let mut command = vec!["cargo", "metadata", "--locked", "--format-version=1"];
        for platform in platforms {
            command.extend(["--filter-platform", platform.target()]);
        }
        let metadata = answer(source, &command)?;
        let metadata =
            serde_json::from_str(&metadata).map_err(|error| failed(&command, error.to_string()))?;
        // `rustc 1.95.0 (59807616e 2026-04-14)`
        let rustc = answer(source, &["rustc", "--version"])?;
        let rustc = rustc.split(' ').nth(1).unwrap_or(&rustc).to_owned();
        Ok(Self {
            source,
            metadata,
            rustc,
        })
    }

    /// The packages of all `programs`, for they are built together and share features.
    fn tree(&self, platform: Platform, programs: &[&Program]) -> Result<Tree, ReleaseError> {
        let mut command = vec![
            "cargo",
            "tree",
            "--locked",
            "--target",
            platform.target(),
            "--edges=normal,no-proc-macro",
            "--prefix=depth",
            "--format",
            TREE_FORMAT,
        ];
        for program in programs {
            command.extend(["--package", program.name]);
        }
        Ok(Tree::parse(&answer(self.source, &command)?)?)
    }
}

fn answer(source: &Path, command: &[&str]) -> Result<String, ReleaseError> {
    let (program, arguments) = command.split_first().unwrap_or((&"", &[]));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(source)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(command, error.to_string()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(command, words));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn failed(command: &[&str], cause: String) -> ReleaseError {
    ReleaseError::Command {
        command: command.join(" "),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::both("linux/arm64=target/x", Platform::Arm64, "target/x")]
    #[case::equals_in_the_folder("linux/amd64=a=b", Platform::Amd64, "a=b")]
    fn binaries_are_a_platform_and_a_folder(
        #[case] text: &str,
        #[case] platform: Platform,
        #[case] folder: &str,
    ) {
        let folder = PathBuf::from(folder);
        assert_eq!(text.parse(), Ok(Binaries { platform, folder }));
    }

    #[rstest]
    #[case::no_folder("linux/amd64", "PLATFORM=FOLDER")]
    #[case::empty_folder("linux/amd64=", "PLATFORM=FOLDER")]
    #[case::platform("darwin/arm64=x", "linux/arm64")]
    fn other_texts_are_refused(#[case] text: &str, #[case] want: &str) {
        let error = text.parse::<Binaries>().unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn programs_are_all_or_those_that_are_named() {
        assert_eq!(wanted(&[]).unwrap().len(), PROGRAMS.len());
        let [one] = wanted(&["pd-sim".to_owned()]).unwrap()[..] else {
            panic!("not one");
        };
        assert_eq!(one.name, "pd-sim");
        let error = wanted(&["crdgen".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`crdgen`") && error.contains("kubectl-pd"));
    }

    #[test]
    fn a_platform_has_one_folder() {
        let folder = |text: &str| text.parse::<Binaries>().unwrap();
        let twice = [folder("linux/amd64=a"), folder("linux/amd64=b")];
        let error = by_platform(&twice).unwrap_err().to_string();
        assert!(error.contains("`linux/amd64` is given twice"), "{error}");
    }

    #[test]
    fn sums_are_those_that_sha256sum_checks() {
        let files = BTreeMap::from([("a b".to_owned(), b"abc".to_vec())]);
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a b\n";
        assert_eq!(sums(&files), want);
    }

    #[test]
    fn nothing_is_written_for_a_program_that_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let release = Release {
            binaries: vec![Binaries {
                platform: Platform::Amd64,
                folder: home.path().join("none"),
            }],
            only: Vec::new(),
            revision: "0".to_owned(),
            date: SourceDate::new(0).unwrap(),
            source,
        };
        let output = home.path().join("output");
        let error = assemble(&release, &output).unwrap_err().to_string();
        assert!(error.contains("none/pd-autoscaler"), "{error}");
        assert!(!output.exists());
    }

    #[test]
    fn the_chart_is_packed_as_helm_reads_it() {
        let chart = chart(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        let tar = chart.tar(&SourceDate::new(0).unwrap()).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        for path in [
            "pd-autoscaler/Chart.yaml",
            "pd-autoscaler/values.yaml",
            "pd-autoscaler/templates/deployment.yaml",
        ] {
            assert!(paths.contains(&path.to_owned()), "{path}");
        }
    }
}
