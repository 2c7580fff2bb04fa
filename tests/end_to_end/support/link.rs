//! A UDP link between a dialler and a listener on loopback that delays, limits, drops, reorders, duplicates,
//! corrupts and cuts, with decisions that follow from a seed.
//!
//! What happens to the n-th packet of a direction depends on the seed and n alone (and, for the queue, on time).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::random::Random;

/// How often a blocked reader looks whether the link is being dropped.
const STOP_CHECK: Duration = Duration::from_millis(20);
/// A UDP datagram is never longer.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Receive buffers asked for; the kernel may give less, which then shows as loss.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// What the link does to packets, the same in both directions. Probabilities are 0.0 to 1.0.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    /// Of all decisions.
    pub(crate) seed: u64,
    /// One way.
    pub(crate) delay: Duration,
    /// Up to so much more for each packet, evenly; packets overtake each other.
    pub(crate) jitter: Duration,
    /// Rate of each direction.
    pub(crate) rate_bytes_per_s: Option<u64>,
    /// Longest wait in the queue before the limited rate; what would wait longer is dropped.
    pub(crate) queue: Duration,
    /// Longest packet that gets through; `None` is any.
    pub(crate) mtu_bytes: Option<usize>,
    /// Probability that a packet is dropped.
    pub(crate) loss: f64,
    /// Probability that a packet arrives twice.
    pub(crate) duplicate: f64,
    /// Probability that one bit of a packet is flipped.
    pub(crate) corrupt: f64,
    /// A cut that comes by itself.
    pub(crate) cut: Option<Cut>,
}

/// A cut of the link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// It comes when so many bytes have been offered, both directions together.
    pub(crate) after_bytes: u64,
    /// It heals after so long; `None`: only by [`UdpLink::heal`].
    pub(crate) lasts: Option<Duration>,
}

impl Default for LinkOptions {
    /// A perfect link.
    fn default() -> Self {
        Self {
            seed: 1,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bytes_per_s: None,
            queue: Duration::from_millis(200),
            mtu_bytes: None,
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            cut: None,
        }
    }
}

/// The direction of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the dialler to the listener.
    Up,
    /// From the listener to the dialler.
    Down,
}

/// What is to become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Dropped at random.
    Lost,
    /// Dropped because the queue is full.
    QueueFull,
    /// Dropped because it is too long.
    TooLong,
    /// Delivered, once or twice.
    Delivered(Vec<Delivery>),
}

/// One arrival of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// When, since the start of the link.
    pub(crate) at: Duration,
    /// The bit that is flipped, counted from the first bit of the packet.
    pub(crate) flipped_bit: Option<usize>,
}

/// The decisions of one direction; pure, so that they can be tested without a clock.
#[derive(Debug)]
pub(crate) struct Lane {
    options: LinkOptions,
    random: Random,
    busy_until: Duration,
}

impl Lane {
    /// Each direction has a stream of its own.
    pub(crate) fn new(options: &LinkOptions, direction: Direction) -> Self {
        let salt = match direction {
            Direction::Up => 0x7570,
            Direction::Down => 0x646f_776e,
        };
        Self {
            options: options.clone(),
            random: Random::new(options.seed ^ salt),
            busy_until: Duration::ZERO,
        }
    }

    /// Decides about the next packet, which comes at `now` and has `len` bytes.
    pub(crate) fn fate(&mut self, now: Duration, len: usize) -> Fate {
        // The same number of draws for each packet, whatever becomes of it: the n-th decision never depends on
        // lengths or time.
        let is_lost = self.random.unit() < self.options.loss;
        let is_doubled = self.random.unit() < self.options.duplicate;
        let is_corrupt = self.random.unit() < self.options.corrupt;
        let bit = self.random.next();
        let jitters = [self.random.unit(), self.random.unit()];

        if self.options.mtu_bytes.is_some_and(|mtu_bytes| len > mtu_bytes) {
            return Fate::TooLong;
        }
        let departure = match self.options.rate_bytes_per_s {
            None => now,
            Some(rate) => {
                let start = self.busy_until.max(now);
                if start - now > self.options.queue {
                    return Fate::QueueFull;
                }
                self.busy_until = start + Duration::from_secs_f64(len as f64 / rate as f64);
                self.busy_until
            }
        };
        if is_lost {
            return Fate::Lost;
        }
        let bits = (len * 8) as u64;
        let flipped_bit = (is_corrupt && bits > 0)
            .then(|| usize::try_from(bit % bits).expect("less than the bits of a packet"));
        let arrival = |jitter: f64| departure + self.options.delay + self.options.jitter.mul_f64(jitter);
        let mut deliveries = vec![Delivery { at: arrival(jitters[0]), flipped_bit }];
        if is_doubled {
            deliveries.push(Delivery { at: arrival(jitters[1]), flipped_bit: None });
        }
        Fate::Delivered(deliveries)
    }
}

/// What has happened in one direction so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Packets that came to the link.
    pub(crate) offered: u64,
    /// Packets that left it, duplicates counted.
    pub(crate) delivered: u64,
    /// Dropped at random.
    pub(crate) lost: u64,
    /// Dropped by the queue.
    pub(crate) queue_full: u64,
    /// Dropped because they were too long.
    pub(crate) too_long: u64,
    /// Arrived twice.
    pub(crate) duplicated: u64,
    /// Had a bit flipped.
    pub(crate) corrupted: u64,
    /// Left after one that had come later.
    pub(crate) reordered: u64,
    /// Came, or were on the way, while the link was cut.
    pub(crate) cut: u64,
    /// Are on the way.
    pub(crate) on_the_way: u64,
}

struct Packet {
    at: Duration,
    number: u64,
    direction: Direction,
    bytes: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Packet {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Packet {}
impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

struct State {
    lanes: [Lane; 2],
    statistics: [Statistics; 2],
    last_number: [u64; 2],
    on_the_way: BinaryHeap<Reverse<Packet>>,
    next_number: u64,
    offered_bytes: u64,
    planned_cut: Option<Cut>,
    is_cut: bool,
    heals_at: Option<Duration>,
    is_stopping: bool,
}

struct Shared {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a packet in and decides about it.
    fn offer(&self, direction: Direction, bytes: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        let now = self.start.elapsed();
        let mut state = self.lock();
        let side = direction as usize;
        state.statistics[side].offered += 1;
        state.offered_bytes += bytes.len() as u64;
        if let Some(cut) = state.planned_cut
            && state.offered_bytes >= cut.after_bytes
        {
            state.planned_cut = None;
            state.cut(cut.lasts.map(|d| now + d));
        }
        if state.is_cut && state.heals_at.is_some_and(|at| now >= at) {
            state.is_cut = false;
        }
        if state.is_cut {
            state.statistics[side].cut += 1;
        } else {
            match state.lanes[side].fate(now, bytes.len()) {
                Fate::Lost => state.statistics[side].lost += 1,
                Fate::QueueFull => state.statistics[side].queue_full += 1,
                Fate::TooLong => state.statistics[side].too_long += 1,
                Fate::Delivered(deliveries) => {
                    state.statistics[side].duplicated += u64::from(deliveries.len() > 1);
                    for delivery in deliveries {
                        let mut bytes = bytes.to_vec();
                        if let Some(bit) = delivery.flipped_bit {
                            bytes[bit / 8] ^= 1 << (bit % 8);
                            state.statistics[side].corrupted += 1;
                        }
                        let number = state.next_number;
                        state.next_number += 1;
                        state.statistics[side].on_the_way += 1;
                        let socket = Arc::clone(socket);
                        let packet = Packet { at: delivery.at, number, direction, bytes, socket, to };
                        state.on_the_way.push(Reverse(packet));
                    }
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sends packets on when their time has come, until the link stops.
    fn deliver(&self) {
        let mut state = self.lock();
        while !state.is_stopping {
            let now = self.start.elapsed();
            let wait = match state.on_the_way.peek() {
                None => None,
                Some(Reverse(packet)) if packet.at > now => Some(packet.at - now),
                Some(_) => {
                    let Reverse(packet) = state.on_the_way.pop().expect("one was seen");
                    // A full receive buffer at the other end is loss like any other.
                    let _ = packet.socket.send_to(&packet.bytes, packet.to);
                    let side = packet.direction as usize;
                    let is_late = packet.number < state.last_number[side];
                    state.last_number[side] = state.last_number[side].max(packet.number);
                    state.statistics[side].delivered += 1;
                    state.statistics[side].on_the_way -= 1;
                    state.statistics[side].reordered += u64::from(is_late);
                    self.changed.notify_all();
                    continue;
                }
            };
            state = match wait {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Hands every packet of `socket` to `take`, until the link stops.
    fn receive(&self, socket: &UdpSocket, mut take: impl FnMut(&[u8], SocketAddr)) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.lock().is_stopping {
            // A time-out, or an ICMP error about a packet sent earlier: neither ends a link.
            if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                take(&buffer[..len], from);
            }
        }
    }
}

impl State {
    fn cut(&mut self, heals_at: Option<Duration>) {
        self.is_cut = true;
        self.heals_at = heals_at;
        for Reverse(packet) in self.on_the_way.drain() {
            let statistics = &mut self.statistics[packet.direction as usize];
            statistics.cut += 1;
            statistics.on_the_way -= 1;
        }
    }
}

/// The link: diallers send to [`UdpLink::addr`] and reach the listener, each from a port of its own.
pub(crate) struct UdpLink {
    /// What to dial.
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpLink {
    /// Starts a link to `listener`, which is on loopback.
    pub(crate) fn start(listener: SocketAddr, options: &LinkOptions) -> Self {
        assert!(listener.ip().is_loopback(), "only loopback is ever a target of test traffic");
        let front = Arc::new(socket_beside(listener));
        let addr = front.local_addr().expect("a bound socket has an address");
        let state = State {
            lanes: [Lane::new(options, Direction::Up), Lane::new(options, Direction::Down)],
            statistics: Default::default(),
            last_number: [0; 2],
            on_the_way: BinaryHeap::new(),
            next_number: 0,
            offered_bytes: 0,
            planned_cut: options.cut,
            is_cut: false,
            heals_at: None,
            is_stopping: false,
        };
        let shared =
            Arc::new(Shared { start: Instant::now(), state: Mutex::new(state), changed: Condvar::new() });
        let deliverer = Arc::clone(&shared);
        let receiver = Arc::clone(&shared);
        let threads = vec![
            std::thread::spawn(move || deliverer.deliver()),
            std::thread::spawn(move || run_front(&receiver, &front, listener)),
        ];
        Self { addr, shared, threads }
    }

    /// Cuts both directions; what is on the way is lost.
    pub(crate) fn cut(&self) {
        self.shared.lock().cut(None);
        self.shared.changed.notify_all();
    }

    /// Ends a cut, and a planned one too.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.lock();
        state.is_cut = false;
        state.planned_cut = None;
    }

    /// Another rate, for both directions; `None`: no limit. What is in the queues keeps its time.
    pub(crate) fn set_rate(&self, rate_bytes_per_s: Option<u64>) {
        for lane in &mut self.shared.lock().lanes {
            lane.options.rate_bytes_per_s = rate_bytes_per_s;
        }
    }

    /// What has happened so far in `direction`.
    pub(crate) fn statistics(&self, direction: Direction) -> Statistics {
        self.shared.lock().statistics[direction as usize]
    }

    /// Waits until the statistics of `direction` fulfil `condition`; panics after `deadline`.
    pub(crate) fn wait_until(
        &self,
        direction: Direction,
        deadline: Duration,
        condition: impl Fn(&Statistics) -> bool,
    ) -> Statistics {
        let end = Instant::now() + deadline;
        let mut state = self.shared.lock();
        loop {
            let statistics = state.statistics[direction as usize];
            if condition(&statistics) {
                return statistics;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the link did not get there within {deadline:?}: {statistics:?}");
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for UdpLink {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let [up, down] = self.shared.lock().statistics;
            eprintln!("the link {}: up {up:?}, down {down:?}", self.addr);
        }
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in there has been printed already.
            let _ = thread.join();
        }
    }
}

/// A socket with a free port on the address of `listener`.
fn socket_beside(listener: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(listener.ip(), 0)).expect("a UDP port on loopback");
    socket.set_read_timeout(Some(STOP_CHECK)).expect("a time-out above zero");
    let options = socket2::SockRef::from(&socket);
    // A smaller buffer is not an error; the statistics of the peers show it.
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket
}

/// The diallers' side: gives each of them a socket towards the listener, and a thread that reads from it.
fn run_front(shared: &Arc<Shared>, front: &Arc<UdpSocket>, listener: SocketAddr) {
    let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut threads = Vec::new();
    shared.receive(front, |bytes, dialler| {
        let back = backs.entry(dialler).or_insert_with(|| {
            let back = Arc::new(socket_beside(listener));
            let (shared, front, socket) = (Arc::clone(shared), Arc::clone(front), Arc::clone(&back));
            threads.push(std::thread::spawn(move || {
                shared.receive(&socket, |bytes, from| {
                    if from == listener {
                        shared.offer(Direction::Down, bytes, &front, dialler);
                    }
                });
            }));
            back
        });
        shared.offer(Direction::Up, bytes, back, listener);
    });
    for thread in threads {
        // A panic in there has been printed already.
        let _ = thread.join();
    }
}
