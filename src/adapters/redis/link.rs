//! The connection that all calls share, made when it is first needed and again when it was lost.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, FromRedisValue, RedisError, RedisResult,
    ScriptInvocation, TlsCertificates, TlsMode,
};
use tokio::sync::{Mutex, OnceCell};

use super::RedisSettings;
use super::url::{Kind, RedisUrl};

/// Between attempts to connect again, at most.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How often a cluster's other members are asked, when a key has moved or its member is gone.
const REDIRECTS_MAX: u32 = 3;

/// The way to Redis. Copies share it.
#[derive(Clone)]
pub(super) enum Link {
    /// Connects again by itself.
    Single(ConnectionManager),
    /// Finds its members again by itself.
    Cluster(Arc<Cluster>),
    /// Asks for the master when it has none.
    Sentinel(Arc<Sentinel>),
}

pub(super) struct Cluster {
    client: redis::cluster::ClusterClient,
    connection: OnceCell<ClusterConnection>,
}

pub(super) struct Sentinel {
    settings: AsyncConnectionConfig,
    master: Mutex<Master>,
}

struct Master {
    sentinels: SentinelClient,
    connection: Option<MultiplexedConnection>,
    /// Tells one connection from the next.
    generation: u64,
}

impl Link {
    /// Doesn't connect yet, but needs a runtime.
    pub(super) fn new(url: &RedisUrl, settings: &RedisSettings) -> RedisResult<Self> {
        let authorities = settings.authorities.clone().filter(|_| url.has_tls);
        let certificates = authorities.map(|authorities| TlsCertificates {
            client_tls: None,
            root_cert: Some(authorities),
        });
        let Some(first) = url.hosts.first() else {
            let no_host = (redis::ErrorKind::InvalidClientConfig, "no host");
            return Err(RedisError::from(no_host));
        };
        let limit = settings.call_timeout;
        match &url.kind {
            Kind::Single => single(first, certificates, limit).map(Self::Single),
            Kind::Cluster => {
                let cluster = Cluster::new(&url.hosts, certificates, limit)?;
                Ok(Self::Cluster(Arc::new(cluster)))
            }
            Kind::Sentinel(name) => {
                let sentinels = sentinels(url, first, name, certificates)?;
                Ok(Self::Sentinel(Arc::new(Sentinel::new(sentinels, limit))))
            }
        }
    }

    /// What a server says of itself; of a cluster, what the first one says.
    pub(super) async fn info(&self, section: &str) -> RedisResult<String> {
        let mut info = redis::cmd("INFO");
        info.arg(section);
        match self {
            Self::Single(manager) => info.query_async(&mut manager.clone()).await,
            Self::Cluster(cluster) => {
                let mut connection = cluster.connection().await?;
                let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                let told = connection.route_command(info, anywhere).await?;
                redis::from_redis_value(told).map_err(RedisError::from)
            }
            Self::Sentinel(sentinel) => info.query_async(&mut sentinel.connection().await?.0).await,
        }
    }

    /// Runs the script where its key is.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        match self {
            Self::Single(manager) => script.invoke_async(&mut manager.clone()).await,
            Self::Cluster(cluster) => {
                let mut connection = cluster.connection().await?;
                script.invoke_async(&mut connection).await
            }
            Self::Sentinel(sentinel) => {
                let (mut connection, generation) = sentinel.connection().await?;
                let result = script.invoke_async(&mut connection).await;
                if let Err(error) = &result
                    && is_of_the_connection(error)
                {
                    sentinel.forget(generation).await;
                }
                result
            }
        }
    }
}

fn single(
    server: &ConnectionInfo,
    certificates: Option<TlsCertificates>,
    limit: Duration,
) -> RedisResult<ConnectionManager> {
    let client = match certificates {
        Some(certificates) => Client::build_with_tls(server.clone(), certificates)?,
        None => Client::open(server.clone())?,
    };
    let settings = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(limit))
        .set_max_delay(PAUSE_MAX);
    ConnectionManager::new_lazy_with_config(client, settings)
}

/// The sentinels of `url`, with what its master and they themselves ask for.
fn sentinels(
    url: &RedisUrl,
    first: &ConnectionInfo,
    name: &str,
    certificates: Option<TlsCertificates>,
) -> RedisResult<SentinelClient> {
    let addresses = url.hosts.iter().map(|host| host.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?;
    let redis = first.redis_settings();
    builder = builder.set_client_to_redis_db(redis.db());
    if let Some(user) = redis.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = redis.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if url.has_tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder.build()
}

impl Cluster {
    fn new(
        members: &[ConnectionInfo],
        certificates: Option<TlsCertificates>,
        limit: Duration,
    ) -> RedisResult<Self> {
        let mut builder = ClusterClientBuilder::new(members.to_vec())
            .connection_timeout(limit)
            .response_timeout(limit)
            .retries(REDIRECTS_MAX);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        Ok(Self {
            client: builder.build()?,
            connection: OnceCell::new(),
        })
    }

    async fn connection(&self) -> RedisResult<ClusterConnection> {
        let connect = || self.client.get_async_connection();
        self.connection.get_or_try_init(connect).await.cloned()
    }
}

impl Sentinel {
    fn new(sentinels: SentinelClient, limit: Duration) -> Self {
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(limit));
        let master = Master {
            sentinels,
            connection: None,
            generation: 0,
        };
        Self {
            settings,
            master: Mutex::new(master),
        }
    }

    async fn connection(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        let mut master = self.master.lock().await;
        if let Some(connection) = &master.connection {
            return Ok((connection.clone(), master.generation));
        }
        let sentinels = &mut master.sentinels;
        let connection = sentinels
            .get_async_connection_with_config(&self.settings)
            .await?;
        master.generation += 1;
        master.connection = Some(connection.clone());
        Ok((connection, master.generation))
    }

    async fn forget(&self, generation: u64) {
        let mut master = self.master.lock().await;
        if master.generation == generation {
            master.connection = None;
        }
    }
}

/// Another connection may do better: this one is broken or silent, or its server is the master no more.
fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY")
}
