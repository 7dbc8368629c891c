//! How far the numbers of a command line may go. What is beyond is refused by the parser, with the range.

use std::time::Duration;

const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(24 * 3600);

/// A clap parser for how long something may take.
pub fn patience(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("not a duration, such as 500ms or 10s: {error}"))?;
    match (LEAST..=MOST).contains(&duration) {
        true => Ok(duration),
        false => Err(format!(
            "{} is not between {} and {}",
            humantime::format_duration(duration),
            humantime::format_duration(LEAST),
            humantime::format_duration(MOST)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_neither_none_nor_endless() {
        assert_eq!(patience("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(
            patience("0s").unwrap_err(),
            "0s is not between 1ms and 1day"
        );
        assert!(patience("100years").unwrap_err().contains("is not between"));
        assert!(patience("5").unwrap_err().starts_with("not a duration"));
    }
}
