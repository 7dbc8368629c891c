//! What the engine's errors mean.

use std::io;
use std::path::{Path, PathBuf};

use crate::ports::StorageError;

/// Why the engine did not open.
#[derive(Debug, thiserror::Error)]
pub enum FjallOpenError {
    /// Another process has it open.
    #[error("the data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It can't be read or written.
    #[error("the data directory {} can't be opened: {cause}", path.display())]
    Failed {
        /// The directory.
        path: PathBuf,
        /// The engine's or the system's own words.
        cause: String,
    },
}

impl FjallOpenError {
    pub(super) fn failed(path: &Path, cause: &dyn std::fmt::Display) -> Self {
        Self::Failed {
            path: path.into(),
            cause: cause.to_string(),
        }
    }

    pub(super) fn from_engine(path: &Path, error: &fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::InUse { path: path.into() },
            other => Self::failed(path, &describe(other)),
        }
    }
}

/// A failure of the engine while it ran. A full disk that the engine itself ran into is a failure too: it may have
/// written the entry or not, and takes no more.
pub(super) fn failed(error: &fjall::Error) -> StorageError {
    StorageError::Failed(describe(error))
}

fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Poisoned => {
            "it stopped after an earlier failure; see the log, then restart".into()
        }
        fjall::Error::Io(error) => describe_io(error),
        fjall::Error::Storage(fjall::LsmError::Io(error)) => describe_io(error),
        other => format!("{other:?}"),
    }
}

fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full ({error}); make room, then restart")
        }
        _ => error.to_string(),
    }
}
