//! State shared by the streams and disk jobs of a receiver.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::protocol::engine::log::IncomingLog;
use crate::protocol::engine::receiver::Receiver;
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::wire::activity::Activity;
use crate::protocol::wire::message::Received;
use crate::session::clock::Clock;
use crate::session::compression::Unpacker;
use crate::session::observe::gauge::Gauge;
use crate::session::outbox::Outbox;
use crate::session::throttle::Throttle;
use crate::storage::StorageError;
use crate::storage::block::{Block, BlockPool};

/// State shared by all streams and disk jobs of a receiver.
pub(super) struct Receiving<T> {
    machine: Mutex<Receiver>,
    /// Received messages of the control and manifest streams. Locked before the machine, until a message is fully
    /// handled: an earlier connection may still be read.
    control_in: Mutex<IncomingLog>,
    manifest_in: Mutex<IncomingLog>,
    /// The machine may have an action ready, or room for more entries.
    pub(super) changed: Notify,
    pub(super) room: Notify,
    /// A record was written or cut.
    pub(super) released: Notify,
    pub(super) control_out: Outbox,
    pub(super) target: Arc<T>,
    pub(super) pool: BlockPool,
    /// Bytes are written only after the whole chunk is verified.
    pub(super) verifies_first: bool,
    pub(super) throttle: Arc<Throttle>,
    pub(super) clock: Clock,
    /// The sender's last reported activity.
    peer_activity: Mutex<Activity>,
    /// Decompresses data, once some has come.
    unpacker: Mutex<Option<Unpacker>>,
    /// Bytes of files received.
    pub(super) came_bytes: AtomicU64,
    /// Those that compression has kept off the network.
    saved_bytes: AtomicU64,
    /// Parcels waiting for the disk.
    pub(super) writing: Gauge,
    /// Parcels waiting for bytes.
    pub(super) starving: Gauge,
}

impl<T> Receiving<T> {
    /// `control_in` are the messages received with the offer; parcels and jobs share `blocks` blocks of memory.
    pub(super) fn new(
        machine: Receiver,
        control_in: IncomingLog,
        target: Arc<T>,
        pool: BlockPool,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            machine: Mutex::new(machine),
            control_in: Mutex::new(control_in),
            manifest_in: Mutex::default(),
            changed: Notify::new(),
            room: Notify::new(),
            released: Notify::new(),
            control_out: Outbox::default(),
            target,
            pool,
            verifies_first: false,
            throttle,
            clock: Clock::start(),
            peer_activity: Mutex::new(Activity::Waiting),
            unpacker: Mutex::default(),
            came_bytes: AtomicU64::new(0),
            saved_bytes: AtomicU64::new(0),
            writing: Gauge::default(),
            starving: Gauge::default(),
        }
    }

    /// Whether there is memory to decompress data.
    pub(super) fn can_unpack(&self) -> bool {
        self.unpacker.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Gives the memory to decompress data.
    pub(super) fn give_scratch(&self, scratch: Block) -> Result<(), Failure> {
        let unpacker = Unpacker::new(scratch).map_err(|error| {
            Failure::new(Reason::Internal, format!("cannot decompress what the sender sends: {error}"))
        })?;
        self.unpacker.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(unpacker);
        Ok(())
    }

    /// Replaces the first `packed` bytes of `bytes` by the ones that they stand for.
    pub(super) fn unpack(&self, bytes: &mut [u8], packed: usize) -> Result<(), Failure> {
        match self.unpacker.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(unpacker) => unpacker.unpack(bytes, packed),
            None => Err(Failure::new(Reason::Internal, "nothing to decompress with")),
        }
    }

    /// Compression has kept `bytes` bytes off the network.
    pub(super) fn note_saved(&self, bytes: u64) {
        self.came_bytes.fetch_add(bytes, Relaxed);
        self.saved_bytes.fetch_add(bytes, Relaxed);
    }

    /// Bytes that compression has kept off the network.
    pub(super) fn saved_bytes(&self) -> u64 {
        self.saved_bytes.load(Relaxed)
    }

    /// Writes bytes only after the whole chunk is verified, if so.
    pub(super) fn verifying_first(mut self, verifies_first: bool) -> Self {
        self.verifies_first = verifies_first;
        self
    }

    pub(super) fn control_in(&self) -> MutexGuard<'_, IncomingLog> {
        self.control_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn manifest_in(&self) -> MutexGuard<'_, IncomingLog> {
        self.manifest_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers of the last handled messages.
    pub(super) fn received(&self) -> Received {
        Received { control: self.control_in().received(), manifest: self.manifest_in().received() }
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Receiver> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to read on in the manifest. While the sender reads no answers, no more entries are taken.
    pub(super) fn takes_entries(&self) -> bool {
        self.control_out.has_room() && self.machine().takes_entries()
    }

    /// The sender's last reported activity.
    pub(super) fn peer_activity(&self) -> MutexGuard<'_, Activity> {
        self.peer_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the machine and wakes the driver.
    pub(super) fn with_machine<R>(&self, change: impl FnOnce(&mut Receiver) -> R) -> R {
        let result = change(&mut self.machine());
        self.changed.notify_one();
        result
    }

    /// Notes a sign of life of the sender.
    pub(super) fn heard(&self) {
        self.machine().heard(self.clock.now());
    }
}

/// The receiver's disk failed.
pub(super) fn storage_failure(error: &StorageError) -> Failure {
    error.of_target()
}
