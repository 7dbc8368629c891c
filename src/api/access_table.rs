//! Who may do what, as a table for tests: for each way in, one line of callers for each answer that some of them get.

use std::fmt::Write;

/// The table, as it grows.
pub(super) struct AccessTable(String);

impl AccessTable {
    /// Without a way in.
    pub(super) fn new() -> Self {
        Self("own tenant/other tenant\n".to_owned())
    }

    /// Adds a way in: what each caller is answered, for each of the tenants it asks for.
    pub(super) fn way<'c>(
        &mut self,
        name: &str,
        answers: impl IntoIterator<Item = (&'c str, Vec<&'static str>)>,
    ) {
        let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
        for (caller, verdicts) in answers {
            let verdicts = verdicts.join("/");
            match lines.iter_mut().find(|(same, _)| *same == verdicts) {
                Some((_, callers)) => callers.push(caller),
                None => lines.push((verdicts, vec![caller])),
            }
        }
        let _ = writeln!(self.0, "{name}");
        for (verdicts, callers) in lines {
            let _ = writeln!(self.0, "    {verdicts:7}  {}", callers.join(" "));
        }
    }

    /// As text.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}
