//! The program that runs after a transfer, while the sender waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::program_end::ProgramEnd;
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::message::Message;
use crate::session::after::{AfterTransfer, Delivered, Running};
use crate::session::outbox::Outbox;

/// Between two heart-beats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A program that runs.
pub(super) struct RunningProgram {
    running: Running,
    told_at: Option<Instant>,
}

impl RunningProgram {
    pub(super) fn start(program: Arc<dyn AfterTransfer>, delivered: Delivered) -> Self {
        Self { running: program.run(delivered), told_at: None }
    }

    /// Tells the sender now and then.
    pub(super) fn beat(&mut self, control: &Outbox) {
        if self.told_at.is_none_or(|at| at.elapsed() >= BEAT_EVERY) {
            self.told_at = Some(Instant::now());
            control.beat(&[Message::Heartbeat(Activity::Program)]);
        }
    }
}

/// The end of `program`; never, if there is none.
pub(super) async fn ended(program: Option<&mut RunningProgram>) -> ProgramEnd {
    match program {
        Some(program) => program.running.as_mut().await,
        None => std::future::pending().await,
    }
}
