//! Command lines for people to paste. Whatever is in a key, they mean in a shell what they say.

/// `pairdb` with these words, quoted where a shell would make something else of them.
pub fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words = std::iter::once("pairdb").chain(words);
    // Only a NUL can't be quoted, and what is given here has none: see `word`.
    shlex::try_join(words).unwrap_or_default()
}

/// What was given, or `instead` of it when it has control characters, which can hide on a terminal what a line does.
pub fn word<'a>(given: &'a str, instead: &'a str) -> &'a str {
    match given.chars().any(char::is_control) {
        true => instead,
        false => given,
    }
}

/// As it may be shown to people: control characters, which could move the cursor or worse, are escaped. Lines stay
/// lines.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => shown.push(letter),
            letter if letter.is_control() => shown.extend(letter.escape_debug()),
            letter => shown.push(letter),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_makes_of_a_line_the_words_it_was_made_of() {
        let words = [
            "plain",
            "a key",
            "x; touch /tmp/ran",
            "$(touch /tmp/ran)",
            "`id`",
            "it's",
            "\"quoted\"",
            "a\\b",
            "*",
            "~",
            "#",
            "-n",
            "",
            "ключ",
        ];
        let line = command(words);
        let script = format!("pairdb() {{ for word; do printf '%s\\n' \"$word\"; done; }}; {line}");
        let shell = Command::new("sh").arg("-c").arg(script).output().unwrap();
        let said = String::from_utf8(shell.stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), words, "{line}");
    }

    #[test]
    fn what_moves_the_cursor_is_shown_and_not_done() {
        assert_eq!(word("a\u{1b}[2Kb", "KEY"), "KEY");
        assert_eq!(word("a b", "KEY"), "a b");
        assert_eq!(visible("a\u{1b}[2K\rb\nc"), "a\\u{1b}[2K\\rb\nc");
    }
}
