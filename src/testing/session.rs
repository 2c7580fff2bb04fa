//! What a session needs of its host, for tests that run whole sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::event::{Report, Reporter};
use crate::protocol::engine::patience::Patience;
use crate::protocol::request::Request;
use crate::session::schedule::Schedule;
use crate::session::{Compression, Context, Lease, ProcessorUse, Throttle};

/// Nobody who is told.
pub(crate) struct Nobody;

impl Reporter for Nobody {
    fn take(&self, _: Report) {}
}

/// A session with `memory` that nothing limits and nobody stops.
pub(crate) fn context(memory: Lease) -> Context {
    let (stop, stopped) = watch::channel(None);
    // Nobody asks it to stop.
    std::mem::forget(stop);
    Context {
        memory,
        patience: Patience { timeout: Duration::from_secs(30), disk_timeout: Duration::from_secs(600) },
        throttle: Arc::new(Throttle::new(Schedule::default(), || Duration::ZERO)),
        processor_use: Arc::new(ProcessorUse::default),
        delta: false,
        compression: Compression::Off,
        synced: true,
        atomic: false,
        verify_disk: false,
        piped: false,
        receipt: false,
        request: Request::default(),
        consent: None,
        program: None,
        identity: None,
        reporter: Arc::new(Nobody),
        stop: stopped,
    }
}
