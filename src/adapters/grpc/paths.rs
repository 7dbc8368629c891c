//! The paths of a storage node's requests that are told apart before they are decoded.

/// Probes.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/";
/// The stream of coordinators.
pub(super) const EXCHANGE: &str = "/pairdb.v1.StorageService/Exchange";
