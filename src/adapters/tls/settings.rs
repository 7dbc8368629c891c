//! The sections `tls` and `cluster_tls`: paths and bounds only.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// TLS of the listeners that clients reach: gRPC, HTTP and metrics. Off while there is no certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// A PEM file of the certificate, followed by those that signed it up to the authority; empty: no TLS.
    pub cert_file: String,
    /// A PEM file of its private key, without a passphrase.
    pub key_file: String,
    /// A PEM file of authorities: clients must have a certificate that one of them signed. Empty: clients need none.
    pub client_ca_file: String,
    /// Whether metrics are served over TLS too, rather than readable for whoever reaches their port.
    pub metrics: bool,
    /// How long a handshake may take. For `cluster_tls` too, as are the next two.
    pub handshake_timeout: Duration,
    /// How many handshakes of a listener may be under way; further connections wait.
    pub handshakes_max: usize,
    /// How often files are looked at for changes.
    pub reload_interval: Duration,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            cert_file: String::new(),
            key_file: String::new(),
            client_ca_file: String::new(),
            metrics: true,
            handshake_timeout: Duration::from_secs(5),
            handshakes_max: 256,
            reload_interval: Duration::from_secs(5),
        }
    }
}

/// Mutual TLS between coordinators and storage nodes and among storage nodes. All three files, or none: no TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterTlsSettings {
    /// A PEM file of this process's certificate, followed by those that signed it up to the authority. It is shown to
    /// those who call and to those who are called.
    pub cert_file: String,
    /// A PEM file of its private key, without a passphrase.
    pub key_file: String,
    /// A PEM file of authorities: only who has a certificate that one of them signed is talked to.
    pub ca_file: String,
    /// The name that certificates of storage nodes are for; empty: the host each of them is reached at.
    pub server_name: String,
}

/// A key and what is wrong with it.
type Wrong = (&'static str, String);

impl TlsSettings {
    /// Whether there is TLS.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }

    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// When there is such a key.
    pub fn validate(&self) -> Result<(), Wrong> {
        together(
            ("tls.cert_file", &self.cert_file),
            ("tls.key_file", &self.key_file),
        )?;
        if !self.client_ca_file.is_empty() && !self.is_on() {
            let problem = "is of no use without tls.cert_file and tls.key_file".into();
            return Err(("tls.client_ca_file", problem));
        }
        Ok(())
    }
}

impl ClusterTlsSettings {
    /// Whether there is TLS.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }

    /// Checks what types can't say. An error is a key and what is wrong with it.
    ///
    /// # Errors
    /// When there is such a key.
    pub fn validate(&self) -> Result<(), Wrong> {
        let cert = ("cluster_tls.cert_file", &self.cert_file);
        together(cert, ("cluster_tls.key_file", &self.key_file))?;
        together(cert, ("cluster_tls.ca_file", &self.ca_file))?;
        let name = &self.server_name;
        if !name.is_empty() && rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            let problem = format!("'{name}' is neither a host name nor an IP address");
            return Err(("cluster_tls.server_name", problem));
        }
        Ok(())
    }
}

/// Both or none.
fn together(one: (&'static str, &String), other: (&'static str, &String)) -> Result<(), Wrong> {
    for ((missing, path), (given, beside)) in [(one, other), (other, one)] {
        if path.is_empty() && !beside.is_empty() {
            return Err((missing, format!("must be given beside {given}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut TlsSettings)) -> &'static str {
        let mut settings = TlsSettings::default();
        change(&mut settings);
        settings.validate().unwrap_err().0
    }

    #[test]
    fn half_of_it_is_refused_by_the_key_that_is_missing() {
        assert_eq!(TlsSettings::default().validate(), Ok(()));
        assert_eq!(wrong(|tls| tls.cert_file = "c".into()), "tls.key_file");
        assert_eq!(wrong(|tls| tls.key_file = "k".into()), "tls.cert_file");
        assert_eq!(
            wrong(|tls| tls.client_ca_file = "a".into()),
            "tls.client_ca_file"
        );
        let mut cluster = ClusterTlsSettings::default();
        assert_eq!(cluster.validate(), Ok(()));
        cluster.cert_file = "c".into();
        cluster.key_file = "k".into();
        assert_eq!(cluster.validate().unwrap_err().0, "cluster_tls.ca_file");
        cluster.ca_file = "a".into();
        assert_eq!(cluster.validate(), Ok(()));
        cluster.server_name = "a b".into();
        assert_eq!(cluster.validate().unwrap_err().0, "cluster_tls.server_name");
    }
}
