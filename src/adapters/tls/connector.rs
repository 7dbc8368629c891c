//! The calling side: connections that begin with a handshake.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::configs::{self, CommandFiles};
use super::error::TlsError;
use super::trouble::of_handshake;

/// How a server is told from another, and what it is shown. Copies share what is read from files.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<dyn Fn() -> Arc<ClientConfig> + Send + Sync>,
    /// Who the server must be; empty: whoever it was called as.
    server_name: Arc<str>,
}

impl ClientTls {
    pub(super) fn new(
        config: impl Fn() -> Arc<ClientConfig> + Send + Sync + 'static,
        server_name: &str,
    ) -> Self {
        Self {
            config: Arc::new(config),
            server_name: server_name.into(),
        }
    }

    /// For a command: the files are read once.
    ///
    /// # Errors
    /// When one can't be used.
    pub fn of_command(files: CommandFiles<'_>) -> Result<Self, TlsError> {
        let config = Arc::new(configs::of_command(files)?);
        Ok(Self::new(move || Arc::clone(&config), ""))
    }

    /// The same for who speaks something else than gRPC.
    #[cfg(test)]
    pub(super) fn of_anything(&self) -> Self {
        let config = Arc::clone(&self.config);
        let config = move || {
            let mut config = ClientConfig::clone(&config());
            config.alpn_protocols.clear();
            Arc::new(config)
        };
        Self::new(config, &self.server_name)
    }

    /// Connects the endpoint to `host` and `port`. Its connect timeout bounds the handshake too.
    ///
    /// # Errors
    /// When there is no connection; [`trouble`](super::trouble) tells what TLS has to do with that.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        host: &str,
        port: u16,
    ) -> Result<Channel, tonic::transport::Error> {
        let (tls, host) = (self.clone(), Arc::<str>::from(host));
        let connector = service_fn(move |_: Uri| {
            let (tls, host) = (tls.clone(), Arc::clone(&host));
            async move { tls.open(&host, port).await.map(TokioIo::new) }
        });
        endpoint.connect_with_connector(connector).await
    }

    pub(super) async fn open(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, Error> {
        let name = match &*self.server_name {
            "" => host,
            name => name,
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| Error::new(ErrorKind::InvalidInput, format!("{name}: {error}")))?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from((self.config)())
            .connect(name, stream)
            .await
            .map_err(of_handshake)
    }
}
