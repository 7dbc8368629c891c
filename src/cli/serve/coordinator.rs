//! One coordinator: the real adapters behind it, its gRPC front, health and metrics before it.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::exit::{Exit, Failure};
use super::listen::{Wish, address, bind};
use super::metrics::{collect_metrics, sample_coordinator, serve_metrics};
use super::stores::Stores;
use super::world::CoordinatorAdapters;
use crate::adapters::front::Budget;
use crate::adapters::grpc::GrpcTransport;
use crate::adapters::tls::{ClusterTls, Listener, ServerTls};
use crate::adapters::tokio::{ThreadRandom, TokioClock, TokioSpawn};
use crate::api::{Gate, serve_grpc, serve_http};
use crate::config::Config;
use crate::coordinator::{Admin, Coordinator};
use crate::ports::CoordinatorWorld;

/// How often readiness is looked at while waiting for it.
const READINESS_POLL: Duration = Duration::from_millis(5);

/// How long the last answers may take to reach their clients, and those to close their connections.
const GOODBYE: Duration = Duration::from_secs(1);

/// The sockets of a coordinator.
pub struct CoordinatorListeners {
    grpc: TcpListener,
    http: TcpListener,
    metrics: Option<TcpListener>,
}

/// What the flags of the three are called.
pub struct ListenFlags {
    /// gRPC.
    pub grpc: &'static str,
    /// HTTP.
    pub http: &'static str,
    /// Prometheus.
    pub metrics: &'static str,
}

/// Where a coordinator can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// Prometheus.
    pub metrics: Option<SocketAddr>,
}

impl CoordinatorListeners {
    /// Listens where the configuration says.
    pub async fn bind(config: &Config, flags: &ListenFlags) -> Result<Self, Failure> {
        let (server, metrics) = (&config.server, &config.metrics);
        let wish = |what, flag| Wish { what, flag };
        Ok(Self {
            grpc: bind(wish("gRPC", flags.grpc), &server.host, server.port).await?,
            http: bind(wish("HTTP", flags.http), &server.host, server.http_port).await?,
            metrics: match metrics.enabled {
                true => {
                    Some(bind(wish("metrics", flags.metrics), &metrics.host, metrics.port).await?)
                }
                false => None,
            },
        })
    }

    fn addresses(&self) -> Result<Addresses, Failure> {
        Ok(Addresses {
            grpc: address(&self.grpc)?,
            http: address(&self.http)?,
            metrics: self.metrics.as_ref().map(address).transpose()?,
        })
    }
}

/// A coordinator that serves.
pub struct CoordinatorProcess {
    coordinator: Coordinator<CoordinatorAdapters>,
    spawner: TokioSpawn,
    addresses: Addresses,
    shutdown: watch::Sender<bool>,
    fronts: JoinSet<Result<(), String>>,
}

impl CoordinatorProcess {
    /// Starts it on the stores and serves on the listeners.
    pub async fn start(
        stores: &Stores,
        config: &Config,
        listeners: CoordinatorListeners,
    ) -> Result<Self, Failure> {
        let addresses = listeners.addresses()?;
        let collected = match &listeners.metrics {
            Some(_) => Some(collect_metrics()?),
            None => None,
        };
        let tls = ServerTls::open(&config.tls)?;
        let spawner = TokioSpawn::new();
        let budget = config.server.budget();
        let world = world(stores, config, &spawner, budget.clone())?;
        let coordinator =
            Coordinator::new(world, &config.server.node_id, config.coordinator.clone());
        coordinator.start().await.map_err(|error| {
            let cause = format!("the coordinator can't start: {error}");
            Failure::new(Exit::Unavailable, "METADATA_STORE", cause)
        })?;

        let gate = Gate::new(&config.auth, &config.limits, &coordinator, budget.clone())
            .map_err(|problem| Failure::usage(format!("auth: {problem}")))?;
        warn_of_open_doors(config, &gate, addresses);

        let (shutdown, stopping) = watch::channel(false);
        let mut fronts = Fronts {
            coordinator: coordinator.clone(),
            config,
            tls,
            stopping,
            tasks: JoinSet::new(),
        };
        fronts.serve_clients(listeners.grpc, listeners.http, gate);
        if let (Some(listener), Some(collected)) = (listeners.metrics, collected) {
            fronts.serve_metrics(listener, collected, budget);
        }
        Ok(Self {
            coordinator,
            spawner,
            addresses,
            shutdown,
            fronts: fronts.tasks,
        })
    }

    /// What changes the cluster.
    pub fn admin(&self) -> &Admin<CoordinatorAdapters> {
        self.coordinator.admin()
    }

    /// Where it can be reached.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Waits until it is ready and every storage node answers, at most for `patience`. Returns whether they do.
    pub async fn settled(&self, patience: Duration) -> bool {
        let give_up = Instant::now() + patience;
        loop {
            let readiness = self.coordinator.readiness();
            if readiness.ready && readiness.nodes_healthy == readiness.nodes {
                return true;
            }
            if Instant::now() >= give_up {
                return false;
            }
            sleep(READINESS_POLL).await;
        }
    }

    /// Completes when a front fails, which none should.
    pub async fn failed(&mut self) -> Failure {
        match self.fronts.join_next().await {
            Some(Ok(Err(cause))) => Failure::local(format!("a server failed: {cause}")),
            Some(Err(error)) => Failure::local(format!("a server failed: {error}")),
            Some(Ok(Ok(()))) => Failure::local("a server ended unasked"),
            None => std::future::pending().await,
        }
    }

    /// Not ready from now on; finishes what is at work, background repairs included. Clients that keep their
    /// connections open have them closed once nothing is at work any more.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.coordinator.stop();
        self.shutdown.send_replace(true);
        let mut result = Ok(());
        let mut drained = pin!(drained(self.coordinator.clone()));
        loop {
            let ended = tokio::select! {
                ended = self.fronts.join_next() => ended,
                () = &mut drained => {
                    tracing::info!("closing connections that clients keep open");
                    self.fronts.shutdown().await;
                    None
                }
            };
            let cause = match ended {
                None => break,
                Some(Ok(Ok(()))) => continue,
                Some(Ok(Err(cause))) => cause,
                Some(Err(error)) => error.to_string(),
            };
            let failure = format!("the coordinator did not stop cleanly: {cause}");
            result = Err(Failure::local(failure));
        }
        self.spawner.idle().await;
        result
    }
}

/// What the coordinator sees of the outside.
fn world(
    stores: &Stores,
    config: &Config,
    spawner: &TokioSpawn,
    budget: Budget,
) -> Result<CoordinatorAdapters, Failure> {
    let tls = ClusterTls::open(&config.cluster_tls, &config.tls)?.map(|tls| tls.client);
    let clock = TokioClock::new();
    Ok(CoordinatorAdapters {
        clock,
        random: ThreadRandom,
        spawner: spawner.clone(),
        transport: GrpcTransport::with(clock, config.transport.clone(), tls, budget),
        metadata: stores.metadata.clone(),
        idempotency: stores.idempotency.clone(),
    })
}

/// The front doors, as they open.
struct Fronts<'c> {
    coordinator: Coordinator<CoordinatorAdapters>,
    config: &'c Config,
    tls: Option<ServerTls>,
    stopping: watch::Receiver<bool>,
    tasks: JoinSet<Result<(), String>>,
}

impl Fronts<'_> {
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.clone();
        async move { drop(stopping.wait_for(|stop| *stop).await) }
    }

    fn serve_clients(&mut self, grpc: TcpListener, http: TcpListener, gate: Gate) {
        let grpc = serve_grpc(
            self.coordinator.clone(),
            gate.clone(),
            Listener::new(grpc, self.tls.clone()),
            self.config.grpc.clone(),
            self.stopped(),
        );
        self.tasks.spawn(grpc.map(Ok));
        let http = serve_http(
            self.coordinator.clone(),
            gate,
            Listener::new(http, self.tls.clone()),
            self.config.http.clone(),
            self.stopped(),
        );
        self.tasks
            .spawn(http.map(|ended| ended.map_err(|error| format!("HTTP: {error}"))));
    }

    fn serve_metrics(
        &mut self,
        listener: TcpListener,
        collected: PrometheusHandle,
        budget: Budget,
    ) {
        let tls = self.tls.clone().filter(|_| self.config.tls.metrics);
        let sampled = self.coordinator.clone();
        let sample = move || sample_coordinator(&sampled);
        let listener = Listener::new(listener, tls);
        let metrics = serve_metrics(listener, collected, budget, sample, self.stopped());
        self.tasks.spawn(metrics.map(Ok));
    }
}

/// Says so when others than this machine's processes can do everything, or nobody can do anything.
fn warn_of_open_doors(config: &Config, gate: &Gate, addresses: Addresses) {
    let is_local = [addresses.grpc, addresses.http]
        .iter()
        .all(|address| address.ip().is_loopback());
    let tls = &config.tls;
    if !gate.needs_tokens() && !is_local && tls.client_ca_file.is_empty() {
        tracing::warn!(
            grpc = %addresses.grpc,
            "whoever reaches the coordinator may do everything: set auth.mode = \"required\" (PAIRDB_AUTH__MODE=required)"
        );
    }
    if gate.needs_tokens() && !is_local && !tls.is_on() {
        tracing::warn!(
            "tokens travel in the clear: set tls.cert_file and tls.key_file, or let clients in through something that speaks TLS"
        );
    }
    if gate.needs_tokens() && !config.auth.has_root() {
        tracing::warn!(
            "no administrator can be told: set auth.admin_key, auth.jwt_secret or auth.jwt_jwks_file"
        );
    }
}

/// Completes when no request has been at work for a while.
async fn drained<W: CoordinatorWorld>(coordinator: Coordinator<W>) {
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < GOODBYE {
        sleep(READINESS_POLL).await;
        if coordinator.readiness().in_flight > 0 {
            idle_since = Instant::now();
        }
    }
}
