//! A text that must not be shown.

use serde::{Deserialize, Serialize};

/// A text that must not be shown: its `Debug` doesn't. It is serialized as it is, since settings are made from text, so
/// whoever prints settings masks it first.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What can be shown: whether there is one.
    #[must_use]
    pub fn masked(&self) -> Self {
        match self.is_empty() {
            true => Self::default(),
            false => Self("***".into()),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked().0)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?} {:?}", secret.masked()), "*** ***");
        assert_eq!(Secret::default().masked(), Secret::default());
    }
}
