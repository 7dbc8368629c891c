//! A collector of traces: the real protocol, and a list of what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Takes traces at its address until the test ends.
pub struct Collector {
    pub address: SocketAddr,
    spans: Spans,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter();
        let spans = scopes
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Self { address, spans }
    }

    /// Waits until what has come is enough.
    pub async fn until(&self, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let give_up = Instant::now() + crate::kit::PATIENCE;
        loop {
            let spans = self.spans.0.lock().unwrap().clone();
            if enough(&spans) {
                return spans;
            }
            assert!(Instant::now() < give_up, "only these came: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
