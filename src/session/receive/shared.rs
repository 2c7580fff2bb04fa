//! What the streams and disk jobs of a receiver share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::protocol::engine::receiver::Receiver;
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::wire::activity::Activity;
use crate::session::clock::Clock;
use crate::session::observe::gauge::Gauge;
use crate::session::outbox::Outbox;
use crate::session::throttle::Throttle;
use crate::storage::StorageError;
use crate::storage::block::BlockPool;

/// What all streams and disk jobs of a receiver share.
pub(super) struct Receiving<T> {
    pub(super) machine: Mutex<Receiver>,
    /// The machine may have something to do, or room for more entries.
    pub(super) changed: Notify,
    pub(super) room: Notify,
    /// A record was written or cut.
    pub(super) released: Notify,
    pub(super) control_out: Outbox,
    pub(super) target: Arc<T>,
    pub(super) pool: BlockPool,
    pub(super) throttle: Arc<Throttle>,
    pub(super) clock: Clock,
    /// What the sender said of itself last.
    pub(super) peer_activity: Mutex<Activity>,
    /// Bytes of files that have come.
    pub(super) came_bytes: AtomicU64,
    /// Parcels that wait for the disk.
    pub(super) writing: Gauge,
    /// Waiting for bytes.
    pub(super) starving: Gauge,
}

impl<T> Receiving<T> {
    pub(super) fn machine(&self) -> MutexGuard<'_, Receiver> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the manifest may be read on. Of a sender that reads no answers nothing more is taken that has to be
    /// answered.
    pub(super) fn takes_entries(&self) -> bool {
        self.control_out.has_room() && self.machine().takes_entries()
    }

    /// What the sender said of itself last.
    pub(super) fn peer_activity(&self) -> MutexGuard<'_, Activity> {
        self.peer_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the machine and wakes the driver.
    pub(super) fn with_machine<R>(&self, change: impl FnOnce(&mut Receiver) -> R) -> R {
        let result = change(&mut self.machine());
        self.changed.notify_one();
        result
    }

    /// Something came from the sender.
    pub(super) fn heard(&self) {
        self.machine().heard(self.clock.now());
    }
}

/// The receiver's disk failed.
pub(super) fn storage_failure(error: &StorageError) -> Failure {
    error.failure(Side::Receiver, Reason::Storage)
}
