//! Why a request was not let in, and what its sender is told.

use tonic::Status;

use super::super::errors::{status, status_to_retry, to_status};
use super::super::limits::Exceeded;
use crate::coordinator::CoordinatorError;
use crate::ports::StoreError;
use crate::proto::v1::ErrorCode;

/// A request was not let in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Who asks is not known: there is no token, or none that is valid. 401, with `WWW-Authenticate: Bearer`.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// Who asks is known, and may not do this. 403.
    #[error("{0}")]
    Forbidden(String),
    /// Its tenant asks for more than it may. 429.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// The store that knows the token is down. 503.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    /// The stable code.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized(_) => ErrorCode::Unauthorized,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::Exceeded(_) => ErrorCode::RateLimitExceeded,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }

    /// What a gRPC client is told.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Self::Unauthorized(_) | Self::Forbidden(_) => {
                status(self.error_code(), self.to_string())
            }
            Self::Exceeded(exceeded) => {
                let message = self.to_string();
                let mut status = status_to_retry(self.error_code(), message, exceeded.retry_after);
                exceeded.standing.write(status.metadata_mut());
                status
            }
            Self::Store(error) => to_status(&CoordinatorError::Store(error.clone()), ""),
        }
    }
}
