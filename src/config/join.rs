//! How a storage node becomes part of the cluster by itself.

use serde::{Deserialize, Serialize};

use crate::api::Secret;
use crate::placement::DEFAULT_VIRTUAL_NODES;

/// How a storage node that is new asks to be added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinSettings {
    /// Which coordinator is asked, `http://HOST:PORT` or `https://HOST:PORT`; empty: none is, somebody else adds the
    /// node.
    pub coordinator: String,
    /// What it is shown, where it asks for a token: an administrator's.
    pub token: Secret,
    /// A PEM file of the authorities that its certificate is checked against; empty: the machine's own.
    pub ca_file: String,
    /// The zone that the node joins; empty: none.
    pub zone: String,
    /// How many tokens the node joins with.
    pub virtual_nodes: u32,
}

impl Default for JoinSettings {
    fn default() -> Self {
        Self {
            coordinator: String::new(),
            token: Secret::default(),
            ca_file: String::new(),
            zone: String::new(),
            virtual_nodes: DEFAULT_VIRTUAL_NODES,
        }
    }
}

impl JoinSettings {
    /// Checks what types can't say. An error is a key and what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), (&'static str, String)> {
        let has_tls = self.coordinator.starts_with("https://");
        if !(self.coordinator.is_empty() || has_tls || self.coordinator.starts_with("http://")) {
            let problem = format!(
                "'{}' is neither http://HOST:PORT nor https://HOST:PORT",
                self.coordinator
            );
            return Err(("join.coordinator", problem));
        }
        if !self.ca_file.is_empty() && !self.coordinator.is_empty() && !has_tls {
            let problem = "is of no use without TLS: join.coordinator begins with http://";
            return Err(("join.ca_file", problem.into()));
        }
        Ok(())
    }

    /// The same with its secret masked, fit to be shown.
    #[must_use]
    pub(super) fn masked(self) -> Self {
        Self {
            token: self.token.masked(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_a_url_and_an_authority_is_for_tls() {
        let check = |coordinator: &str, ca_file: &str| {
            let settings = JoinSettings {
                coordinator: coordinator.into(),
                ca_file: ca_file.into(),
                ..JoinSettings::default()
            };
            settings.validate().map_err(|(key, _)| key)
        };
        for (coordinator, ca_file) in [("", "ca"), ("http://c:1", ""), ("https://c:1", "ca")] {
            assert_eq!(check(coordinator, ca_file), Ok(()), "{coordinator}");
        }
        assert_eq!(check("c:1", ""), Err("join.coordinator"));
        assert_eq!(check("http://c:1", "ca"), Err("join.ca_file"));
    }
}
