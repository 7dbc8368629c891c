//! The calling side: connections that begin with a handshake.
//!
//! A handshake that has ended says nothing in TLS 1.3 about being let in, so a first question follows it, one that
//! everybody may ask: a request that changes something must not be the one whose answer is a refusal or nothing.

use std::error;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::configs::{self, CommandFiles};
use super::error::TlsError;
use super::trouble::{of_handshake, trouble};
use super::witness::{Seen, Witness};
use crate::proto::health::v1::HealthCheckRequest;
use crate::proto::health::v1::health_client::HealthClient;

/// How long the first question may take where the endpoint has no connect timeout.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(5);

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

    /// Connects the endpoint to `host` and `port`, and makes sure that it is let in. Its connect timeout bounds the
    /// handshake, and then the first answer.
    ///
    /// # Errors
    /// When there is no connection; [`trouble`](super::trouble) tells what TLS has to do with that.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        host: &str,
        port: u16,
    ) -> Result<Channel, Box<dyn error::Error + Send + Sync>> {
        let seen = Seen::default();
        let noted = Arc::clone(&seen);
        let (tls, host) = (self.clone(), Arc::<str>::from(host));
        let connector = service_fn(move |_: Uri| {
            let (tls, host, noted) = (tls.clone(), Arc::clone(&host), Arc::clone(&noted));
            async move {
                let stream = tls.open(&host, port).await?;
                Ok::<_, Error>(TokioIo::new(Witness::new(stream, noted)))
            }
        });
        let channel = endpoint.connect_with_connector(connector).await?;
        let mut health = HealthClient::new(channel.clone());
        let longest = endpoint.get_connect_timeout().unwrap_or(FIRST_ANSWER_MAX);
        let first = timeout(longest, health.check(HealthCheckRequest::default())).await;
        let refused = match first {
            Ok(Err(status)) => seen.get().cloned().or_else(|| trouble(&status)),
            // Answered, or too slow: the next request has a deadline of its own.
            Ok(Ok(_)) | Err(_) => None,
        };
        refused.map_or(Ok(channel), |trouble| Err(trouble.into()))
    }

    /// Connects by itself when there is something to send, and again after that. The endpoint's connect timeout bounds
    /// it.
    #[must_use]
    pub fn connect_lazily(&self, endpoint: &Endpoint, host: &str, port: u16) -> Channel {
        let (tls, host) = (self.clone(), Arc::<str>::from(host));
        let connector = service_fn(move |_: Uri| {
            let (tls, host) = (tls.clone(), Arc::clone(&host));
            async move { Ok::<_, Error>(TokioIo::new(tls.open(&host, port).await?)) }
        });
        endpoint.connect_with_connector_lazy(connector)
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
