//! What people are told of a change of owners that can't be.

use super::super::CoordinatorError;
use super::super::validate::invalid;
use crate::placement::RefusedChange;

/// What a refused change is to who asked for it.
pub(in crate::coordinator) fn refused(refusal: RefusedChange) -> CoordinatorError {
    match refusal {
        RefusedChange::Unknown(_) | RefusedChange::Invalid(_) => {
            invalid("node_id", refusal.to_string())
        }
        RefusedChange::Known(id) => CoordinatorError::NodeInUse(format!(
            "node {id} is part of the cluster already; its share and its zone can be set, and another node can take its \
             place"
        )),
        refusal => CoordinatorError::NodeInUse(refusal.to_string()),
    }
}
