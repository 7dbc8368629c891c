//! What a request must look like before anything is done for it.

use std::sync::Arc;

use super::CoordinatorError;
use crate::ports::{RecordKey, TenantId};
use crate::version::{Context, ContextError};

/// Longest key in bytes.
pub(super) const KEY_BYTES_MAX: usize = RecordKey::KEY_BYTES_MAX;
/// Longest idempotency key in bytes.
pub(super) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Greatest replication factor.
pub(super) const REPLICATION_FACTOR_MAX: u8 = 10;

pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> CoordinatorError {
    CoordinatorError::InvalidRequest {
        field,
        problem: problem.into(),
    }
}

pub(super) fn tenant_id(name: &str) -> Result<TenantId, CoordinatorError> {
    TenantId::new(Arc::<str>::from(name)).map_err(|error| invalid("tenant_id", error.to_string()))
}

pub(super) fn key(key: &str) -> Result<(), CoordinatorError> {
    match key.len() {
        0 => Err(invalid("key", "is empty; it must have 1 to 1024 bytes")),
        1..=KEY_BYTES_MAX => Ok(()),
        len => Err(invalid(
            "key",
            format!("has {len} bytes; at most {KEY_BYTES_MAX} are allowed"),
        )),
    }
}

pub(super) fn value(len: usize, max: usize) -> Result<(), CoordinatorError> {
    if len <= max {
        Ok(())
    } else {
        Err(invalid(
            "value",
            format!("has {len} bytes; at most {max} are allowed"),
        ))
    }
}

pub(super) fn idempotency_key(key: &str) -> Result<(), CoordinatorError> {
    match key.len() {
        0 => Err(invalid(
            "idempotency_key",
            "is empty; leave it out or give 1 to 255 bytes",
        )),
        1..=IDEMPOTENCY_KEY_BYTES_MAX => Ok(()),
        len => Err(invalid(
            "idempotency_key",
            format!("has {len} bytes; at most {IDEMPOTENCY_KEY_BYTES_MAX} are allowed"),
        )),
    }
}

/// The client's context; empty bytes are an empty context.
pub(super) fn context(bytes: &[u8], binding: u64) -> Result<Context, CoordinatorError> {
    if bytes.is_empty() {
        return Ok(Context::default());
    }
    Context::decode(bytes, binding).map_err(|error: ContextError| {
        invalid(
            "context",
            format!("{error}; give back the bytes of an earlier answer for this tenant and key"),
        )
    })
}

pub(super) fn replication_factor(factor: u32) -> Result<u8, CoordinatorError> {
    match u8::try_from(factor) {
        Ok(factor @ 1..=REPLICATION_FACTOR_MAX) => Ok(factor),
        _ => Err(CoordinatorError::InvalidReplicationFactor(format!(
            "{factor} is not possible; it must be 1 to {REPLICATION_FACTOR_MAX}"
        ))),
    }
}

/// `factor` replicas need as many nodes; while there are none at all, anything may be planned.
pub(super) fn replicas(factor: u8, nodes: usize) -> Result<u8, CoordinatorError> {
    if nodes == 0 || usize::from(factor) <= nodes {
        return Ok(factor);
    }
    let there_are = match nodes {
        1 => "there is one".to_owned(),
        nodes => format!("there are {nodes}"),
    };
    Err(CoordinatorError::InvalidReplicationFactor(format!(
        "{factor} replicas need as many storage nodes, and {there_are}; add nodes first, or ask for at most {nodes}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_need_nodes() {
        assert_eq!(replicas(3, 3), Ok(3));
        assert_eq!(replicas(10, 0), Ok(10), "planned");
        let error = replicas(10, 3).unwrap_err().to_string();
        assert!(
            error.contains("there are 3") && error.contains("at most 3"),
            "{error}"
        );
    }

    #[test]
    fn limits_name_the_field_and_the_bound() {
        assert!(key(&"k".repeat(1024)).is_ok());
        assert_eq!(
            key(&"k".repeat(1025)).unwrap_err().to_string(),
            "key: has 1025 bytes; at most 1024 are allowed"
        );
        assert!(
            key("")
                .unwrap_err()
                .to_string()
                .starts_with("key: is empty")
        );
        assert!(value(0, 10).is_ok());
        assert!(
            value(11, 10)
                .unwrap_err()
                .to_string()
                .contains("at most 10")
        );
        assert!(idempotency_key("").is_err());
        assert!(tenant_id("a:b").unwrap_err().to_string().contains("':'"));
        assert!(replication_factor(0).is_err());
        assert!(replication_factor(11).is_err());
        assert_eq!(replication_factor(10), Ok(10));
    }

    #[test]
    fn a_context_must_be_one_we_gave_out_for_this_key() {
        assert_eq!(context(b"", 7), Ok(Context::default()));
        assert!(
            context(b"nonsense", 7)
                .unwrap_err()
                .to_string()
                .starts_with("context: ")
        );
        let ours = Context::default().encode(7);
        assert!(context(&ours, 7).is_ok());
        assert!(context(&ours, 8).is_err());
    }
}
