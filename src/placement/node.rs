//! A storage node as the topology knows it: who, where, how much of the ring, and in what state.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// How many places on the ring a node takes unless told otherwise.
pub const DEFAULT_VIRTUAL_NODES: u32 = 150;

/// The most places on the ring one node may take.
pub const MAX_VIRTUAL_NODES: u32 = 4096;

const NAME_BYTES_MAX: usize = 255;
const ZONE_BYTES_MAX: usize = 255;
/// A node's name, and a number behind it.
const SEAT_BYTES_MAX: usize = NAME_BYTES_MAX + 16;

/// What is wrong with a node's description.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidNode {
    /// The id is empty, too long, or has a byte that is not allowed.
    #[error("a node id is 1 to 255 printable ASCII characters without space or '#'")]
    Id,
    /// The host is neither a name nor an address.
    #[error("a host is a name or an IP address of 1 to 255 characters; IPv6 without brackets")]
    Host,
    /// Port zero can't be connected to.
    #[error("a port is 1 to 65535")]
    Port,
    /// Too few or too many virtual nodes.
    #[error("virtual nodes are 1 to {MAX_VIRTUAL_NODES}, not {0}")]
    VirtualNodes(u32),
    /// The zone is empty, too long, or has a byte that is not allowed.
    #[error("a zone is 1 to {ZONE_BYTES_MAX} printable ASCII characters without space")]
    Zone,
    /// The seat is empty, too long, or has a byte that is not allowed.
    #[error("a seat is 1 to {SEAT_BYTES_MAX} printable ASCII characters without space")]
    Seat,
}

/// A node's name: 1 to 255 printable ASCII characters, no space, and no `#`, which sets a node apart from its
/// incarnation where a replica's actor is shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Checks and takes a name.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidNode> {
        let id = id.into();
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if (1..=NAME_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) {
            Ok(Self(id))
        } else {
            Err(InvalidNode::Id)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNode;

    fn try_from(id: String) -> Result<Self, InvalidNode> {
        Self::new(id)
    }
}

impl FromStr for NodeId {
    type Err = InvalidNode;

    fn from_str(id: &str) -> Result<Self, InvalidNode> {
        Self::new(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A node's state in the topology; not whether it answers.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Owns its share.
    Active,
    /// Owns its share still, and is about to hand it over.
    Draining,
    /// Known, owns nothing.
    Inactive,
    /// About to take a share, owns nothing yet.
    Joining,
}

impl NodeStatus {
    const ALL: [Self; 4] = [Self::Active, Self::Draining, Self::Inactive, Self::Joining];

    /// The name as the wire and the metadata store have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Inactive => "inactive",
            Self::Joining => "joining",
        }
    }

    /// Whether a node in this state is met when the ring is walked.
    pub fn owns(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A status that isn't one.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a node's status is active, draining, inactive or joining")]
pub struct UnknownNodeStatus;

impl FromStr for NodeStatus {
    type Err = UnknownNodeStatus;

    fn from_str(name: &str) -> Result<Self, UnknownNodeStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or(UnknownNodeStatus)
    }
}

/// A storage node's entry in the topology.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Who it is, for ever.
    pub id: NodeId,
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// How many places on the ring it takes: its weight.
    pub virtual_nodes: u32,
    /// Whether it owns a share.
    pub status: NodeStatus,
    /// What it shares a fate with other nodes in: a rack, a data center. Owners lie in as many zones as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The name under which its places on the ring are drawn, if that is not its own. One that takes the place of
    /// another node takes its seat, and so owns exactly what that one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<String>,
}

impl Node {
    /// Checks every field that its type leaves open.
    pub fn validate(&self) -> Result<(), InvalidNode> {
        if !is_host(&self.host) {
            return Err(InvalidNode::Host);
        }
        if self.port == 0 {
            return Err(InvalidNode::Port);
        }
        if !(1..=MAX_VIRTUAL_NODES).contains(&self.virtual_nodes) {
            return Err(InvalidNode::VirtualNodes(self.virtual_nodes));
        }
        if !self
            .zone
            .as_deref()
            .is_none_or(|zone| is_printable(zone, ZONE_BYTES_MAX))
        {
            return Err(InvalidNode::Zone);
        }
        if !self
            .seat
            .as_deref()
            .is_none_or(|seat| is_printable(seat, SEAT_BYTES_MAX))
        {
            return Err(InvalidNode::Seat);
        }
        Ok(())
    }

    /// The name under which its places on the ring are drawn.
    pub fn seat(&self) -> &str {
        self.seat.as_deref().unwrap_or(self.id.as_str())
    }

    /// `host:port`, or `[host]:port` for IPv6.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn is_printable(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_host(host: &str) -> bool {
    if host.contains(':') {
        return host.parse::<Ipv6Addr>().is_ok();
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=NAME_BYTES_MAX).contains(&host.len()) && host.bytes().all(allowed)
}

#[cfg(test)]
#[path = "node_test.rs"]
mod tests;
