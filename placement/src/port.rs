//! Ports of a node that pods take for themselves.
//!
//! Two pods cannot share a protocol and port on one address of a node; the empty address and
//! `0.0.0.0` stand for all of them.

/// The address that stands for all.
const EVERY_ADDRESS: &str = "0.0.0.0";

/// A port of the node that a container takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The address; empty for all.
    pub address: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port, from 1 to 65535.
    pub port: u16,
}

impl HostPort {
    /// A TCP port on all addresses.
    pub fn tcp(port: u16) -> Self {
        Self {
            address: String::new(),
            protocol: "TCP".to_owned(),
            port,
        }
    }

    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let is_every = |address: &str| address.is_empty() || address == EVERY_ADDRESS;
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address
                || is_every(&self.address)
                || is_every(&other.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_conflict_on_the_same_protocol_and_address() {
        let at = |address: &str, protocol: &str, port| HostPort {
            address: address.to_owned(),
            protocol: protocol.to_owned(),
            port,
        };
        let every = HostPort::tcp(80);
        assert!(every.conflicts(&every));
        assert!(every.conflicts(&at("10.0.0.1", "TCP", 80)));
        assert!(at("10.0.0.1", "TCP", 80).conflicts(&at("0.0.0.0", "TCP", 80)));
        assert!(!at("10.0.0.1", "TCP", 80).conflicts(&at("10.0.0.2", "TCP", 80)));
        assert!(!every.conflicts(&at("", "UDP", 80)));
        assert!(!every.conflicts(&HostPort::tcp(81)));
    }
}
