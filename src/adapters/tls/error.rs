//! A file that can't be used: which setting names it, why, and the way out.

use std::path::{Path, PathBuf};

/// A certificate, a key or an authority can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{setting}: {}: {problem}", file.display())]
pub struct TlsError {
    /// The key of the configuration or the flag that names the file.
    pub setting: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong. Nothing of the file's content.
    pub problem: String,
    /// What to do about it.
    pub way_out: &'static str,
}

impl TlsError {
    pub(super) fn new(
        setting: &'static str,
        file: &Path,
        problem: impl Into<String>,
        way_out: &'static str,
    ) -> Self {
        Self {
            setting,
            file: file.to_owned(),
            problem: problem.into(),
            way_out,
        }
    }
}
