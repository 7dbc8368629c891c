//! The names of a form's members, which serde knows.

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// What `T` can have.
pub(super) fn members<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It fails, once it has said which members it looks for.
    let _asked = T::deserialize(Asked(&mut names));
    names
}

struct Asked<'n>(&'n mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("only asked"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("no struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The member that was given twice, if that is the problem.
pub(super) fn twice(problem: &str) -> Option<&str> {
    let (_, rest) = problem.split_once("duplicate field `")?;
    rest.split_once('`').map(|(member, _)| member)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    struct Form {
        #[serde(rename = "a")]
        _a: Option<u8>,
        #[serde(default, rename = "b")]
        _b: String,
    }

    #[test]
    fn a_form_tells_its_members() {
        assert_eq!(members::<Form>(), ["a", "b"]);
        assert_eq!(members::<String>(), [""; 0]);
        let problem = serde_json::from_str::<Form>(r#"{"a":1,"b":"","a":2}"#).unwrap_err();
        assert_eq!(twice(&problem.to_string()), Some("a"));
        assert_eq!(twice("expected value"), None);
    }
}
