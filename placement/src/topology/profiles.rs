//! Labels that providers put on nodes, as topologies by name.
//!
//! Each list is wide to narrow. Some schemes count upwards and some downwards: AWS' layer 1 is the
//! widest, tier 0 of topograph and Nebius the narrowest. Levels that only some machine types have
//! are optional.
//!
//! Sources: documentation of the providers; NVIDIA/topograph `docs/reference` (v1) and
//! `docs/engines` (before); kubernetes-sigs/kueue's examples.

use super::{Level, Topology};

/// The names of the profiles.
pub const NAMES: [&str; 12] = [
    "kubernetes",
    "gke",
    "aws",
    "oci",
    "oci-host",
    "coreweave",
    "coreweave-nvlink",
    "nebius",
    "topograph",
    "topograph-old",
    "nvlink",
    "kueue",
];

/// The topology of a profile; nothing for an unknown name.
pub fn profile(name: &str) -> Option<Topology> {
    let levels = cloud(name).or_else(|| fabric(name))?;
    Topology::new(levels).ok()
}

/// Labels that clouds put on their nodes.
fn cloud(name: &str) -> Option<Vec<Level>> {
    Some(match name {
        "kubernetes" => vec![
            Level::new("region", "topology.kubernetes.io/region"),
            Level::new("zone", "topology.kubernetes.io/zone"),
        ],
        "gke" => vec![
            Level::new("block", "cloud.google.com/gce-topology-block"),
            Level::new("subblock", "cloud.google.com/gce-topology-subblock"),
            Level::new("host", "cloud.google.com/gce-topology-host"),
        ],
        "aws" => vec![
            Level::new("layer-1", "topology.k8s.aws/network-node-layer-1"),
            Level::new("layer-2", "topology.k8s.aws/network-node-layer-2"),
            Level::new("layer-3", "topology.k8s.aws/network-node-layer-3"),
            Level::new("layer-4", "topology.k8s.aws/network-node-layer-4").optional(),
        ],
        "oci" => vec![
            Level::new("hpc-island", "oci.oraclecloud.com/rdma.hpc_island_id"),
            Level::new("network-block", "oci.oraclecloud.com/rdma.network_block_id"),
            Level::new("local-block", "oci.oraclecloud.com/rdma.local_block_id"),
            Level::new("host", "oci.oraclecloud.com/rdma.host_id"),
        ],
        "oci-host" => vec![
            Level::new("network-block", "oci.oraclecloud.com/host.network_block_id"),
            Level::new("rack", "oci.oraclecloud.com/host.rack_id"),
        ],
        "nebius" => vec![
            Level::new("gpu-cluster", "topology.nebius.com/gpu-cluster-id"),
            Level::new("tier-2", "topology.nebius.com/tier-2").optional(),
            Level::new("tier-1", "topology.nebius.com/tier-1").optional(),
            Level::new("tier-0", "topology.nebius.com/tier-0").optional(),
        ],
        _ => return None,
    })
}

/// Labels of fabrics, by whoever discovers them.
fn fabric(name: &str) -> Option<Vec<Level>> {
    Some(match name {
        "coreweave" => vec![
            Level::with_labels(
                "fabric",
                &[
                    "ib.coreweave.cloud/fabric",
                    "backend.coreweave.cloud/fabric",
                ],
            ),
            Level::with_labels(
                "superpod",
                &[
                    "ib.coreweave.cloud/superpod",
                    "backend.coreweave.cloud/superpod",
                ],
            )
            .optional(),
            Level::with_labels(
                "leafgroup",
                &[
                    "ib.coreweave.cloud/leafgroup",
                    "backend.coreweave.cloud/leafgroup",
                ],
            ),
        ],
        "coreweave-nvlink" => vec![
            Level::new("rack", "node.coreweave.cloud/rack"),
            Level::new("nvlink-domain", "ds.coreweave.com/nvlink.domain"),
        ],
        "topograph" => topograph(),
        "topograph-old" => topograph_old(),
        "nvlink" => vec![Level::new("clique", "nvidia.com/gpu.clique")],
        "kueue" => vec![
            Level::new("block", "cloud.provider.com/topology-block"),
            Level::new("rack", "cloud.provider.com/topology-rack"),
        ],
        _ => return None,
    })
}

/// Both families of keys, the new ones first, for clusters that are between them.
fn topograph() -> Vec<Level> {
    vec![
        Level::with_labels(
            "core",
            &[
                "fabric.topograph.run/tier-2",
                "network.topology.nvidia.com/core",
                "network.topology.nvidia.com/datacenter",
            ],
        )
        .optional(),
        Level::with_labels(
            "spine",
            &[
                "fabric.topograph.run/tier-1",
                "network.topology.nvidia.com/spine",
            ],
        )
        .optional(),
        Level::with_labels(
            "leaf",
            &[
                "fabric.topograph.run/tier-0",
                "network.topology.nvidia.com/leaf",
                "network.topology.nvidia.com/block",
            ],
        ),
        // Where the GPU operator has labelled the NVLink domain, topograph adds no label.
        Level::with_labels(
            "accelerator",
            &[
                "accelerator.topograph.run/domain",
                "network.topology.nvidia.com/accelerator",
                "nvidia.com/gpu.clique",
            ],
        )
        .optional(),
        Level::new("sub-accelerator", "accelerator.topograph.run/sub-domain").optional(),
    ]
}

fn topograph_old() -> Vec<Level> {
    vec![
        Level::with_labels(
            "core",
            &[
                "network.topology.nvidia.com/core",
                "network.topology.nvidia.com/datacenter",
            ],
        )
        .optional(),
        Level::new("spine", "network.topology.nvidia.com/spine").optional(),
        Level::with_labels(
            "leaf",
            &[
                "network.topology.nvidia.com/leaf",
                "network.topology.nvidia.com/block",
            ],
        ),
        Level::with_labels(
            "accelerator",
            &[
                "network.topology.nvidia.com/accelerator",
                "nvidia.com/gpu.clique",
            ],
        )
        .optional(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_profile_has_its_levels_and_no_other_name_does() {
        for name in NAMES {
            assert!(!profile(name).unwrap().levels().is_empty(), "{name}");
        }
        assert_eq!(profile("azure"), None);
    }

    fn path(name: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        let topology = profile(name).unwrap();
        let labels: BTreeMap<String, String> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let levels = topology.in_force(&[&labels]);
        let path = Topology::path(&levels, &labels);
        let named = levels.iter().zip(path);
        named
            .map(|(level, value)| format!("{}={value}", level.name))
            .collect()
    }

    #[test]
    fn nodes_of_providers_are_where_their_labels_say() {
        let aws = path(
            "aws",
            &[
                ("topology.k8s.aws/network-node-layer-3", "nn-3"),
                ("topology.k8s.aws/network-node-layer-1", "nn-1"),
                ("topology.k8s.aws/network-node-layer-2", "nn-2"),
            ],
        );
        assert_eq!(aws, ["layer-1=nn-1", "layer-2=nn-2", "layer-3=nn-3"]);
        let nebius = path(
            "nebius",
            &[
                ("topology.nebius.com/gpu-cluster-id", "c"),
                ("topology.nebius.com/tier-1", "leaf"),
                ("topology.nebius.com/tier-2", "spine"),
            ],
        );
        assert_eq!(nebius, ["gpu-cluster=c", "tier-2=spine", "tier-1=leaf"]);
        let coreweave = path(
            "coreweave",
            &[
                ("ib.coreweave.cloud/fabric", "f"),
                ("ib.coreweave.cloud/superpod", ""),
                ("ib.coreweave.cloud/leafgroup", "7"),
            ],
        );
        assert_eq!(
            coreweave,
            ["fabric=f", "leafgroup=7"],
            "an empty label is none"
        );
    }

    #[test]
    fn old_and_new_keys_of_topograph_meet_in_one_domain() {
        let new = path(
            "topograph",
            &[
                ("fabric.topograph.run/tier-0", "s1"),
                ("fabric.topograph.run/tier-1", "s2"),
            ],
        );
        let old = path(
            "topograph",
            &[
                ("network.topology.nvidia.com/block", "s1"),
                ("network.topology.nvidia.com/spine", "s2"),
            ],
        );
        assert_eq!(new, ["spine=s2", "leaf=s1"]);
        assert_eq!(old, new);
        assert_eq!(
            path(
                "topograph-old",
                &[
                    ("network.topology.nvidia.com/leaf", "s1"),
                    ("nvidia.com/gpu.clique", "u.0")
                ]
            ),
            ["leaf=s1", "accelerator=u.0"]
        );
    }
}
