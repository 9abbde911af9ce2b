//! An image of several platforms as an OCI layout: <https://github.com/opencontainers/image-spec>.
//!
//! `index.json` names the image by its version, that the manifests of the platforms, each its
//! configuration and layers. The first layer is the same in all images of a release, so that a node
//! pulls it once; the second is the program. Its configuration says the user, the entry point and
//! the labels.

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use oci_spec::{
    OciSpecError,
    image::{
        ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REF_NAME,
        ANNOTATION_REVISION, ANNOTATION_SOURCE, ANNOTATION_TITLE, ANNOTATION_VERSION,
        ConfigBuilder, Descriptor, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
        ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder,
        SCHEMA_VERSION, Sha256Digest,
    },
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    certificates,
    date::SourceDate,
    document,
    platform::Platform,
    programs::{LICENSE, Program, REPOSITORY, SOURCE, USER, VERSION},
    tarball::{Tarball, gzip},
};

/// The annotation by which containerd names an image that it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A layout could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A field of the specification is missing or wrong.
    #[error("the image is not as the OCI specification wants it")]
    Specification(#[from] OciSpecError),
    /// A document could not be written.
    #[error("a document of the image cannot be written")]
    Document(#[from] serde_json::Error),
    /// A layer could not be packed.
    #[error("a layer cannot be packed")]
    Layer(#[from] io::Error),
}

/// The source of an image.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Commit of the source.
    pub revision: String,
    /// Its date.
    pub date: SourceDate,
}

/// An image as files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Contents by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Digest of the image, as a chart's value has it: `sha256:` and 64 digits.
    pub digest: String,
    /// Bytes that a node pulls, by platform.
    pub pulled: Vec<(Platform, u64)>,
}

/// The layer that all images share: authorities, the user's name, the license.
pub fn base_layer(license: &str) -> Tarball {
    Tarball::default()
        .with_file(certificates::PATH, certificates::bundle())
        .with_file("etc/passwd", include_str!("../passwd"))
        .with_file("usr/share/doc/pdautoscaler/LICENSE", license)
}

/// The layer of a program, with its bill of materials where scanners find it.
pub fn program_layer(program: &Program, binary: &[u8], materials: &[u8]) -> Tarball {
    let materials_path = format!("usr/share/sbom/{}.cdx.json", program.name);
    Tarball::default()
        .with_program(program.name, binary)
        .with_file(materials_path, materials)
}

/// The labels of an image.
pub fn labels(program: &Program, origin: &Origin) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (ANNOTATION_CREATED, origin.date.text().to_owned()),
        (ANNOTATION_DESCRIPTION, program.about.to_owned()),
        (ANNOTATION_LICENSES, LICENSE.to_owned()),
        (ANNOTATION_REVISION, origin.revision.clone()),
        (ANNOTATION_SOURCE, SOURCE.to_owned()),
        (ANNOTATION_TITLE, program.name.to_owned()),
        (ANNOTATION_VERSION, VERSION.to_owned()),
    ])
}

/// The image of `program` from the layers of each platform, lowest first.
pub fn layout(
    program: &Program,
    origin: &Origin,
    platforms: &[(Platform, Vec<Tarball>)],
) -> Result<Layout, LayoutError> {
    let mut layout = Layout::default();
    let annotations = || -> HashMap<String, String> {
        let labels = labels(program, origin).into_iter();
        labels
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    let mut manifests = Vec::new();
    for (platform, layers) in platforms {
        let (config, layers) = layout.platform(program, origin, *platform, layers)?;
        let pulled = layers.iter().map(Descriptor::size).sum::<u64>() + config.size();
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .annotations(annotations())
            .build()?;
        let mut descriptor = layout.document(MediaType::ImageManifest, &manifest)?;
        layout.pulled.push((*platform, pulled + descriptor.size()));
        let place = PlatformBuilder::default()
            .architecture(platform.arch())
            .os(Os::Linux)
            .build()?;
        descriptor.set_platform(Some(place));
        manifests.push(descriptor);
    }
    let image = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .annotations(annotations())
        .build()?;
    let mut named = layout.document(MediaType::ImageIndex, &image)?;
    layout.digest = named.digest().to_string();
    named.set_annotations(Some(HashMap::from([
        (ANNOTATION_REF_NAME.to_owned(), VERSION.to_owned()),
        (CONTAINERD_NAME.to_owned(), name(program)),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![named])
        .build()?;
    let version = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()?;
    layout
        .files
        .insert("index.json".to_owned(), document::bytes(&index)?);
    layout
        .files
        .insert("oci-layout".to_owned(), document::bytes(&version)?);
    Ok(layout)
}

/// The name of an image, as the chart has it.
pub fn name(program: &Program) -> String {
    format!("{REPOSITORY}/{}:{VERSION}", program.name)
}

impl Layout {
    /// The layout as one file, which tools read like the folder.
    pub fn archive(&self, date: &SourceDate) -> io::Result<Vec<u8>> {
        let files = self.files.iter();
        let tarball = files.fold(Tarball::default(), |tarball, (path, contents)| {
            tarball.with_file(path, contents.clone())
        });
        tarball.tar(date)
    }

    /// The configuration and layers of one platform.
    fn platform(
        &mut self,
        program: &Program,
        origin: &Origin,
        platform: Platform,
        layers: &[Tarball],
    ) -> Result<(Descriptor, Vec<Descriptor>), LayoutError> {
        let (mut packed, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
        for layer in layers {
            let tar = layer.tar(&origin.date)?;
            diff_ids.push(format!("sha256:{}", sha256(&tar)));
            packed.push(self.blob(MediaType::ImageLayerGzip, gzip(&tar)?)?);
            let step = HistoryBuilder::default()
                .created(origin.date.text())
                .created_by("pd-release")
                .build()?;
            history.push(step);
        }
        let labels = labels(program, origin).into_iter();
        let run = ConfigBuilder::default()
            .user(format!("{USER}:{USER}"))
            .entrypoint(vec![format!("/{}", program.name)])
            .working_dir("/")
            .labels(
                labels
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<HashMap<_, _>>(),
            )
            .build()?;
        let config = ImageConfigurationBuilder::default()
            .created(origin.date.text())
            .architecture(platform.arch())
            .os(Os::Linux)
            .config(run)
            .rootfs(
                RootFsBuilder::default()
                    .typ("layers")
                    .diff_ids(diff_ids)
                    .build()?,
            )
            .history(history)
            .build()?;
        Ok((self.document(MediaType::ImageConfig, &config)?, packed))
    }

    fn document(
        &mut self,
        kind: MediaType,
        value: &impl Serialize,
    ) -> Result<Descriptor, LayoutError> {
        self.blob(kind, document::bytes(value)?)
    }

    fn blob(&mut self, kind: MediaType, bytes: Vec<u8>) -> Result<Descriptor, LayoutError> {
        let hex = sha256(&bytes);
        let digest: Sha256Digest = hex.parse()?;
        let size = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.files.insert(format!("blobs/sha256/{hex}"), bytes);
        Ok(Descriptor::new(kind, size, digest))
    }
}

/// The digest of `bytes` in 64 digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
