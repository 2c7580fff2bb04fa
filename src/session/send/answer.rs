//! The time that a person at the receiver takes to answer, which is not time of the transfer.

use tokio::time::Instant;

use crate::event::{Event, Reporter};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::wire::activity::Activity;
use crate::session::observe::bottleneck::BottleneckMeter;

/// Whether the receiver asks somebody, and when the transfer has begun in earnest.
pub(super) struct AwaitedAnswer {
    began: Instant,
    is_awaited: bool,
}

impl AwaitedAnswer {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, is_awaited: false }
    }

    /// The receiver says what it does. `meter` begins again after an answer.
    pub(super) fn hear(&mut self, activity: Activity, meter: &mut BottleneckMeter, reporter: &dyn Reporter) {
        let was_awaited = std::mem::replace(&mut self.is_awaited, activity == Activity::Asking);
        if was_awaited && !self.is_awaited {
            self.began = Instant::now();
            meter.begin_again();
        }
        if self.is_awaited && !was_awaited {
            reporter.report(Event::Asked);
        }
    }

    /// What the transfer waits for.
    pub(super) fn waiting_for(&self, bottleneck: Bottleneck) -> &'static str {
        if self.is_awaited { "the other person's answer" } else { bottleneck.as_str() }
    }

    /// The start of the transfer, without the time of the answer.
    pub(super) fn began(&self) -> Instant {
        self.began
    }
}
