//! The nodes that replicas run on, and their GPUs.
//!
//! A finite cluster has so many GPUs, in nodes of equal size but for the last; an infinite one gets
//! another node whenever none has room. A replica goes to the first node with room, as a scheduler
//! that packs GPUs does; one larger than a node takes whole nodes. A node that is down has no room.

/// Nodes of a replica and its GPUs on each.
pub(super) type Place = Vec<(usize, u32)>;

#[derive(Clone, Copy, Debug)]
struct Node {
    gpus: u32,
    used: u32,
    /// Faults that hold it down.
    down: u32,
}

impl Node {
    fn free(&self) -> u32 {
        if self.down > 0 {
            return 0;
        }
        self.gpus.saturating_sub(self.used)
    }
}

/// All nodes.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    gpus_per_node: u32,
    infinite: bool,
    nodes: Vec<Node>,
    used: u32,
}

impl Cluster {
    /// A cluster of `gpus`, or of as many as it takes.
    pub(super) fn new(gpus: Option<u32>, gpus_per_node: u32) -> Self {
        let gpus_per_node = gpus_per_node.max(1);
        let mut rest = gpus.unwrap_or(0);
        let mut nodes = Vec::new();
        while rest > 0 {
            let gpus = rest.min(gpus_per_node);
            nodes.push(Node {
                gpus,
                used: 0,
                down: 0,
            });
            rest -= gpus;
        }
        Self {
            gpus_per_node,
            infinite: gpus.is_none(),
            nodes,
            used: 0,
        }
    }

    /// Takes `gpus` where there is room, while no more than `gpus_max` are used in all.
    pub(super) fn place(&mut self, gpus: u32, gpus_max: Option<u32>) -> Option<Place> {
        if gpus_max.is_some_and(|most| self.used.saturating_add(gpus) > most) {
            return None;
        }
        let place = self.room(gpus).or_else(|| {
            if !self.infinite {
                return None;
            }
            for _ in 0..gpus.div_ceil(self.gpus_per_node).max(1) {
                self.nodes.push(Node {
                    gpus: self.gpus_per_node,
                    used: 0,
                    down: 0,
                });
            }
            self.room(gpus)
        })?;
        for (node, gpus) in &place {
            self.nodes[*node].used += gpus;
            self.used += gpus;
        }
        Some(place)
    }

    fn room(&self, gpus: u32) -> Option<Place> {
        if gpus <= self.gpus_per_node {
            let node = self.nodes.iter().position(|node| node.free() >= gpus)?;
            return Some(vec![(node, gpus)]);
        }
        let (mut place, mut rest) = (Vec::new(), gpus);
        for (index, node) in self.nodes.iter().enumerate() {
            if rest == 0 {
                break;
            }
            if node.used == 0 && node.free() > 0 {
                let taken = node.free().min(rest);
                place.push((index, taken));
                rest -= taken;
            }
        }
        (rest == 0).then_some(place)
    }

    /// Gives back what a replica had.
    pub(super) fn free(&mut self, place: &Place) {
        for (node, gpus) in place {
            if let Some(node) = self.nodes.get_mut(*node) {
                node.used = node.used.saturating_sub(*gpus);
            }
            self.used = self.used.saturating_sub(*gpus);
        }
    }

    /// GPUs that nodes have given away.
    #[cfg(test)]
    pub(super) fn used(&self) -> u32 {
        self.nodes.iter().map(|node| node.used).sum()
    }

    /// A node goes down, or a fault that held it down ends.
    pub(super) fn set_down(&mut self, node: usize, down: bool) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.down = if down {
                node.down + 1
            } else {
                node.down.saturating_sub(1)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finite_cluster_is_full_when_its_gpus_are_taken() {
        let mut cluster = Cluster::new(Some(20), 8);
        let places: Vec<_> = (0..5).map(|_| cluster.place(4, None).unwrap()).collect();
        assert_eq!(places[2], [(1, 4)]);
        assert_eq!(places[4], [(2, 4)]);
        assert_eq!(cluster.place(4, None), None);
        cluster.free(&places[1]);
        assert_eq!(cluster.place(4, None), Some(vec![(0, 4)]));
    }

    #[test]
    fn an_infinite_cluster_grows_around_nodes_that_are_down() {
        let mut cluster = Cluster::new(None, 8);
        assert_eq!(cluster.place(4, None), Some(vec![(0, 4)]));
        cluster.set_down(0, true);
        assert_eq!(cluster.place(4, None), Some(vec![(1, 4)]));
        cluster.set_down(0, false);
        assert_eq!(cluster.place(4, None), Some(vec![(0, 4)]));
    }

    #[test]
    fn a_replica_larger_than_a_node_takes_whole_nodes() {
        let mut cluster = Cluster::new(Some(32), 8);
        assert_eq!(cluster.place(4, None), Some(vec![(0, 4)]));
        assert_eq!(cluster.place(16, None), Some(vec![(1, 8), (2, 8)]));
        assert_eq!(cluster.place(16, None), None);
    }

    #[test]
    fn scarcity_counts_what_is_held_and_takes_nothing_away() {
        let mut cluster = Cluster::new(None, 8);
        assert!(cluster.place(8, Some(8)).is_some());
        assert_eq!(cluster.place(4, Some(8)), None);
        assert!(cluster.place(4, None).is_some());
    }
}
