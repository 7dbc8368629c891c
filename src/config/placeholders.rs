//! Secrets that are none: what examples have in the place of one, and what anybody would try first.

/// What examples and templates write where a secret belongs, in lower case and without what joins words.
const PLACEHOLDERS: &[&str] = &[
    "changeme",
    "changeit",
    "changethis",
    "replaceme",
    "replacethis",
    "replacewith",
    "placeholder",
    "yoursecret",
    "yourkey",
    "yourtoken",
    "yourpassword",
    "insertsecret",
    "inserthere",
    "secrethere",
    "keyhere",
    "examplekey",
    "examplesecret",
    "notasecret",
    "fillmein",
];

/// A random secret of the least length has more different bytes, except once in far more than a lifetime.
const DIFFERENT_BYTES_MIN: usize = 8;

/// What is wrong with a secret that everybody knows or can guess, if that is so.
pub(super) fn doubt(secret: &str) -> Option<&'static str> {
    if secret.is_empty() {
        return None;
    }
    if is_placeholder(secret) {
        return Some(
            "is the placeholder of an example, which everybody knows; put a secret of your own there, such as \
             `openssl rand -hex 32` makes",
        );
    }
    let mut bytes: Vec<u8> = secret.bytes().collect();
    bytes.sort_unstable();
    bytes.dedup();
    (bytes.len() < DIFFERENT_BYTES_MIN).then_some(
        "repeats a few characters, so it can be guessed; put a random secret there, such as `openssl rand -hex 32` makes",
    )
}

/// Whether it is what an example has in the place of a secret.
pub(super) fn is_placeholder(secret: &str) -> bool {
    let words: String = secret
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_bracketed = secret.starts_with('<') && secret.ends_with('>')
        || secret.starts_with("${") && secret.ends_with('}');
    is_bracketed || words == "todo" || PLACEHOLDERS.iter().any(|known| words.contains(known))
}

/// The password in a URL, where it has one.
pub(super) fn password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    let in_front = rest
        .rsplit_once('@')
        .and_then(|(user, _)| user.split_once(':'))
        .map(|(_, password)| password);
    let of_query = || {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(name, _)| *name == "password")
            .map(|(_, value)| value)
    };
    in_front.or_else(of_query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_known_however_they_are_written() {
        for secret in [
            "change-me-to-32-random-bytes-or-more",
            "CHANGE_ME_CHANGE_ME_CHANGE_ME_CHANGE",
            "ChangeMe",
            "<the administrator's key goes here>",
            "${PAIRDB_ADMIN_KEY_FROM_THE_VAULT}",
            "your-secret-key-of-at-least-32-bytes",
            "placeholder-placeholder-placeholder",
        ] {
            assert!(doubt(secret).unwrap().contains("placeholder"), "{secret}");
        }
        for secret in [
            "a".repeat(32),
            "0123".repeat(8),
            "xyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxyxy".into(),
        ] {
            assert!(doubt(&secret).unwrap().contains("guessed"), "{secret}");
        }
        for secret in [
            "",
            "8f0f6f0d5a3c4e0b9b6a5d1c7e2f4a6b8c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f",
            "correct horse battery staple, but longer",
        ] {
            assert_eq!(doubt(secret), None, "{secret}");
        }
    }

    #[test]
    fn a_url_has_a_password_or_none() {
        for (url, found) in [
            (
                "postgres://pairdb:change-me@postgres/pairdb",
                Some("change-me"),
            ),
            ("redis://:change-me@redis:6379/0", Some("change-me")),
            (
                "postgres://h/d?user=u&password=change-me",
                Some("change-me"),
            ),
            ("redis://redis:6379/0", None),
            ("postgres://change-me@h/d", None),
            ("sqlite:change-me:@x", None),
        ] {
            assert_eq!(password(url), found, "{url}");
        }
    }
}
