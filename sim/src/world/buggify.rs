//! Which rare behaviour of the core a run makes common, spelled out, so that it can be shrunk and kept in a file.

use pairdb::buggify::Site;
use serde::{Deserialize, Serialize};

/// A site that is active in a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuggifyPlan {
    /// Which one, by its name in [`pairdb::buggify`].
    #[serde(with = "by_name")]
    pub site: Site,
    /// How many of a thousand times it fires.
    pub permille: u32,
}

mod by_name {
    use pairdb::buggify::Site;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(site: &Site, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(site.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Site, D::Error> {
        let name = String::deserialize(deserializer)?;
        let site = Site::ALL.iter().find(|site| site.name() == name);
        site.copied()
            .ok_or_else(|| D::Error::custom(format!("there is no site '{name}'")))
    }
}
