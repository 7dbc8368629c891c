//! Standard output and standard error: text for people, one JSON object for scripts, never both.
//!
//! Colours only on a terminal. A closed pipe (`pairdb get key | head -c 10`) is no failure.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::exit::Failure;
use super::shell::visible;

/// For what the eye should find first.
pub const STRONG: Style = Style::new().bold();
/// For what worked.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// For what did not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what is only context.
pub const FAINT: Style = Style::new().dimmed();

/// `text` in `style`; the style disappears where the output is not a terminal.
pub fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes one line to standard output.
pub fn line(text: &str) -> Result<(), Failure> {
    written(writeln!(anstream::stdout(), "{text}"))
}

/// Writes one JSON object as one line to standard output.
pub fn json(value: &Value) -> Result<(), Failure> {
    written(writeln!(io::stdout().lock(), "{value}"))
}

/// Writes bytes as they are to standard output; on a terminal the prompt then starts on a new line.
pub fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let newline = out.is_terminal() && !bytes.ends_with(b"\n");
    let result = out
        .write_all(bytes)
        .and_then(|()| {
            if newline {
                out.write_all(b"\n")
            } else {
                Ok(())
            }
        })
        .and_then(|()| out.flush());
    written(result)
}

/// Writes one line to standard error. That it can't be written is nobody's failure.
pub fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// A line of standard error that says what is going on, on a terminal only. It goes when it is dropped.
pub fn progress(template: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Writes a failure to standard error: cause and way out.
pub fn failure(failure: &Failure, as_json: bool) {
    if as_json {
        note(&failure.to_json().to_string());
        return;
    }
    // Names and keys in it are others', too.
    let message = visible(&failure.message);
    note(&format!("{} {message}", styled(BAD, "error:")));
    if let Some(hint) = failure.hint.as_deref().map(visible) {
        note(&format!("{} {hint}", styled(STRONG, "hint:")));
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::local(format!(
            "can't write to standard output: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}
