//! The front: the wire contract of `proto/pairdb/v1/coordinator.proto` over a coordinator.
//!
//! What it is: decoding, encoding, the mapping of errors, who may do what, deadlines, and the listeners with their
//! bounds. What it is not: it decides nothing about replication and checks nothing that the coordinator checks.
//!
//! Invariants:
//! - a failure is a status with an error code in its details, never `success = false`;
//! - no message to a client holds internals, whatever failed;
//! - a panic fails its own request and nothing else;
//! - a write that has been begun goes on when its client hangs up: half a write is worse than a whole one.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the front lives on the runtime, like the adapters"
)]

mod auth;
mod bad_message;
mod changes;
mod convergence;
mod convert;
mod coordinator_service;
mod deadline;
mod error_table;
mod errors;
mod gate;
mod guard;
mod health;
mod http;
mod intake;
mod keys;
mod legacy_path;
mod limits;
mod methods;
mod observe;
mod reflection;
mod request_name;
mod right;
mod rights;
mod server;
mod verify;

use crate::adapters::log_pace;

pub use auth::{AuthMode, AuthSettings, Refused, Right, Secret};
pub use error_table::{
    EXITS, ErrorRow, Exit, Fault, INDETERMINATE_HINT, Outcome, StatusRow, error_row, status_row,
};
pub use errors::{error_code, to_status};
pub use gate::Gate;
pub use http::{HttpSettings, only_own_names, serve_http, serve_routes};
pub use limits::{Allowance, LimitSettings, TenantLimits};
pub use server::{FrontSettings, serve_grpc};

#[cfg(test)]
mod access_table;
#[cfg(test)]
mod api_test;
#[cfg(test)]
mod bounds_test;
#[cfg(test)]
mod standard_services_test;
#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod tls_test;
