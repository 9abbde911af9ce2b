//! Layouts as tools read them: every document is where its digest says, and says what it must.

use std::io::Read as _;

use flate2::read::GzDecoder;
use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest, OciLayout};
use tar::Archive;

use super::*;
use crate::programs::PROGRAMS;

const PROGRAM: Program = PROGRAMS[0];

fn origin(seconds: u64) -> Origin {
    Origin {
        revision: "0123abc".to_owned(),
        date: SourceDate::new(seconds).unwrap(),
    }
}

fn image(binary: &[u8]) -> Layout {
    let layers = |architecture: &str| {
        let binary = [binary, architecture.as_bytes()].concat();
        vec![
            base_layer("Apache License"),
            program_layer(&PROGRAM, &binary, b"{}"),
        ]
    };
    let platforms = Platform::ALL.map(|one| (one, layers(one.architecture())));
    layout(&PROGRAM, &origin(1_796_040_000), &platforms).unwrap()
}

/// The contents of a descriptor, after its digest and size are compared with them.
fn read<'a>(layout: &'a Layout, descriptor: &Descriptor) -> &'a [u8] {
    let hex = descriptor.as_digest_sha256().unwrap();
    let bytes = &layout.files[&format!("blobs/sha256/{hex}")];
    assert_eq!(sha256(bytes), hex);
    assert_eq!(u64::try_from(bytes.len()).unwrap(), descriptor.size());
    bytes
}

fn of_platforms(layout: &Layout) -> Vec<(Descriptor, ImageManifest)> {
    let top = ImageIndex::from_reader(layout.files["index.json"].as_slice()).unwrap();
    let [named] = top.manifests().as_slice() else {
        panic!("{top:?}");
    };
    assert_eq!(named.media_type(), &MediaType::ImageIndex);
    let image = ImageIndex::from_reader(read(layout, named)).unwrap();
    let manifests = image.manifests().iter();
    manifests
        .map(|one| {
            let manifest = ImageManifest::from_reader(read(layout, one)).unwrap();
            (one.clone(), manifest)
        })
        .collect()
}

#[test]
fn a_digest_is_the_known_one() {
    // FIPS 180-2, appendix B.1.
    let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256(b"abc"), want);
}

#[test]
fn the_image_is_named_by_its_version_and_known_by_its_digest() {
    let layout = image(b"program");
    let version = OciLayout::from_reader(layout.files["oci-layout"].as_slice()).unwrap();
    assert_eq!(version.image_layout_version(), "1.0.0");
    let top = ImageIndex::from_reader(layout.files["index.json"].as_slice()).unwrap();
    let named = &top.manifests()[0];
    assert_eq!(named.digest().to_string(), layout.digest);
    let annotations = named.annotations().as_ref().unwrap();
    assert_eq!(annotations[ANNOTATION_REF_NAME], VERSION);
    let name = &annotations[CONTAINERD_NAME];
    assert_eq!(name, &format!("pdautoscaler/pd-autoscaler:{VERSION}"));
}

#[test]
fn every_platform_has_its_configuration_and_both_layers() {
    let layout = image(b"program");
    let platforms = of_platforms(&layout);
    let arches: Vec<Arch> = platforms
        .iter()
        .map(|(one, _)| one.platform().as_ref().unwrap().architecture().clone())
        .collect();
    assert_eq!(arches, [Arch::Amd64, Arch::ARM64]);
    for ((_, manifest), platform) in platforms.iter().zip(Platform::ALL) {
        let config = ImageConfiguration::from_reader(read(&layout, manifest.config())).unwrap();
        assert_eq!(config.architecture(), &platform.arch());
        assert_eq!(config.created().as_deref(), Some("2026-11-30T12:00:00Z"));
        let run = config.config().as_ref().unwrap();
        assert_eq!(run.user().as_deref(), Some("65532:65532"));
        let entry = run.entrypoint().as_ref().unwrap();
        assert_eq!(entry, &["/pd-autoscaler".to_owned()]);
        assert_eq!(run.cmd(), &None);
        let stated = run.labels().as_ref().unwrap();
        for (label, value) in labels(&PROGRAM, &origin(1_796_040_000)) {
            assert_eq!(stated[label], value);
            assert_eq!(manifest.annotations().as_ref().unwrap()[label], value);
        }
        assert_eq!(manifest.layers().len(), 2);
        for (layer, diff_id) in manifest.layers().iter().zip(config.rootfs().diff_ids()) {
            assert_eq!(layer.media_type(), &MediaType::ImageLayerGzip);
            let mut tar = Vec::new();
            GzDecoder::new(read(&layout, layer))
                .read_to_end(&mut tar)
                .unwrap();
            assert_eq!(diff_id, &format!("sha256:{}", sha256(&tar)));
        }
    }
    // Two platforms, which share a layer: 3 layers, 2 configurations, 2 manifests, 1 index.
    let blobs = layout
        .files
        .keys()
        .filter(|path| path.starts_with("blobs/"));
    assert_eq!(blobs.count(), 8);
}

#[test]
fn the_program_its_materials_and_the_authorities_are_in_the_layers() {
    let layout = image(b"program ");
    let (_, manifest) = &of_platforms(&layout)[1];
    let mut found = BTreeMap::new();
    for layer in manifest.layers() {
        let mut archive = Archive::new(GzDecoder::new(read(&layout, layer)));
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, mode) = (
                entry.path().unwrap().display().to_string(),
                entry.header().mode().unwrap(),
            );
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(path, (mode, text));
        }
    }
    assert_eq!(found["pd-autoscaler"], (0o755, "program arm64".to_owned()));
    assert_eq!(
        found["usr/share/sbom/pd-autoscaler.cdx.json"],
        (0o644, "{}".to_owned())
    );
    assert!(found[certificates::PATH].1.contains("BEGIN CERTIFICATE"));
    assert!(found["etc/passwd"].1.contains(":65532:65532:"));
    assert_eq!(
        found["usr/share/doc/pdautoscaler/LICENSE"].1,
        "Apache License"
    );
}

#[test]
fn the_same_input_gives_the_same_bytes_and_another_another_digest() {
    let (one, other) = (image(b"program"), image(b"program"));
    assert_eq!(one, other);
    let date = SourceDate::new(1).unwrap();
    assert_eq!(one.archive(&date).unwrap(), other.archive(&date).unwrap());
    assert_ne!(one.digest, image(b"Program").digest);
}

#[test]
fn pulled_bytes_are_those_of_the_blobs() {
    let layout = image(b"program");
    for ((descriptor, manifest), (_, pulled)) in of_platforms(&layout).iter().zip(&layout.pulled) {
        let layers: u64 = manifest.layers().iter().map(Descriptor::size).sum();
        let documents = descriptor.size() + manifest.config().size();
        assert_eq!(*pulled, layers + documents);
    }
}
