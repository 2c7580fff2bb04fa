//! The time that a person at the receiver takes to answer, and a program to run, which is not time of the transfer.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Event, Reporter};
use crate::protocol::engine::bottleneck::Bottleneck;
use crate::protocol::wire::activity::Activity;
use crate::session::observe::bottleneck::BottleneckMeter;

/// Whether the receiver asks somebody, and when the transfer has begun in earnest.
pub(super) struct AwaitedAnswer {
    began: Instant,
    is_awaited: bool,
    /// Since when the receiver runs a program.
    program_at: Option<Instant>,
}

impl AwaitedAnswer {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, is_awaited: false, program_at: None }
    }

    /// The receiver says what it does. `meter` begins again after an answer.
    pub(super) fn hear(&mut self, activity: Activity, meter: &mut BottleneckMeter, reporter: &dyn Reporter) {
        let was_awaited = std::mem::replace(&mut self.is_awaited, activity == Activity::Asking);
        if activity == Activity::Program {
            self.program_at.get_or_insert_with(Instant::now);
        }
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
        match self {
            Self { is_awaited: true, .. } => "the other person's answer",
            Self { program_at: Some(_), .. } => "the program there",
            _ => bottleneck.as_str(),
        }
    }

    /// The time of the transfer, without that of the answer and of the program.
    pub(super) fn elapsed(&self) -> Duration {
        self.program_at.unwrap_or_else(Instant::now) - self.began
    }
}
