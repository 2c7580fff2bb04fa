//! The question whether to receive, before the disk is touched.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::engine::receiver::Receiver;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::message::Message;
use crate::session::consent::{Answer, Consent, Offered};
use crate::session::outbox::Outbox;

/// Names in the question.
const NAMES_MAX: usize = 10;
/// How long the manifest may take until the question is asked about what has come.
const MANIFEST_TIME_MAX: Duration = Duration::from_secs(1);
/// Between two heart-beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A question that is not answered yet.
pub(super) struct OpenQuestion {
    consent: Arc<dyn Consent>,
    since: Instant,
    told_at: Option<Instant>,
    answer: Option<Answer>,
}

impl OpenQuestion {
    pub(super) fn new(consent: Arc<dyn Consent>) -> Self {
        Self { consent, since: Instant::now(), told_at: None, answer: None }
    }

    /// Asks once it is known what `machine` is offered, and tells the sender now and then.
    pub(super) fn look(&mut self, machine: &Receiver, control: &Outbox) {
        if self.told_at.is_none_or(|at| at.elapsed() >= BEAT_EVERY) {
            self.told_at = Some(Instant::now());
            control.beat(&[Message::Heartbeat(Activity::Asking)]);
        }
        let is_full = machine.is_walked() || !machine.takes_entries();
        if self.answer.is_none() && (is_full || self.since.elapsed() >= MANIFEST_TIME_MAX) {
            self.answer = Some(self.consent.ask(offered(machine)));
        }
    }

    async fn answer(&mut self) -> bool {
        match &mut self.answer {
            Some(answer) => answer.await,
            None => std::future::pending().await,
        }
    }
}

/// The answer to `question`; never, if there is none.
pub(super) async fn answer(question: Option<&mut OpenQuestion>) -> bool {
    match question {
        Some(question) => question.answer().await,
        None => std::future::pending().await,
    }
}

/// The person said no.
pub(super) fn declined() -> Failure {
    Failure::on(Side::Receiver, Reason::Refused, "declined; nothing was received")
        .telling("the person there declined, so nothing was sent")
}

fn offered(machine: &Receiver) -> Offered {
    let (names, more_names) = machine.top_names(NAMES_MAX);
    let totals = machine.totals();
    let is_all = machine.are_totals_final();
    Offered { names, more_names, files: totals.files, bytes: totals.bytes, is_all }
}
