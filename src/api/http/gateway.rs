//! What the routes are served from.

use std::sync::Arc;

use super::settings::HttpSettings;
use crate::api::gate::Gate;
use crate::coordinator::Readiness;
use crate::proto::v1::coordinator_service_server::CoordinatorService;

/// What the routes are served from.
pub(super) struct Gateway {
    pub(super) service: Box<dyn CoordinatorService>,
    pub(super) readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    pub(super) gate: Gate,
    pub(super) settings: HttpSettings,
}

pub(super) type Shared = Arc<Gateway>;
