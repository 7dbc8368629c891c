//! What rustls works with, made from files. TLS 1.3; for clients from outside 1.2 as well.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::error::TlsError;
use super::pem::Named;
use super::settings::{ClusterTlsSettings, TlsSettings};
use super::validity;

/// HTTP/2, on which gRPC runs, as handshakes name it.
const HTTP2: &[u8] = b"h2";
/// What web clients speak here.
const HTTP1: &[u8] = b"http/1.1";

const FOR_CLIENTS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const IN_CLUSTER: &[&SupportedProtocolVersion] = &[&TLS13];

/// What listeners for clients use.
pub(super) struct ListenerConfigs {
    pub http2: Arc<ServerConfig>,
    pub http1: Arc<ServerConfig>,
    /// When the certificate ends, in seconds since 1970, if that can be told.
    pub expires: Option<i64>,
}

/// What processes of one cluster use towards each other.
pub(super) struct ClusterConfigs {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    /// When the certificate ends, in seconds since 1970, if that can be told.
    pub expires: Option<i64>,
}

/// The files that a command's flags name.
#[derive(Clone, Copy, Debug)]
pub struct CommandFiles<'f> {
    /// Authorities that servers are trusted by; none: the machine's own.
    pub ca: Option<&'f Path>,
    /// A certificate and its key, for servers that ask for one.
    pub own: Option<(&'f Path, &'f Path)>,
}

pub(super) fn of_listeners(settings: &TlsSettings) -> Result<ListenerConfigs, TlsError> {
    let identity = Identity::read(
        named("tls.cert_file", &settings.cert_file),
        named("tls.key_file", &settings.key_file),
    )?;
    let clients = match settings.client_ca_file.as_str() {
        "" => None,
        file => Some(named("tls.client_ca_file", file)),
    };
    let expires = identity.expires();
    let http2 = identity.server(FOR_CLIENTS, clients)?;
    let mut http1 = http2.clone();
    http1.alpn_protocols = vec![HTTP1.to_vec()];
    Ok(ListenerConfigs {
        http2: Arc::new(http2),
        http1: Arc::new(http1),
        expires,
    })
}

pub(super) fn of_cluster(settings: &ClusterTlsSettings) -> Result<ClusterConfigs, TlsError> {
    let identity = Identity::read(
        named("cluster_tls.cert_file", &settings.cert_file),
        named("cluster_tls.key_file", &settings.key_file),
    )?;
    let authority = named("cluster_tls.ca_file", &settings.ca_file);
    let expires = identity.expires();
    let server = identity.server(IN_CLUSTER, Some(authority))?;
    let client = client(IN_CLUSTER, authority.authorities()?, Some(identity))?;
    Ok(ClusterConfigs {
        server: Arc::new(server),
        client: Arc::new(client),
        expires,
    })
}

pub(super) fn of_command(files: CommandFiles<'_>) -> Result<ClientConfig, TlsError> {
    let authorities = match files.ca {
        Some(file) => named("--tls-ca", file).authorities()?,
        None => machines_own()?,
    };
    let identity = match files.own {
        Some((cert, key)) => Some(Identity::read(
            named("--tls-cert", cert),
            named("--tls-key", key),
        )?),
        None => None,
    };
    client(FOR_CLIENTS, authorities, identity)
}

fn named<'f>(setting: &'static str, file: &'f (impl AsRef<Path> + ?Sized)) -> Named<'f> {
    Named {
        setting,
        file: file.as_ref(),
    }
}

fn machines_own() -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match authorities.is_empty() {
        true => Err(TlsError::new(
            "--tls-ca",
            Path::new("(none given)"),
            "this machine has no authorities of its own",
            "name the file of the authority that signed the server's certificate",
        )),
        false => Ok(authorities),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate with those that signed it, and its key.
struct Identity<'f> {
    cert: Named<'f>,
    key_file: Named<'f>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl<'f> Identity<'f> {
    fn read(cert: Named<'f>, key_file: Named<'f>) -> Result<Self, TlsError> {
        Ok(Self {
            cert,
            key_file,
            chain: cert.certificates()?,
            key: key_file.key()?,
        })
    }

    fn expires(&self) -> Option<i64> {
        validity::not_after(self.chain.first()?)
    }

    fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<Named<'_>>,
    ) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| self.unusable(&error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let authorities = Arc::new(authority.authorities()?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(authorities, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| {
                    let way_out = "name a PEM file of certificates of authorities";
                    authority.wrong(format!("can't be used: {error}"), way_out)
                })?)
            }
        };
        let mut config = builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| self.unusable(&error))?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        if clients.is_some() {
            // A resumed session would be let in without another look at its certificate.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    fn unusable(&self, error: &rustls::Error) -> TlsError {
        let cert = self.cert.file.display();
        match error {
            rustls::Error::InconsistentKeys(_) => self.key_file.wrong(
                format!("is not the key of {cert}"),
                "name the key that the certificate was made for",
            ),
            rustls::Error::InvalidCertificate(_) => self.cert.wrong(
                format!("can't be used: {error}"),
                "name a PEM file of an X.509 certificate (version 3)",
            ),
            _ => self.key_file.wrong(
                "holds a key that can't be used",
                "make an ECDSA key (P-256 or P-384), an Ed25519 key, or an RSA key of 2048 to 8192 bits",
            ),
        }
    }
}

fn client(
    versions: &[&'static SupportedProtocolVersion],
    authorities: RootCertStore,
    identity: Option<Identity<'_>>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map(|builder| builder.with_root_certificates(authorities));
    let mut config = match (builder, identity) {
        (Ok(builder), None) => builder.with_no_client_auth(),
        (Ok(builder), Some(identity)) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| identity.unusable(&error))?,
        (Err(error), _) => {
            // The versions are constants that the provider knows.
            let problem = format!("TLS can't be used: {error}");
            return Err(TlsError::new("tls", Path::new(""), problem, "report it"));
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
