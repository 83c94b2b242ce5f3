//! The network of the cluster that the process runs in, as far as it is known: what peers are judged by when addresses
//! look translated.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::client_ip::IpSet;

/// Nodes and pods of the cluster; nothing where there is none, or nobody said so.
///
/// From `client_ip.cluster`, and from the variables `HOST_IP` and `POD_IP` that a pod can be given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Addresses of nodes, or ranges that hold nothing else.
    pub nodes: Vec<IpNet>,
    /// Ranges that pods have their addresses from.
    pub pods: Vec<IpNet>,
}

impl Network {
    /// Adds the node and the pod that the variables name; several addresses have commas between them. What isn't an
    /// address is somebody else's variable.
    pub(super) fn extend_from(&mut self, environment: &dyn Fn(&str) -> Option<String>) {
        let addresses = |name| addresses(&environment(name).unwrap_or_default());
        let hosts = addresses("HOST_IP");
        // A pod in its node's network has no range of its own.
        let pods = addresses("POD_IP").into_iter();
        self.pods
            .extend(pods.filter(|ip| !hosts.contains(ip)).map(part_of_node));
        self.nodes.extend(hosts.into_iter().map(IpNet::from));
    }

    /// Whether a peer of this address is a node: by its own address, or by that of its bridge or overlay device, which is
    /// the first or second of the node's pods.
    pub fn is_node(&self, ip: IpAddr) -> bool {
        self.nodes.iter().any(|nodes| nodes.contains(&ip))
            || self.pods.iter().any(|pods| is_device(pods, ip))
    }

    /// How many nodes there may be; `usize::MAX` for more than can be counted.
    pub fn most_nodes(&self) -> usize {
        self.nodes.iter().fold(0, |sum, nodes| {
            let free_bits = u32::from(nodes.max_prefix_len() - nodes.prefix_len());
            sum.saturating_add(1_usize.checked_shl(free_bits).unwrap_or(usize::MAX))
        })
    }

    /// All of it.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&'static str, &IpNet)> {
        let nodes = self.nodes.iter().map(|range| ("nodes", range));
        nodes.chain(self.pods.iter().map(|range| ("pods", range)))
    }

    /// The same as a set.
    pub(super) fn addresses(&self) -> IpSet {
        IpSet::from_networks(self.ranges().map(|(_, range)| *range))
    }
}

fn addresses(text: &str) -> Vec<IpAddr> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter_map(|part| part.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .collect()
}

/// The range that an address shares with the pods of one node, where the cluster's is wider: by common practice each node
/// has a /24 of it, or a /64 of IPv6.
fn part_of_node(ip: IpAddr) -> IpNet {
    let prefix = match ip {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 64,
    };
    IpNet::new(ip, prefix)
        .unwrap_or_else(|_| IpNet::from(ip))
        .trunc()
}

/// Whether an address is the first or second of a node's part of the range.
fn is_device(pods: &IpNet, ip: IpAddr) -> bool {
    if !pods.contains(&ip) {
        return false;
    }
    let part = part_of_node(ip);
    let part = if pods.prefix_len() > part.prefix_len() {
        pods.trunc()
    } else {
        part
    };
    match (part.network(), ip) {
        (IpAddr::V4(first), IpAddr::V4(ip)) => ip.to_bits() - first.to_bits() < 2,
        (IpAddr::V6(first), IpAddr::V6(ip)) => ip.to_bits() - first.to_bits() < 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(nodes: &[&str], pods: &[&str]) -> Network {
        let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Network {
            nodes: ranges(nodes),
            pods: ranges(pods),
        }
    }

    fn is_node(network: &Network, ip: &str) -> bool {
        network.is_node(ip.parse().unwrap())
    }

    #[test]
    fn nodes_and_their_devices_are_told_from_pods() {
        let network = network(
            &["10.41.0.0/24", "192.0.2.7/32"],
            &["10.42.0.0/16", "10.99.0.64/26", "fd00:42::/56"],
        );
        for node in [
            "10.41.0.1",
            "192.0.2.7",
            "10.42.0.0",
            "10.42.0.1",
            "10.42.2.1",
            "10.42.255.0",
            "10.99.0.64",
            "10.99.0.65",
            "fd00:42::",
            "fd00:42:0:3::1",
        ] {
            assert!(is_node(&network, node), "{node}");
        }
        for other in [
            "10.42.0.2",
            "10.42.1.10",
            "10.42.2.255",
            "10.43.0.1",
            "10.99.0.66",
            "10.99.0.1",
            "192.0.2.8",
            "fd00:42::2",
            "fd00:42:0:100::1",
            "203.0.113.1",
        ] {
            assert!(!is_node(&network, other), "{other}");
        }
    }

    #[test]
    fn a_range_holds_as_many_nodes_as_addresses() {
        assert_eq!(network(&[], &["10.42.0.0/16"]).most_nodes(), 0);
        let two = network(&["10.41.0.1/32", "10.41.1.0/30"], &[]);
        assert_eq!(two.most_nodes(), 5);
        let many = network(&["fd00::/8", "10.0.0.0/8"], &[]);
        assert_eq!(many.most_nodes(), usize::MAX);
    }

    #[test]
    fn variables_name_the_own_node_and_its_pods() {
        let with = |host: &str, pod: &str| {
            let (host, pod) = (host.to_owned(), pod.to_owned());
            let mut network = Network::default();
            network.extend_from(&|name| match name {
                "HOST_IP" => Some(host.clone()),
                "POD_IP" => Some(pod.clone()),
                _ => None,
            });
            network
        };
        assert_eq!(
            with("172.16.0.11", "10.42.1.10"),
            network(&["172.16.0.11/32"], &["10.42.1.0/24"])
        );
        assert_eq!(
            with("172.16.0.11, fd00::b", "10.42.1.10,fd00:42:0:1::10"),
            network(
                &["172.16.0.11/32", "fd00::b/128"],
                &["10.42.1.0/24", "fd00:42:0:1::/64"]
            )
        );
        // A pod of the host's network.
        assert_eq!(
            with("172.16.0.11", "172.16.0.11"),
            network(&["172.16.0.11/32"], &[])
        );
        assert_eq!(with("node1.example.com", ""), Network::default());
    }
}
