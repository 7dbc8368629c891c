//! How much of what the core takes at a time, spelled out, so that it can be shrunk and kept in a file.

use pairdb::sizes::Size;
use serde::{Deserialize, Serialize};

/// A size that is not the usual one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizePlan {
    /// Which one, by its name in [`pairdb::sizes`].
    #[serde(with = "by_name")]
    pub size: Size,
    /// How much it is.
    pub is: usize,
}

mod by_name {
    use pairdb::sizes::Size;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(size: &Size, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(size.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Size, D::Error> {
        let name = String::deserialize(deserializer)?;
        let size = Size::ALL.iter().find(|size| size.name() == name);
        size.copied()
            .ok_or_else(|| D::Error::custom(format!("there is no size '{name}'")))
    }
}
