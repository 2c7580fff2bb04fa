//! Panics when a ticket, a code or key material reaches a log or an event of a test in this process.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::auth::without_tickets;

/// Bytes in a row, written as numbers, from which on they may be a secret.
const BYTES_MIN: usize = 16;

/// From now on, all that is logged in this process is looked at, whatever its level.
pub(crate) fn watch_logs() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // If another subscriber is there already, a test looks at its output.
        let _ = tracing::subscriber::set_global_default(Registry::default().with(Watcher));
    });
}

/// Panics if `text` holds a secret.
#[track_caller]
pub(crate) fn assert_no_secret(text: &str) {
    assert!(matches!(without_tickets(text), Cow::Borrowed(_)), "a ticket or a code is shown: {text}");
    let is_byte = |word: &str| word.trim().parse::<u8>().is_ok();
    let mut in_a_row = 0;
    for word in text.split([',', '[', ']']) {
        in_a_row = if is_byte(word) { in_a_row + 1 } else { 0 };
        assert!(in_a_row < BYTES_MIN, "raw bytes are shown: {text}");
    }
}

struct Watcher;

impl<S: Subscriber> Layer<S> for Watcher {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // It shows tokens of its own connections, such as those that reset them, and has none of towline's secrets.
        if event.metadata().target().starts_with("quinn") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        assert_no_secret(&fields.0);
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        assert_no_secret(&fields.0);
    }
}

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::auth::{Code, Fingerprint, Secret, Ticket};
    use crate::testing::ticket::TICKET;

    fn is_secret(text: &str) -> bool {
        let text = text.to_owned();
        catch_unwind(move || assert_no_secret(&text)).is_err()
    }

    #[test]
    fn attack_8_secrets_are_noticed_and_nothing_else() {
        let ticket: Ticket = TICKET.parse().unwrap();
        let code = Code::generate(2);
        for secret in [
            format!("dialling {TICKET}"),
            format!("typed {}", code.reveal()),
            format!("{:?}", [7_u8; BYTES_MIN]),
            format!("proof={:?}", Secret::from_bytes([9; 16]).proof(&[1; 32])),
        ] {
            assert!(is_secret(&secret), "{secret}");
        }
        for public in [
            format!("{ticket:?}"),
            format!("{code:?}"),
            format!("{}", Fingerprint::from_bytes([7; 32])),
            "let in from 192.0.2.7:4750, [1, 2, 3]".to_owned(),
        ] {
            assert!(!is_secret(&public), "{public}");
        }
    }

    #[test]
    fn attack_8_a_ticket_in_a_log_panics_at_any_level() {
        let subscriber = Registry::default().with(Watcher);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(size = 7, "nothing");
            assert!(catch_unwind(|| tracing::trace!(ticket = TICKET, "dialling")).is_err());
            assert!(catch_unwind(|| tracing::error!("dialling {TICKET}")).is_err());
        });
    }
}
