//! The fields of spans, as JSON that waits for a line of the log.
//!
//! Every request has a span and adds its tenant once its message was read, and hardly any writes a line. So each field
//! is written once, behind those that are there. tracing-subscriber's own [`JsonFields`] makes a map of them first, and
//! to add one it reads back all the others.
//!
//! What this is not: the form of a line. That is tracing-subscriber's, which reads the fields of the spans around it.
//!
//! Invariant: what is kept is a JSON object. A field that is recorded twice is in it twice; who reads it takes the
//! later one.
//!
//! [`JsonFields`]: tracing_subscriber::fmt::format::JsonFields

use std::fmt::{self, Debug, Write};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};

/// See the [module](self).
pub(super) struct SpanFields;

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        writer.write_char('{')?;
        let mut object = Object::behind(true, &mut writer);
        fields.record(&mut object);
        object.outcome?;
        writer.write_char('}')
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let written = &mut current.fields;
        if written.pop().is_none() {
            written.push('{');
        }
        let mut object = Object::behind(written.len() == 1, written);
        fields.record(&mut object);
        let outcome = object.outcome;
        written.push('}');
        outcome
    }
}

/// An object that is still open.
struct Object<'w, W> {
    writer: &'w mut W,
    is_empty: bool,
    outcome: fmt::Result,
}

impl<'w, W: Write> Object<'w, W> {
    const fn behind(is_empty: bool, writer: &'w mut W) -> Self {
        Self {
            writer,
            is_empty,
            outcome: Ok(()),
        }
    }

    /// Writes a field; `value` is JSON.
    fn field(&mut self, field: &Field, value: impl fmt::Display) {
        let name = field.name();
        let comma = if self.is_empty { "" } else { "," };
        self.is_empty = false;
        let written = write!(self.writer, "{comma}\"{name}\":{value}");
        self.outcome = self.outcome.and(written);
    }

    fn text(&mut self, field: &Field, text: &str) {
        match serde_json::to_string(text) {
            Ok(quoted) => self.field(field, quoted),
            Err(_) => self.outcome = Err(fmt::Error),
        }
    }
}

impl<W: Write> Visit for Object<'_, W> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::field::Empty;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn write_lines() {
        let bare = tracing::info_span!("bare", later = Empty);
        let request = tracing::info_span!(
            "request",
            name = "quoted \" \\ \n \u{1} ü",
            number = -7,
            length = 7_u64,
            share = 0.25,
            nothing = f64::NAN,
            is_so = true,
            shown = %"as \"is\"",
            debugged = ?Some("x"),
            tenant = Empty,
            id = Empty,
        );
        let _request = request.enter();
        tracing::info!("before");
        request.record("tenant", "a \"tenant\"");
        request.record("id", tracing::field::display(77));
        request.record("number", 8);
        tracing::info!(field = 1, "after");
        let _bare = bare.enter();
        tracing::info!("bare");
        bare.record("later", "now");
        tracing::info!("no longer bare");
    }

    #[test]
    fn lines_are_those_of_json_fields() {
        let (ours, theirs) = (Log::default(), Log::default());
        let (to_ours, to_theirs) = (ours.clone(), theirs.clone());
        let own = layer().json().without_time().fmt_fields(SpanFields);
        let own = own.with_writer(move || to_ours.clone());
        let json = layer().json().without_time();
        let json = json.with_writer(move || to_theirs.clone());
        let subscriber = tracing_subscriber::registry().with(own).with(json);
        tracing::subscriber::with_default(subscriber, write_lines);
        assert_eq!(ours.text(), theirs.text());
        assert_eq!(ours.text().lines().count(), 4);
        assert!(ours.text().contains(r#""tenant":"a \"tenant\"""#));
    }
}
