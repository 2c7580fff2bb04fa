//! Batches of datagrams gathered for one call with segmentation offload.
//!
//! quinn gives its socket at most ten datagrams at a time. At an MTU of 1500 that costs a system call, a pass through
//! the IP stack and often a wake-up of the peer per 14 KiB, while a call can carry 64 KiB. So a full batch waits here
//! for the next one, which arrives within microseconds in a bulk transfer: it waits while the connection keeps
//! sending, and the connection is woken so that it does not wait longer. A partial batch is the end of a burst and is
//! sent at once, together with the held ones. Pacing has decided on the amount before.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use quinn::UdpPoller;
use quinn::udp::{EcnCodepoint, Transmit};

/// Datagrams that quinn makes at once when there is enough data.
const BATCH_SEGMENTS: usize = 10;
/// Datagrams after which quinn interrupts itself although it has more to send, and continues later. With another
/// number, batches would wait in vain or go alone, but none would be lost.
const ROUND_SEGMENTS: usize = 20;

/// The datagrams held for one socket, in order.
#[derive(Debug)]
pub(in crate::transport) struct Gather {
    contents: Vec<u8>,
    /// Properties of the held datagrams.
    head: Option<Head>,
    /// Datagrams since the last [`Gather::begin`].
    came: usize,
    /// The sender; nothing is held without one.
    driver: Option<Waker>,
    poller: Pin<Box<dyn UdpPoller>>,
}

/// Common properties of the datagrams of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
    segment: usize,
}

impl Gather {
    /// Starts empty. `poller` is another poller of the socket.
    pub(in crate::transport) fn new(poller: Pin<Box<dyn UdpPoller>>) -> Self {
        Self { contents: Vec::new(), head: None, came: 0, driver: None, poller }
    }

    /// The task to wake for held datagrams.
    pub(in crate::transport) fn sent_by(&mut self, driver: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
    }

    /// Takes datagrams of `segment` bytes (the last may be shorter), of which a call takes `at_once`, and sends them
    /// with `send`, or holds them. `WouldBlock` means that they were not taken; any other error comes from `send`.
    pub(in crate::transport) fn send(
        &mut self,
        transmit: &Transmit<'_>,
        segment: usize,
        at_once: usize,
        send: impl Fn(&Transmit<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Transmit { destination, ecn, src_ip, contents, .. } = *transmit;
        let head = Head { destination, ecn, src_ip, segment };
        let segments = contents.len().div_ceil(segment);
        self.came += segments;
        // Nothing may follow a shorter datagram.
        let fits = self.contents.len().is_multiple_of(segment)
            && self.contents.len() + contents.len() <= at_once * segment;
        if self.head.is_some() && !(self.head == Some(head) && fits) {
            self.flush(&send)?;
        }
        let goes_on = segments >= BATCH_SEGMENTS && contents.len() == segments * segment;
        let has_room = self.contents.len() + 2 * contents.len() <= at_once * segment;
        let holds = goes_on && has_room && self.driver.is_some();
        if self.head.is_none() && !holds {
            return send(transmit);
        }
        if self.head.is_none() {
            self.wake();
        }
        self.head = Some(head);
        self.contents.extend_from_slice(contents);
        if !holds {
            self.flush_or_wait(send);
        }
        Ok(())
    }

    /// A connection begins to send. If it had ended by itself before, held datagrams have nothing to wait for.
    pub(in crate::transport) fn begin(&mut self, send: impl Fn(&Transmit<'_>) -> io::Result<()>) {
        let was_interrupted = mem::take(&mut self.came) >= ROUND_SEGMENTS;
        if self.head.is_none() {
            return;
        }
        if was_interrupted {
            self.wake();
        } else {
            self.flush_or_wait(send);
        }
    }

    fn wake(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    fn flush(&mut self, send: impl Fn(&Transmit<'_>) -> io::Result<()>) -> io::Result<()> {
        let Some(Head { destination, ecn, src_ip, segment }) = self.head else { return Ok(()) };
        let contents = self.contents.as_slice();
        let segment_size = (contents.len() > segment).then_some(segment);
        let sent = send(&Transmit { destination, ecn, contents, segment_size, src_ip });
        if !sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.head = None;
            self.contents.clear();
        }
        sent
    }

    /// Sends the held datagrams; if the kernel takes no more, the connection is woken when it does. Any other error
    /// is left to the next send: these have been taken already.
    fn flush_or_wait(&mut self, send: impl Fn(&Transmit<'_>) -> io::Result<()>) {
        while self.flush(&send).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            let Some(driver) = self.driver.clone() else { return };
            if !matches!(
                self.poller.as_mut().poll_writable(&mut Context::from_waker(&driver)),
                Poll::Ready(Ok(()))
            ) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    const SEGMENT: usize = 1452;
    const AT_ONCE: usize = 45;

    #[derive(Default)]
    struct CountedWakes(AtomicUsize);

    impl Wake for CountedWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// Ready when the kernel says so; the test wakes by itself.
    #[derive(Debug)]
    struct NotNow;

    impl UdpPoller for NotNow {
        fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A gathering with what went through it, as calls of datagrams.
    struct GatherRig {
        gather: Gather,
        driver: Arc<CountedWakes>,
        calls: RefCell<Vec<Vec<Vec<u8>>>>,
        is_blocked: Cell<bool>,
    }

    impl GatherRig {
        fn new() -> Self {
            let driver = Arc::new(CountedWakes::default());
            let mut gather = Gather::new(Box::pin(NotNow));
            gather.sent_by(&Waker::from(driver.clone()));
            Self { gather, driver, calls: RefCell::default(), is_blocked: Cell::new(false) }
        }

        fn kernel(&self) -> impl Fn(&Transmit<'_>) -> io::Result<()> {
            |transmit| {
                if self.is_blocked.get() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
                let datagrams: Vec<_> = transmit.contents.chunks(segment).map(<[u8]>::to_vec).collect();
                assert!(datagrams.len() <= AT_ONCE);
                self.calls.borrow_mut().push(datagrams);
                Ok(())
            }
        }

        fn send(&mut self, port: u16, contents: &[u8]) -> io::Result<()> {
            let destination = ([127, 0, 0, 1], port).into();
            let segment = SEGMENT.min(contents.len());
            let segment_size = (contents.len() > segment).then_some(segment);
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            let mut gather = mem::replace(&mut self.gather, Gather::new(Box::pin(NotNow)));
            let sent = gather.send(&transmit, segment, AT_ONCE, self.kernel());
            self.gather = gather;
            sent
        }

        fn begin(&mut self) {
            let mut gather = mem::replace(&mut self.gather, Gather::new(Box::pin(NotNow)));
            gather.begin(self.kernel());
            self.gather = gather;
        }

        /// Datagrams of each call.
        fn sizes(&self) -> Vec<usize> {
            self.calls.borrow().iter().map(Vec::len).collect()
        }

        fn woken(&self) -> usize {
            self.driver.0.swap(0, Relaxed)
        }
    }

    fn batch(datagrams: usize) -> Vec<u8> {
        vec![0; datagrams * SEGMENT]
    }

    #[test]
    fn full_batches_wait_for_the_next_and_go_with_the_end_of_the_burst() {
        let mut rig = GatherRig::new();
        rig.begin();
        rig.send(1, &batch(10)).unwrap();
        rig.send(1, &batch(10)).unwrap();
        assert_eq!(rig.woken(), 1);
        rig.begin();
        rig.send(1, &batch(10)).unwrap();
        assert_eq!(rig.sizes(), [0; 0]);
        rig.send(1, &batch(3)[100..]).unwrap();
        assert_eq!(rig.sizes(), [33]);
    }

    #[test]
    fn a_batch_is_sent_when_no_other_fits_behind_it() {
        let mut rig = GatherRig::new();
        for _ in 0..9 {
            rig.send(1, &batch(10)).unwrap();
        }
        assert_eq!(rig.sizes(), [40, 40]);
    }

    #[test]
    fn held_batches_are_sent_when_nothing_follows() {
        let mut rig = GatherRig::new();
        rig.begin();
        rig.send(1, &batch(10)).unwrap();
        assert_eq!(rig.woken(), 1);
        rig.begin();
        assert_eq!(rig.sizes(), [10], "the burst had ended with a full batch");

        rig.send(1, &batch(10)).unwrap();
        rig.send(1, &batch(10)).unwrap();
        rig.woken();
        rig.begin();
        assert_eq!((rig.sizes(), rig.woken()), (vec![10], 1), "it may have been interrupted");
        rig.begin();
        assert_eq!(rig.sizes(), [10, 20]);
    }

    #[test]
    fn small_batches_and_those_of_nobody_go_at_once() {
        let mut rig = GatherRig::new();
        rig.send(1, &batch(9)).unwrap();
        rig.send(1, &batch(10)[1..]).unwrap();
        rig.send(1, b"an ack").unwrap();
        assert_eq!(rig.sizes(), [9, 10, 1]);
        assert_eq!(rig.woken(), 0);
        rig.gather.driver = None;
        rig.send(1, &batch(10)).unwrap();
        assert_eq!(rig.sizes(), [9, 10, 1, 10]);
    }

    #[test]
    fn another_peer_or_size_goes_behind_what_is_held() {
        let mut rig = GatherRig::new();
        rig.send(1, &batch(10)).unwrap();
        rig.send(2, &batch(10)).unwrap();
        rig.send(2, b"an ack").unwrap();
        assert_eq!(rig.sizes(), [10, 10, 1]);
    }

    #[test]
    fn a_full_kernel_is_waited_for() {
        let mut rig = GatherRig::new();
        rig.is_blocked.set(true);
        rig.send(1, &batch(10)).unwrap();
        rig.send(1, &batch(2)[1..]).unwrap();
        let refused = rig.send(1, &batch(2)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        rig.begin();
        assert_eq!(rig.sizes(), [0; 0]);
        rig.is_blocked.set(false);
        rig.begin();
        assert_eq!(rig.sizes(), [12]);
    }

    proptest! {
        /// Whatever comes, each datagram that was taken goes once, in order, cut where it was.
        #[test]
        fn nothing_is_lost_cut_or_overtaken(
            steps in prop::collection::vec((0u8..8, 1u16..3, 1usize..12, 0usize..SEGMENT), 1..60),
        ) {
            let mut rig = GatherRig::new();
            let (mut taken, mut number) = (VecDeque::new(), 0u32);
            for (step, port, datagrams, missing) in steps {
                match step {
                    0 => rig.is_blocked.set(!rig.is_blocked.get()),
                    1 => rig.begin(),
                    _ => {
                        let mut contents = Vec::new();
                        for _ in 0..datagrams {
                            let start = contents.len();
                            contents.extend_from_slice(&number.to_be_bytes());
                            contents.resize(start + SEGMENT, 0);
                            number += 1;
                        }
                        if step < 4 {
                            contents.truncate((contents.len() - missing).max(4));
                        }
                        if rig.send(port, &contents).is_ok() {
                            taken.extend(contents.chunks(SEGMENT).map(<[u8]>::to_vec));
                        }
                    }
                }
            }
            rig.is_blocked.set(false);
            // Woken each time, the connection begins again; the first time it may have been interrupted.
            rig.begin();
            rig.begin();
            let went: VecDeque<_> = rig.calls.borrow().iter().flatten().cloned().collect();
            prop_assert_eq!(went, taken);
        }
    }
}
