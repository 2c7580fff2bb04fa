//! A connection pair in memory: stream credits, byte windows, seeded delays in tokio's time (so a paused clock
//! works), cuts. It is as strict as QUIC: a stream is invisible to the peer until something is written to it, chunks
//! of different streams overtake each other, and a close overtakes everything.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::auth::Fingerprint;
use crate::protocol::wire::limits::REASON_BYTES_MAX;
use crate::transport::{Connection, KnownPath, PathStats, RecvStream, SendStream, TransportError};

/// The limits of either end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryLimits {
    /// Unread bytes on all streams.
    pub(crate) connection_window_bytes: usize,
    /// Unread bytes on one stream.
    pub(crate) stream_window_bytes: usize,
    /// Open bidirectional streams.
    pub(crate) streams: usize,
    /// Every piece takes a random time up to this.
    pub(crate) delay_max: Duration,
    /// Fingerprints of the two ends.
    pub(crate) fingerprints: [Fingerprint; 2],
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            connection_window_bytes: 1024 * 1024,
            stream_window_bytes: 256 * 1024,
            streams: 9,
            delay_max: Duration::from_millis(20),
            fingerprints: [Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32])],
        }
    }
}

/// The two ends of a connection, and a handle on the link between them. The same seed gives the same delays.
pub(crate) fn pair(seed: u64, limits: MemoryLimits) -> (MemoryConnection, MemoryConnection, MemoryLink) {
    let state = State {
        limits,
        random: seed,
        exporter: *blake3::hash(&seed.to_le_bytes()).as_bytes(),
        ended: [None, None],
        streams: BTreeMap::new(),
        opened: [[0; 2]; 2],
        announced: [[0; 2]; 2],
        accepted: [[0; 2]; 2],
        announced_at: [[Instant::now(); 2]; 2],
        unread_bytes: [0; 2],
        unread_bytes_max: [0; 2],
        held_since: None,
        let_go: [false; 2],
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
    let end = |side| MemoryConnection { handle: Arc::new(Handle { shared: shared.clone(), side }) };
    (end(0), end(1), MemoryLink { shared: shared.clone() })
}

/// A test's control of a connection from outside.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLink {
    shared: Arc<Shared>,
}

impl MemoryLink {
    /// Both ends lose the connection.
    pub(crate) fn cut(&self) {
        self.cut_at(0);
        self.cut_at(1);
    }

    /// The end `side` (0 or 1) loses the connection; the other one does not know yet.
    pub(crate) fn cut_at(&self, side: usize) {
        let cut = || TransportError::Lost("the link was cut".to_owned());
        let mut state = self.shared.lock();
        state.ended[side].get_or_insert_with(cut);
        state.lose_what_is_on_the_way(&[side]);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// From now on nothing gets to the other end, and neither end knows, until it is let go.
    pub(crate) fn hold(&self, is_held: bool) {
        self.shared.lock().held_since = is_held.then(Instant::now);
        self.shared.changed.notify_waiters();
    }

    /// The end `side` (0 or 1) closes the connection.
    pub(crate) fn close_at(&self, side: usize, code: u32, reason: &[u8]) {
        self.shared.close_at(side, code, reason);
    }

    /// Neither end is held by anybody.
    pub(crate) fn is_let_go(&self) -> bool {
        self.shared.lock().let_go == [true; 2]
    }

    /// The connection has ended at the end `side` (0 or 1).
    pub(crate) fn is_ended(&self, side: usize) -> bool {
        self.shared.lock().ended[side].is_some()
    }

    /// Bytes sent to the end `side` (0 or 1) that it has not read.
    pub(crate) fn unread_bytes(&self, side: usize) -> usize {
        self.shared.lock().unread_bytes[side]
    }

    /// The maximum so far.
    pub(crate) fn unread_bytes_max(&self, side: usize) -> usize {
        self.shared.lock().unread_bytes_max[side]
    }

    /// Bidirectional streams opened by `side` so far.
    pub(crate) fn opened_streams(&self, side: usize) -> u64 {
        self.shared.lock().opened[side][StreamKind::Bi as usize]
    }

    /// Bidirectional streams opened by `side` and still open.
    pub(crate) fn open_streams(&self, side: usize) -> usize {
        self.shared.lock().open_streams(side, StreamKind::Bi)
    }
}

/// One end.
#[derive(Debug, Clone)]
pub(crate) struct MemoryConnection {
    handle: Arc<Handle>,
}

/// Sending half of a stream.
#[derive(Debug)]
pub(crate) struct MemorySend {
    handle: Arc<Handle>,
    id: Id,
}

/// Receiving half of a stream.
#[derive(Debug)]
pub(crate) struct MemoryRecv {
    handle: Arc<Handle>,
    id: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StreamKind {
    Bi,
    Uni,
}

/// Opener, kind, number from 0.
type Id = (usize, StreamKind, u64);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// One end's handle on the connection; dropping the last one closes it.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    side: usize,
}

#[derive(Debug)]
struct State {
    limits: MemoryLimits,
    random: u64,
    exporter: [u8; 32],
    ended: [Option<TransportError>; 2],
    /// Streams that an end still holds or can still accept.
    streams: BTreeMap<Id, Stream>,
    /// By opener and kind: opened streams, those the peer has heard of and when, those it accepted.
    opened: [[u64; 2]; 2],
    announced: [[u64; 2]; 2],
    announced_at: [[Instant; 2]; 2],
    accepted: [[u64; 2]; 2],
    /// By receiving side.
    unread_bytes: [usize; 2],
    unread_bytes_max: [usize; 2],
    /// Nothing gets to the other end, and neither end knows.
    held_since: Option<Instant>,
    /// Which ends nobody holds any more.
    let_go: [bool; 2],
}

#[derive(Debug, Default)]
struct Stream {
    /// By sending side.
    halves: [Half; 2],
    /// Number of live sending and receiving ends.
    handles: usize,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Half {
    items: VecDeque<(Instant, Item)>,
    unread_bytes: usize,
    /// The sender has finished or reset it.
    is_ended: bool,
    /// The receiver has seen the end, or wants nothing more.
    is_stopped: bool,
}

#[derive(Debug)]
enum Item {
    Data(Bytes),
    Finish,
    Reset,
}

enum Attempt<T> {
    Ready(T),
    /// Until something changes, or until this time.
    Wait(Option<Instant>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the state")
    }

    fn close_at(&self, side: usize, code: u32, reason: &[u8]) {
        let mut state = self.lock();
        if state.ended[side].is_none() {
            let reason = Bytes::copy_from_slice(&reason[..reason.len().min(REASON_BYTES_MAX)]);
            state.ended[side] = Some(TransportError::ClosedHere);
            if state.held_since.is_none() {
                state.ended[1 - side].get_or_insert(TransportError::Closed { code: code.into(), reason });
            }
            state.lose_what_is_on_the_way(&[0, 1]);
        }
        self.changed.notify_waiters();
    }
}

impl Handle {
    /// Runs `step` until it is ready, again after each change or arrival.
    async fn until<T: Send>(
        &self,
        mut step: impl FnMut(&mut State) -> Attempt<T> + Send,
    ) -> Result<T, TransportError> {
        self.until_either(|state, ended| match ended {
            Some(error) => Attempt::Ready(Err(error)),
            None => match step(state) {
                Attempt::Ready(value) => Attempt::Ready(Ok(value)),
                Attempt::Wait(until) => Attempt::Wait(until),
            },
        })
        .await
    }

    async fn until_either<T: Send>(
        &self,
        mut step: impl FnMut(&mut State, Option<TransportError>) -> Attempt<Result<T, TransportError>> + Send,
    ) -> Result<T, TransportError> {
        loop {
            let changed = self.shared.changed.notified();
            let wait = {
                let mut state = self.shared.lock();
                let ended = state.ended[self.side].clone();
                match step(&mut state, ended) {
                    Attempt::Ready(value) => {
                        drop(state);
                        self.shared.changed.notify_waiters();
                        return value;
                    }
                    Attempt::Wait(until) => until,
                }
            };
            match wait {
                None => changed.await,
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// The same for actions still possible after the end by the peer or the link, such as reading earlier data.
    async fn until_read<T: Send>(
        &self,
        mut step: impl FnMut(&mut State) -> Attempt<T> + Send,
    ) -> Result<T, TransportError> {
        self.until_either(|state, ended| match ended {
            Some(TransportError::ClosedHere) => Attempt::Ready(Err(TransportError::ClosedHere)),
            ended => match (step(state), ended) {
                (Attempt::Wait(_), Some(error)) => Attempt::Ready(Err(error)),
                (Attempt::Wait(until), None) => Attempt::Wait(until),
                (Attempt::Ready(value), _) => Attempt::Ready(Ok(value)),
            },
        })
        .await
    }

    async fn open(self: &Arc<Self>, kind: StreamKind) -> Result<Id, TransportError> {
        let side = self.side;
        self.until(|state| {
            let max = if kind == StreamKind::Bi { state.limits.streams } else { 1 };
            if state.open_streams(side, kind) >= max {
                return Attempt::Wait(None);
            }
            let id = (side, kind, state.opened[side][kind as usize]);
            state.opened[side][kind as usize] += 1;
            let mut stream =
                Stream { handles: if kind == StreamKind::Bi { 4 } else { 2 }, ..Stream::default() };
            stream.halves[1 - side].is_ended = kind == StreamKind::Uni;
            state.streams.insert(id, stream);
            Attempt::Ready(id)
        })
        .await
    }

    async fn accept(self: &Arc<Self>, kind: StreamKind) -> Result<Id, TransportError> {
        let (opener, kind_at) = (1 - self.side, kind as usize);
        self.until(|state| {
            let next = state.accepted[opener][kind_at];
            if next >= state.announced[opener][kind_at] || state.held_since.is_some() {
                return Attempt::Wait(None);
            }
            let at = state.announced_at[opener][kind_at];
            if at > Instant::now() {
                return Attempt::Wait(Some(at));
            }
            state.accepted[opener][kind_at] += 1;
            Attempt::Ready((opener, kind, next))
        })
        .await
    }

    fn send(self: &Arc<Self>, id: Id) -> MemorySend {
        MemorySend { handle: self.clone(), id }
    }

    fn recv(self: &Arc<Self>, id: Id) -> MemoryRecv {
        MemoryRecv { handle: self.clone(), id }
    }

    fn close(&self, code: u32, reason: &[u8]) {
        self.shared.close_at(self.side, code, reason);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close(0, b"");
        self.shared.lock().let_go[self.side] = true;
    }
}

impl State {
    fn open_streams(&self, side: usize, kind: StreamKind) -> usize {
        let range = (side, kind, 0)..=(side, kind, u64::MAX);
        self.streams.range(range).filter(|(_, stream)| !stream.is_done(side)).count()
    }

    /// A close overtakes everything, and nothing arrives after it; nor after a cut.
    fn lose_what_is_on_the_way(&mut self, to: &[usize]) {
        let now = self.heard_until();
        for stream in self.streams.values_mut() {
            for side in to {
                stream.halves[1 - side].items.retain(|(arrival, _)| *arrival <= now);
            }
        }
    }

    /// What arrives later than this has not arrived.
    fn heard_until(&self) -> Instant {
        self.held_since.unwrap_or_else(Instant::now)
    }

    /// splitmix64.
    fn next_delay(&mut self) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = (z ^ (z >> 31)) % 1000;
        self.limits.delay_max.mul_f64(f64::from(u16::try_from(fraction).expect("below 1000")) / 1000.0)
    }

    /// Sends `item` from `side`; the first on a stream announces it and all earlier ones.
    fn push(&mut self, side: usize, id: Id, item: Item) {
        let arrival = Instant::now() + self.next_delay();
        let (opener, kind, number) = id;
        if side == opener && number >= self.announced[opener][kind as usize] {
            self.announced[opener][kind as usize] = number + 1;
            let at = &mut self.announced_at[opener][kind as usize];
            *at = arrival.max(*at);
        }
        let half = self.half(id, side);
        let arrival = half.items.back().map_or(arrival, |(last, _)| arrival.max(*last));
        half.items.push_back((arrival, item));
    }

    fn half(&mut self, id: Id, sender: usize) -> &mut Half {
        &mut self.streams.get_mut(&id).expect("a handle holds it").halves[sender]
    }

    fn let_go(&mut self, id: Id) {
        let stream = self.streams.get_mut(&id).expect("a handle holds it");
        stream.handles -= 1;
        if stream.handles == 0 {
            self.streams.remove(&id);
        }
    }

    /// Returns the credit of data that the receiver of `sender`'s half will not read.
    fn discard(&mut self, id: Id, sender: usize) {
        let half = self.half(id, sender);
        half.items.clear();
        let unread = std::mem::take(&mut half.unread_bytes);
        self.unread_bytes[1 - sender] -= unread;
    }

    fn write_some(&mut self, side: usize, id: Id, chunk: &mut Bytes) -> Attempt<Result<(), TransportError>> {
        let (stream_window, window) = (self.limits.stream_window_bytes, self.limits.connection_window_bytes);
        let connection_room = window - self.unread_bytes[1 - side];
        let half = self.half(id, side);
        if half.is_ended {
            return Attempt::Ready(Err(TransportError::Lost(
                "written to a stream that has ended".to_owned(),
            )));
        }
        if half.is_stopped {
            return Attempt::Ready(Err(TransportError::StreamEnded(0)));
        }
        if chunk.is_empty() {
            return Attempt::Ready(Ok(()));
        }
        let room = connection_room.min(stream_window - half.unread_bytes).min(chunk.len());
        if room == 0 {
            return Attempt::Wait(None);
        }
        half.unread_bytes += room;
        self.unread_bytes[1 - side] += room;
        self.unread_bytes_max[1 - side] = self.unread_bytes_max[1 - side].max(self.unread_bytes[1 - side]);
        let piece = chunk.split_to(room);
        self.push(side, id, Item::Data(piece));
        Attempt::Ready(Ok(()))
    }

    fn read_some(
        &mut self,
        side: usize,
        id: Id,
        max: usize,
    ) -> Attempt<Result<Option<Bytes>, TransportError>> {
        let (is_held, now) = (self.held_since.is_some(), self.heard_until());
        let half = self.half(id, 1 - side);
        let Some((arrival, item)) = half.items.front_mut() else { return Attempt::Wait(None) };
        if *arrival > now {
            return Attempt::Wait((!is_held).then_some(*arrival));
        }
        match item {
            Item::Data(bytes) => {
                let piece = bytes.split_to(bytes.len().min(max));
                if bytes.is_empty() {
                    half.items.pop_front();
                }
                half.unread_bytes -= piece.len();
                self.unread_bytes[side] -= piece.len();
                Attempt::Ready(Ok(Some(piece)))
            }
            Item::Finish => {
                half.is_stopped = true;
                Attempt::Ready(Ok(None))
            }
            Item::Reset => {
                half.is_stopped = true;
                Attempt::Ready(Err(TransportError::StreamEnded(0)))
            }
        }
    }
}

impl Stream {
    /// Whether its credit returns to `opener`: the peer has finished its own half and has seen the end of the
    /// opener's.
    fn is_done(&self, opener: usize) -> bool {
        self.halves[1 - opener].is_ended && self.halves[opener].is_ended && self.halves[opener].is_stopped
    }
}

impl Connection for MemoryConnection {
    type Send = MemorySend;
    type Recv = MemoryRecv;

    async fn open_bi(&self) -> Result<(MemorySend, MemoryRecv), TransportError> {
        let id = self.handle.open(StreamKind::Bi).await?;
        Ok((self.handle.send(id), self.handle.recv(id)))
    }

    async fn accept_bi(&self) -> Result<(MemorySend, MemoryRecv), TransportError> {
        let id = self.handle.accept(StreamKind::Bi).await?;
        Ok((self.handle.send(id), self.handle.recv(id)))
    }

    async fn open_uni(&self) -> Result<MemorySend, TransportError> {
        Ok(self.handle.send(self.handle.open(StreamKind::Uni).await?))
    }

    async fn accept_uni(&self) -> Result<MemoryRecv, TransportError> {
        Ok(self.handle.recv(self.handle.accept(StreamKind::Uni).await?))
    }

    fn export_keying_material(&self, label: &[u8]) -> Result<[u8; 32], TransportError> {
        let exporter = self.handle.shared.lock().exporter;
        Ok(*blake3::keyed_hash(&exporter, label).as_bytes())
    }

    fn peer_fingerprint(&self) -> Fingerprint {
        self.handle.shared.lock().limits.fingerprints[1 - self.handle.side]
    }

    /// Every dialler has the full credit from the start.
    fn let_in(&self) {}

    async fn has_to_leave(&self) {
        std::future::pending().await
    }

    fn remote_address(&self) -> SocketAddr {
        let port = if self.handle.side == 0 { 2 } else { 1 };
        ([127, 0, 0, 1], port).into()
    }

    fn close(&self, code: u32, reason: &[u8]) {
        self.handle.close(code, reason);
    }

    async fn closed(&self) -> TransportError {
        match self.handle.until(|_| Attempt::<()>::Wait(None)).await {
            Err(error) => error,
            Ok(()) => unreachable!("it waits for ever"),
        }
    }

    fn is_closed(&self) -> bool {
        self.handle.shared.lock().ended[self.handle.side].is_some()
    }

    fn is_ended_by_peer(&self) -> bool {
        let ended = &self.handle.shared.lock().ended[self.handle.side];
        ended.as_ref().is_some_and(|error| *error != TransportError::ClosedHere)
    }

    /// The peer knows at once.
    async fn close_sent(&self) {}

    fn know_path(&self, _: KnownPath) {}

    fn stats(&self) -> PathStats {
        PathStats { mtu_bytes: u16::MAX, ..PathStats::default() }
    }
}

impl SendStream for MemorySend {
    async fn write_all(&mut self, chunks: &mut [Bytes]) -> Result<(), TransportError> {
        for chunk in chunks {
            loop {
                self.handle.until(|state| state.write_some(self.handle.side, self.id, chunk)).await??;
                if chunk.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), TransportError> {
        let mut state = self.handle.shared.lock();
        let half = state.half(self.id, self.handle.side);
        if std::mem::replace(&mut half.is_ended, true) {
            return Err(TransportError::Lost("finished a stream that has ended".to_owned()));
        }
        if !half.is_stopped {
            state.push(self.handle.side, self.id, Item::Finish);
        }
        self.handle.shared.changed.notify_waiters();
        Ok(())
    }

    async fn is_delivered(&mut self) -> bool {
        let side = self.handle.side;
        let delivered = self.handle.until(|state| {
            let (is_held, now) = (state.held_since.is_some(), state.heard_until());
            match state.half(self.id, side).items.back() {
                Some((arrival, _)) if *arrival > now => Attempt::Wait((!is_held).then_some(*arrival)),
                _ => Attempt::Ready(()),
            }
        });
        delivered.await.is_ok()
    }

    fn set_priority(&self, _priority: i32) {}
}

impl Drop for MemorySend {
    fn drop(&mut self) {
        let mut state = self.handle.shared.lock();
        let side = self.handle.side;
        // Nothing gets past the end of the connection.
        let is_heard = state.ended[side].is_none() && state.held_since.is_none();
        let half = state.half(self.id, side);
        if is_heard && !std::mem::replace(&mut half.is_ended, true) && !half.is_stopped {
            state.discard(self.id, side);
            state.push(side, self.id, Item::Reset);
        }
        state.let_go(self.id);
        self.handle.shared.changed.notify_waiters();
    }
}

impl RecvStream for MemoryRecv {
    async fn read(&mut self, room: &mut [u8]) -> Result<Option<usize>, TransportError> {
        let max = room.len();
        let side = self.handle.side;
        let bytes = self.handle.until_read(|state| state.read_some(side, self.id, max)).await??;
        Ok(bytes.map(|bytes| {
            room[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        }))
    }
}

impl Drop for MemoryRecv {
    fn drop(&mut self) {
        let mut state = self.handle.shared.lock();
        let sender = 1 - self.handle.side;
        if state.ended[self.handle.side].is_none() && state.held_since.is_none() {
            state.half(self.id, sender).is_stopped = true;
            state.discard(self.id, sender);
        }
        state.let_go(self.id);
        self.handle.shared.changed.notify_waiters();
    }
}
