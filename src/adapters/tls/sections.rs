//! The two sections in use: what listeners for clients show, and what a cluster's processes show each other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;

use super::configs::{self, ClusterConfigs, ListenerConfigs};
use super::connector::ClientTls;
use super::error::TlsError;
use super::live::Live;
use super::protocol::Protocol;
use super::settings::{ClusterTlsSettings, TlsSettings};

type ConfigFor = dyn Fn(Protocol) -> Arc<ServerConfig> + Send + Sync;

/// TLS of a listener. Copies share what is read from files.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ConfigFor>,
    pub(super) handshake_timeout: Duration,
    pub(super) handshakes_max: usize,
}

/// Both sides of the connections inside a cluster.
#[derive(Clone)]
pub struct ClusterTls {
    /// For a storage node's listener.
    pub server: ServerTls,
    /// For whoever calls storage nodes.
    pub client: ClientTls,
}

impl ServerTls {
    /// What the section `tls` says; none when it is off.
    ///
    /// # Errors
    /// When a file can't be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, which looks at the files from then on.
    pub fn open(settings: &TlsSettings) -> Result<Option<Self>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let files = paths([
            &settings.cert_file,
            &settings.key_file,
            &settings.client_ca_file,
        ]);
        let read = settings.clone();
        let live = Live::start(
            "tls",
            files,
            settings.reload_interval,
            move || configs::of_listeners(&read),
            |configs: &ListenerConfigs| configs.expires,
        )?;
        let config = move |protocol| {
            let configs = live.load();
            Arc::clone(match protocol {
                Protocol::Http1 => &configs.http1,
                Protocol::Http2 => &configs.http2,
            })
        };
        Ok(Some(Self::new(Arc::new(config), settings)))
    }

    fn new(config: Arc<ConfigFor>, bounds: &TlsSettings) -> Self {
        Self {
            config,
            handshake_timeout: bounds.handshake_timeout,
            handshakes_max: bounds.handshakes_max,
        }
    }

    /// What the next handshake goes by.
    pub(super) fn config(&self, protocol: Protocol) -> Arc<ServerConfig> {
        (self.config)(protocol)
    }
}

impl ClusterTls {
    /// What the section `cluster_tls` says, with the bounds of `tls`; none when it is off.
    ///
    /// # Errors
    /// When a file can't be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, which looks at the files from then on.
    pub fn open(
        settings: &ClusterTlsSettings,
        bounds: &TlsSettings,
    ) -> Result<Option<Self>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let files = paths([&settings.cert_file, &settings.key_file, &settings.ca_file]);
        let read = settings.clone();
        let live = Arc::new(Live::start(
            "cluster_tls",
            files,
            bounds.reload_interval,
            move || configs::of_cluster(&read),
            |configs: &ClusterConfigs| configs.expires,
        )?);
        let (of_server, of_client) = (Arc::clone(&live), live);
        let server = move |_| Arc::clone(&of_server.load().server);
        let client = move || Arc::clone(&of_client.load().client);
        Ok(Some(Self {
            server: ServerTls::new(Arc::new(server), bounds),
            client: ClientTls::new(client, &settings.server_name),
        }))
    }
}

fn paths<const N: usize>(files: [&String; N]) -> Vec<PathBuf> {
    let given = files.into_iter().filter(|file| !file.is_empty());
    given.map(PathBuf::from).collect()
}
