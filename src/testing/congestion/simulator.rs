//! A path without sockets or clocks: flows of this crate's controller and of CUBIC share a queue, and every run is
//! the same.
//!
//! Senders behave like quinn: a token bucket of 1.25 windows a round trip, acks of everything received for every
//! second packet, round trips measured by the newest packet only, loss by time. Data never runs out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use crate::transport::KnownPath;
use crate::transport::congestion::LOSS_DELAY_PERCENT;
use crate::transport::congestion::PathWatch;
use crate::transport::congestion::cubic::Cubic;
use crate::transport::congestion::rate::{Manner, RateController};

/// Bytes of a packet.
pub(super) const PACKET: u64 = 1200;
const INITIAL_WINDOW: u64 = crate::transport::congestion::INITIAL_WINDOW_DATAGRAMS * PACKET;
/// Duration of a pacer's bucket, and its minimum and maximum packets.
const BUCKET_US: u64 = 2000;
const BUCKET_PACKETS: (u64, u64) = (10, 256);
/// Packets per system call.
const BATCH: u64 = 10;
/// Packets this far behind the newest are duplicates to quinn.
const DUPLICATES_SPAN: u64 = 128;
/// Longest time between two packets while nothing is acked.
const PROBE_INTERVAL_US: u64 = crate::transport::congestion::PROBE_INTERVAL.as_secs() * 1_000_000;
/// Maximum ack delay of a peer.
const ACK_DELAY_US: u64 = 5_000;

/// Either kind of sender.
pub(super) enum Control {
    Ours(Box<RateController>),
    Cubic(Cubic),
}

/// The path of all flows, in one direction; acks come back on one without limits.
#[derive(Clone)]
pub(super) struct SimulatedPath {
    /// Mbit/s from a time in ms on; the first from 0.
    pub(super) rates: Vec<(u64, u64)>,
    /// Round trip without a queue.
    pub(super) rtt_ms: u64,
    /// Longest queue, in ms of the rate.
    pub(super) queue_ms: u64,
    /// Lost packets in a thousand.
    pub(super) loss_permille: u64,
    /// Mean length of a run of lost packets.
    pub(super) burst: u64,
    /// Random extra delay up to this on both ways, which reorders.
    pub(super) jitter_us: u64,
    /// Acks wait for the next multiple of this; 1 for none.
    pub(super) ack_grid_us: u64,
    /// A queue longer than this marks packets instead of waiting to overflow.
    pub(super) mark_ms: Option<u64>,
    /// Drops everything above the rate and delays nothing; `queue_ms` is the burst it lets through.
    pub(super) polices: bool,
    /// Carries nothing in either direction from one time in ms until another.
    pub(super) outage_ms: Option<(u64, u64)>,
}

impl SimulatedPath {
    pub(super) fn new(mbit: u64, rtt_ms: u64, queue_ms: u64) -> Self {
        Self {
            rates: vec![(0, mbit)],
            rtt_ms,
            queue_ms,
            loss_permille: 0,
            burst: 1,
            jitter_us: 0,
            ack_grid_us: 1,
            mark_ms: None,
            polices: false,
            outage_ms: None,
        }
    }

    fn is_dead(&self, us: u64) -> bool {
        self.outage_ms.is_some_and(|(from, to)| (from * 1000..to * 1000).contains(&us))
    }

    fn rate(&self, us: u64) -> u64 {
        self.rates.iter().rev().find(|(at, _)| us >= at * 1000).map_or(1, |(_, mbit)| *mbit)
    }
}

struct Flow {
    control: Control,
    starts_us: u64,
    stops_us: u64,
    window: u64,
    /// Packets by number: time of sending, and whether the link drops it.
    sent: BTreeMap<u64, (u64, bool)>,
    next: u64,
    largest_acked: u64,
    /// Packets received by the peer, in its order, and how many of them are acked.
    received: Vec<u64>,
    newest: u64,
    acked: usize,
    tokens: u64,
    tokens_at: u64,
    smoothed_us: u64,
    latest_us: u64,
    wakes_at: u64,
    /// Packets that have come since the last ack was sent, and whether one was marked.
    waiting: usize,
    marked: bool,
    ack_timer: u64,
    probes_at: u64,
    /// Sent since the last ack.
    probes: u32,
}

fn probe_time(smoothed_us: u64) -> u64 {
    2 * smoothed_us.max(100_000)
}

/// What one flow got in one tenth of a second.
#[derive(Clone, Copy, Default)]
pub(super) struct Tenth {
    pub(super) delivered: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    /// Bytes called lost that were not: they are sent twice.
    pub(super) spurious: u64,
    /// At its end.
    pub(super) window: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SimulatorEvent {
    Wake(usize),
    Arrival {
        flow: usize,
        packet: u64,
        marked: bool,
    },
    AckTimer(usize),
    /// Covers this many of the received packets.
    Ack {
        flow: usize,
        received: usize,
        marked: bool,
    },
    LossTimer(usize),
    ProbeTimer(usize),
}

pub(super) struct Simulator {
    link: SimulatedPath,
    start: Instant,
    now_us: u64,
    events: BinaryHeap<Reverse<(u64, u64, SimulatorEvent)>>,
    serial: u64,
    flows: Vec<Flow>,
    line_free_ns: u64,
    in_burst: bool,
    random: u64,
    pub(super) tenths: Vec<Vec<Tenth>>,
    /// Longest queue of each tenth of a second.
    pub(super) queues_us: Vec<u64>,
    /// Longest and summed queue, us, seen by arriving packets from `measure_from_us` on.
    queue_sum_us: u64,
    queue_seen: u64,
    pub(super) measure_from_ms: u64,
}

impl Simulator {
    pub(super) fn new(link: SimulatedPath) -> Self {
        Self {
            link,
            start: Instant::now(),
            now_us: 0,
            events: BinaryHeap::new(),
            serial: 0,
            flows: Vec::new(),
            line_free_ns: 0,
            in_burst: false,
            random: 0x9E37_79B9_7F4A_7C15,
            tenths: Vec::new(),
            queues_us: Vec::new(),
            queue_sum_us: 0,
            queue_seen: 0,
            measure_from_ms: 0,
        }
    }

    pub(super) fn add_ours(&mut self, at_ms: u64) -> usize {
        self.add_rate(Manner::Compete, at_ms, PathWatch::default())
    }

    /// One that an earlier transfer has told of the path.
    pub(super) fn add_resuming(&mut self, at_ms: u64, known: KnownPath) -> usize {
        let watch = PathWatch::default();
        watch.know(known);
        self.add_rate(Manner::Compete, at_ms, watch)
    }

    pub(super) fn add_background(&mut self, at_ms: u64) -> usize {
        self.add_rate(Manner::Yield, at_ms, PathWatch::default())
    }

    fn add_rate(&mut self, manner: Manner, at_ms: u64, watch: PathWatch) -> usize {
        let now = self.at(at_ms * 1000);
        let mut control = RateController::new(now, manner, INITIAL_WINDOW, PACKET, watch);
        // The handshake has told.
        control.open_first_window(Duration::from_millis(self.link.rtt_ms));
        self.add(Control::Ours(Box::new(control)), at_ms)
    }

    pub(super) fn add_cubic(&mut self, at_ms: u64) -> usize {
        self.add(Control::Cubic(Cubic::new(INITIAL_WINDOW, PACKET)), at_ms)
    }

    /// One that has left slow start already, with the initial window.
    pub(super) fn add_slow_cubic(&mut self, at_ms: u64) -> usize {
        self.add(Control::Cubic(Cubic::reduced_to(INITIAL_WINDOW, PACKET)), at_ms)
    }

    fn add(&mut self, control: Control, at_ms: u64) -> usize {
        let flow = self.flows.len();
        self.flows.push(Flow {
            control,
            starts_us: at_ms * 1000,
            stops_us: u64::MAX,
            window: INITIAL_WINDOW,
            sent: BTreeMap::new(),
            next: 0,
            largest_acked: 0,
            received: Vec::new(),
            newest: 0,
            acked: 0,
            tokens: BUCKET_PACKETS.0 * PACKET,
            tokens_at: at_ms * 1000,
            // The handshake has told.
            smoothed_us: self.link.rtt_ms * 1000,
            latest_us: 0,
            wakes_at: u64::MAX,
            waiting: 0,
            marked: false,
            ack_timer: u64::MAX,
            probes_at: u64::MAX,
            probes: 0,
        });
        self.flows[flow].take_window();
        self.tenths.push(Vec::new());
        self.push(at_ms * 1000, SimulatorEvent::Wake(flow));
        flow
    }

    /// Lets `flow` send nothing more from `at_ms` on.
    pub(super) fn stop(&mut self, flow: usize, at_ms: u64) {
        self.flows[flow].stops_us = at_ms * 1000;
    }

    /// Runs until `ms` after the start.
    pub(super) fn run(&mut self, ms: u64) {
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= ms * 1000) {
            let Some(Reverse((at, _, event))) = self.events.pop() else { return };
            self.now_us = at;
            match event {
                SimulatorEvent::Wake(flow) => self.flows[flow].wakes_at = u64::MAX,
                SimulatorEvent::Arrival { flow, packet, marked } => self.arrive(flow, packet, marked),
                SimulatorEvent::AckTimer(flow) if self.flows[flow].ack_timer == at => self.send_ack(flow),
                SimulatorEvent::AckTimer(_) => {}
                SimulatorEvent::Ack { flow, received, marked } => self.ack(flow, received, marked),
                SimulatorEvent::LossTimer(flow) => self.detect_loss(flow),
                SimulatorEvent::ProbeTimer(flow) => self.probe(flow),
            }
            for flow in 0..self.flows.len() {
                self.transmit(flow);
            }
        }
    }

    /// Mbit/s that `flow` got between two times in ms.
    pub(super) fn mbit(&self, flow: usize, from_ms: u64, to_ms: u64) -> f64 {
        let sum = |of: fn(Tenth) -> u64| self.between(flow, from_ms, to_ms).map(of).sum::<u64>();
        let bytes = sum(|tenth| tenth.delivered).saturating_sub(sum(|tenth| tenth.spurious));
        bytes as f64 * 8.0 / ((to_ms - from_ms) as f64 * 1000.0)
    }

    /// Seconds until `flow` had got `bytes`; infinite when it has not.
    pub(super) fn seconds_to(&self, flow: usize, bytes: u64) -> f64 {
        let (mut got, mut sent_twice) = (0, 0);
        let done = self.tenths[flow].iter().position(|tenth| {
            got += tenth.delivered;
            sent_twice += tenth.spurious;
            got >= bytes + sent_twice
        });
        done.map_or(f64::INFINITY, |tenth| (tenth + 1) as f64 / 10.0)
    }

    /// Packets of `flow` that the queue dropped, in percent of those sent between two times in ms.
    pub(super) fn dropped_percent(&self, flow: usize, from_ms: u64, to_ms: u64) -> f64 {
        let sent: u64 = self.between(flow, from_ms, to_ms).map(|tenth| tenth.sent).sum();
        let dropped: u64 = self.between(flow, from_ms, to_ms).map(|tenth| tenth.dropped).sum();
        dropped as f64 * 100.0 / sent.max(1) as f64
    }

    /// Mean queue in ms that packets met after [`Simulator::measure_from_ms`].
    pub(super) fn mean_queue_ms(&self) -> f64 {
        self.queue_sum_us as f64 / 1000.0 / self.queue_seen.max(1) as f64
    }

    fn between(&self, flow: usize, from_ms: u64, to_ms: u64) -> impl Iterator<Item = Tenth> {
        (from_ms / 100..to_ms / 100).map(move |i| {
            usize::try_from(i).ok().and_then(|i| self.tenths[flow].get(i)).copied().unwrap_or_default()
        })
    }

    fn tenth(&mut self, flow: usize) -> &mut Tenth {
        let at = usize::try_from(self.now_us / 100_000).unwrap_or(0);
        let tenths = &mut self.tenths[flow];
        tenths.resize(tenths.len().max(at + 1), Tenth::default());
        &mut tenths[at]
    }

    fn at(&self, us: u64) -> Instant {
        self.start + Duration::from_micros(us)
    }

    fn push(&mut self, at: u64, event: SimulatorEvent) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }

    /// xorshift64*, below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % n
    }

    fn transmit(&mut self, flow: usize) {
        let now = self.now_us;
        let this = &self.flows[flow];
        let waits = this.wakes_at <= now + 1 && this.wakes_at != u64::MAX;
        if now < this.starts_us || now >= this.stops_us || waits {
            return;
        }
        while self.transmit_batch(flow) > 0 {}
    }

    /// Sends what quinn would send with one system call, and tells how many packets that are.
    fn transmit_batch(&mut self, flow: usize) -> u64 {
        let now = self.now_us;
        let at = self.at(now);
        let this = &mut self.flows[flow];
        let mut count = 0;
        while count < BATCH && this.sent.len() as u64 * PACKET + PACKET < this.window {
            if let Err(wakes_at) = this.take_tokens(now) {
                if wakes_at < this.wakes_at {
                    this.wakes_at = wakes_at;
                    self.push(wakes_at, SimulatorEvent::Wake(flow));
                }
                break;
            }
            this.sent.insert(this.next, (now, false));
            this.next += 1;
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        let this = &mut self.flows[flow];
        if let Control::Ours(rate) = &mut this.control {
            quinn::congestion::Controller::on_sent(&mut **rate, at, count * PACKET, this.next - 1);
        }
        this.take_window();
        let probes_at = now + probe_time(this.smoothed_us);
        this.probes_at = probes_at;
        let packets = this.next - count..this.next;
        self.push(probes_at, SimulatorEvent::ProbeTimer(flow));
        for packet in packets {
            self.cross(flow, packet);
        }
        count
    }

    /// Nothing was sent or acked for long: one packet goes out, whatever the window. Its ack tells what was lost.
    fn probe(&mut self, flow: usize) {
        let (now_us, now) = (self.now_us, self.at(self.now_us));
        let this = &mut self.flows[flow];
        if this.probes_at > now_us || this.sent.is_empty() {
            return;
        }
        let packet = this.next;
        this.sent.insert(packet, (now_us, false));
        this.next += 1;
        this.probes += 1;
        if let Control::Ours(rate) = &mut this.control {
            quinn::congestion::Controller::on_sent(&mut **rate, now, PACKET, packet);
        }
        let wait = (probe_time(this.smoothed_us) << this.probes.min(16)).min(PROBE_INTERVAL_US);
        this.probes_at = now_us + wait;
        let probes_at = this.probes_at;
        self.push(probes_at, SimulatorEvent::ProbeTimer(flow));
        self.cross(flow, packet);
    }

    fn cross(&mut self, flow: usize, packet: u64) {
        self.tenth(flow).sent += 1;
        if self.link.is_dead(self.now_us) {
            return self.drop(flow, packet);
        }
        let loss = self.link.loss_permille;
        if loss > 0 {
            let (burst, draw) = (self.link.burst, self.below(1_000_000));
            self.in_burst = if self.in_burst {
                draw >= 1_000_000 / burst
            } else {
                draw < loss * 1_000_000 / burst / (1000 - loss)
            };
            if self.in_burst {
                return self.drop(flow, packet);
            }
        }
        let now_ns = self.now_us * 1000;
        let queue_ns = self.line_free_ns.saturating_sub(now_ns);
        let tenth = usize::try_from(self.now_us / 100_000).unwrap_or(0);
        self.queues_us.resize(self.queues_us.len().max(tenth + 1), 0);
        self.queues_us[tenth] = self.queues_us[tenth].max(queue_ns / 1000);
        if self.now_us >= self.measure_from_ms * 1000 {
            self.queue_sum_us += queue_ns / 1000;
            self.queue_seen += 1;
        }
        if queue_ns > self.link.queue_ms * 1_000_000 {
            self.tenth(flow).dropped += 1;
            return self.drop(flow, packet);
        }
        let marked = self.link.mark_ms.is_some_and(|ms| queue_ns > ms * 1_000_000);
        self.line_free_ns = self.line_free_ns.max(now_ns) + PACKET * 8 * 1000 / self.link.rate(self.now_us);
        let leaves = if self.link.polices { self.now_us } else { self.line_free_ns / 1000 };
        let due = leaves + self.link.rtt_ms * 500 + self.jitter();
        self.push(due, SimulatorEvent::Arrival { flow, packet, marked });
    }

    fn drop(&mut self, flow: usize, packet: u64) {
        if let Some((_, dropped)) = self.flows[flow].sent.get_mut(&packet) {
            *dropped = true;
        }
    }

    fn jitter(&mut self) -> u64 {
        if self.link.jitter_us > 0 { self.below(self.link.jitter_us) } else { 0 }
    }

    fn arrive(&mut self, flow: usize, packet: u64, marked: bool) {
        let this = &mut self.flows[flow];
        this.newest = this.newest.max(packet);
        if packet + DUPLICATES_SPAN < this.newest {
            return;
        }
        this.received.push(packet);
        this.waiting += 1;
        this.marked |= marked;
        self.tenth(flow).delivered += PACKET;
        if self.flows[flow].waiting >= 2 {
            return self.send_ack(flow);
        }
        let timer = self.now_us + ACK_DELAY_US;
        self.flows[flow].ack_timer = timer;
        self.push(timer, SimulatorEvent::AckTimer(flow));
    }

    fn send_ack(&mut self, flow: usize) {
        let this = &mut self.flows[flow];
        this.ack_timer = u64::MAX;
        this.waiting = 0;
        let received = this.received.len();
        let marked = std::mem::take(&mut this.marked);
        if self.link.is_dead(self.now_us) {
            return;
        }
        let due = self.now_us + self.link.rtt_ms * 500 + self.jitter();
        self.push(
            due.next_multiple_of(self.link.ack_grid_us),
            SimulatorEvent::Ack { flow, received, marked },
        );
    }

    fn ack(&mut self, flow: usize, received: usize, marked: bool) {
        let (now_us, now) = (self.now_us, self.at(self.now_us));
        let start = self.start;
        let this = &mut self.flows[flow];
        let mut newest = None;
        for at in this.acked..received {
            let packet = this.received[at];
            let Some((sent, _)) = this.sent.remove(&packet) else { continue };
            if packet >= this.largest_acked {
                this.largest_acked = packet;
                newest = Some(sent);
            }
            let rtt = Duration::from_micros(this.smoothed_us);
            match &mut this.control {
                Control::Ours(rate) => rate.acked(now, start + Duration::from_micros(sent), PACKET, rtt),
                Control::Cubic(cubic) => cubic.on_ack(now, PACKET, rtt),
            }
        }
        if received <= this.acked {
            return;
        }
        this.acked = received;
        if let Control::Ours(rate) = &mut this.control {
            rate.acks_end(now, this.sent.len() as u64 * PACKET, false);
        }
        this.probes = 0;
        this.probes_at = now_us + probe_time(this.smoothed_us);
        if !this.sent.is_empty() {
            let probes_at = this.probes_at;
            self.push(probes_at, SimulatorEvent::ProbeTimer(flow));
        }
        let this = &mut self.flows[flow];
        if let Some(sent) = newest {
            let rtt = now_us - sent;
            this.latest_us = rtt;
            this.smoothed_us = (7 * this.smoothed_us + rtt) / 8;
            if marked {
                this.congested(now, start + Duration::from_micros(sent), false, 0);
            }
        }
        this.take_window();
        self.detect_loss(flow);
        self.tenth(flow).window = self.flows[flow].window;
    }

    fn detect_loss(&mut self, flow: usize) {
        let (now_us, now, start) = (self.now_us, self.at(self.now_us), self.start);
        let this = &mut self.flows[flow];
        let delay = (this.smoothed_us.max(this.latest_us) * LOSS_DELAY_PERCENT / 100).max(1000);
        let (mut lost, mut spurious) = (0, 0);
        let (mut oldest, mut newest) = (None, (0, 0));
        let mut next = None;
        while let Some((&packet, &(sent, dropped))) = this.sent.first_key_value() {
            if packet > this.largest_acked {
                break;
            }
            if now_us < sent + delay {
                next = Some(sent + delay);
                break;
            }
            this.sent.remove(&packet);
            lost += PACKET;
            spurious += if dropped { 0 } else { PACKET };
            oldest = oldest.or(Some((packet, sent)));
            newest = (packet, sent);
        }
        if let Some(oldest) = oldest {
            // RFC 9002, 7.6: nothing between the two has arrived.
            let is_persistent = (newest.0 - oldest.0 + 1) * PACKET == lost
                && newest.1 - oldest.1 > 3 * probe_time(this.smoothed_us);
            this.congested(now, start + Duration::from_micros(newest.1), is_persistent, lost);
            this.take_window();
        }
        self.tenth(flow).spurious += spurious;
        if let Some(next) = next.filter(|_| lost > 0) {
            self.push(next, SimulatorEvent::LossTimer(flow));
        }
    }
}

impl Flow {
    /// Takes a packet's tokens from quinn's pacer, or tells when to try again.
    fn take_tokens(&mut self, now: u64) -> Result<(), u64> {
        if self.tokens < PACKET {
            let (least, most) = BUCKET_PACKETS;
            let bucket = (self.window * BUCKET_US / self.smoothed_us).clamp(least * PACKET, most * PACKET);
            let new = self.window * 5 / 4 * (now - self.tokens_at) / self.smoothed_us;
            if self.tokens + new < PACKET {
                let wait = (2 * PACKET * self.smoothed_us) / (self.window * 5 / 4) + 1;
                return Err(self.tokens_at.max(now) + wait);
            }
            self.tokens = (self.tokens + new).min(bucket);
            self.tokens_at = now;
        }
        self.tokens -= PACKET;
        Ok(())
    }

    fn congested(&mut self, now: Instant, sent: Instant, is_persistent: bool, bytes: u64) {
        match &mut self.control {
            Control::Ours(rate) => rate.congested(now, sent, is_persistent, bytes),
            Control::Cubic(cubic) => cubic.on_congestion(now, sent),
        }
    }

    fn take_window(&mut self) {
        self.window = match &self.control {
            Control::Ours(rate) => quinn::congestion::Controller::window(&**rate),
            Control::Cubic(cubic) => cubic.window(),
        };
    }
}
