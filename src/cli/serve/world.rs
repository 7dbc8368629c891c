//! The world of a coordinator in production: which adapter stands behind each port.

use super::stores::{ChosenIdempotency, ChosenMetadata};
use crate::adapters::grpc::GrpcTransport;
use crate::adapters::tokio::{ThreadRandom, TokioClock, TokioSpawn};
use crate::ports::CoordinatorWorld;

/// What a coordinator touches.
#[derive(Clone)]
pub struct CoordinatorAdapters {
    pub(super) clock: TokioClock,
    pub(super) random: ThreadRandom,
    pub(super) spawner: TokioSpawn,
    pub(super) transport: GrpcTransport<TokioClock>,
    pub(super) metadata: ChosenMetadata,
    pub(super) idempotency: ChosenIdempotency,
}

impl CoordinatorWorld for CoordinatorAdapters {
    type Clock = TokioClock;
    type Random = ThreadRandom;
    type Spawn = TokioSpawn;
    type Transport = GrpcTransport<TokioClock>;
    type Metadata = ChosenMetadata;
    type Idempotency = ChosenIdempotency;

    fn clock(&self) -> &TokioClock {
        &self.clock
    }
    fn random(&self) -> &ThreadRandom {
        &self.random
    }
    fn spawner(&self) -> &TokioSpawn {
        &self.spawner
    }
    fn transport(&self) -> &GrpcTransport<TokioClock> {
        &self.transport
    }
    fn metadata(&self) -> &ChosenMetadata {
        &self.metadata
    }
    fn idempotency(&self) -> &ChosenIdempotency {
        &self.idempotency
    }
}
