//! The link of the end-to-end tests does what it is asked to.

#![allow(clippy::print_stderr, reason = "a failing test says its seed")]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::Seed;
use crate::support::link::{Cut, Delivery, Direction, Fate, Lane, LinkOptions, UdpLink};
use crate::support::ticket::redirect;

const DEADLINE: Duration = Duration::from_secs(20);

/// A socket that waits and one that dials.
fn pair() -> (UdpSocket, UdpSocket) {
    let sockets = [(); 2].map(|()| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        socket
    });
    let [listener, dialler] = sockets;
    (listener, dialler)
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

/// Sends `count` numbered packets up, waits until the link is done with them, and returns what arrived.
fn send_numbered(options: &LinkOptions, count: u32) -> Vec<Vec<u8>> {
    let (listener, dialler) = pair();
    let link = UdpLink::start(address(&listener), options);
    let mut arrived = Vec::new();
    // In small groups, so that no socket buffer overflows.
    for group in 0..count.div_ceil(50) {
        let end = count.min((group + 1) * 50);
        for number in group * 50..end {
            dialler.send_to(&number.to_be_bytes(), link.addr).expect("sent");
        }
        let statistics =
            link.wait_until(Direction::Up, DEADLINE, |s| s.offered == u64::from(end) && s.on_the_way == 0);
        while (arrived.len() as u64) < statistics.delivered {
            let mut buffer = [0; 100];
            let (len, _) = listener.recv_from(&mut buffer).expect("what was delivered can be read");
            arrived.push(buffer[..len].to_vec());
        }
    }
    arrived
}

fn numbers(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_be_bytes().to_vec()).collect()
}

#[test]
fn a_perfect_link_passes_everything_in_order_both_ways() {
    assert_eq!(send_numbered(&LinkOptions::default(), 200), numbers(200));

    let (listener, dialler) = pair();
    let link = UdpLink::start(address(&listener), &LinkOptions::default());
    let mut buffer = vec![0; 65_535];
    for len in [0, 1, 1452, 65_507] {
        let sent = vec![7; len];
        dialler.send_to(&sent, link.addr).expect("sent");
        let (got, from) = listener.recv_from(&mut buffer).expect("it comes through");
        assert_eq!(buffer[..got], sent);
        assert_ne!(from, address(&dialler), "it comes through the link");
        listener.send_to(&sent, from).expect("sent");
        let (got, from) = dialler.recv_from(&mut buffer).expect("the answer comes through");
        assert_eq!(buffer[..got], sent);
        assert_eq!(from, link.addr);
    }
}

#[test]
fn two_diallers_get_their_own_answers() {
    let (listener, first) = pair();
    let (_, second) = pair();
    let link = UdpLink::start(address(&listener), &LinkOptions::default());
    let mut buffer = [0; 10];
    for (dialler, word) in [(&first, b"1"), (&second, b"2"), (&first, b"3")] {
        dialler.send_to(word, link.addr).expect("sent");
        let (len, from) = listener.recv_from(&mut buffer).expect("it comes through");
        listener.send_to(&buffer[..len], from).expect("sent");
        let (len, _) = dialler.recv_from(&mut buffer).expect("the answer comes to the one who asked");
        assert_eq!(&buffer[..len], word);
    }
}

#[test]
fn loss_is_near_what_was_asked_for() {
    let seed = Seed::new(21);
    let mut lane =
        Lane::new(&LinkOptions { seed: seed.value, loss: 0.05, ..Default::default() }, Direction::Up);
    let lost = (0..20_000).filter(|_| lane.fate(Duration::ZERO, 1200) == Fate::Lost).count();
    // Five standard deviations are 154.
    assert!((846..=1154).contains(&lost), "{lost} of 20,000");

    let arrived = send_numbered(&LinkOptions { seed: seed.value, loss: 0.3, ..Default::default() }, 500);
    assert!((299..=401).contains(&arrived.len()), "{} of 500", arrived.len());
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    let seed = Seed::new(22);
    let options =
        LinkOptions { seed: seed.value, loss: 0.2, duplicate: 0.2, corrupt: 0.2, ..Default::default() };
    let first = send_numbered(&options, 300);
    assert_eq!(first, send_numbered(&options, 300));
    let other = LinkOptions { seed: seed.value ^ 1, ..options };
    assert_ne!(first, send_numbered(&other, 300));
}

#[test]
fn decisions_depend_neither_on_time_nor_on_length() {
    let seed = Seed::new(23);
    let options = LinkOptions { seed: seed.value, loss: 0.5, ..Default::default() };
    let mut quick = Lane::new(&options, Direction::Up);
    let mut slow = Lane::new(&options, Direction::Up);
    let mut down = Lane::new(&options, Direction::Down);
    let quick: Vec<_> = (0..100).map(|_| quick.fate(Duration::ZERO, 1) == Fate::Lost).collect();
    let slow: Vec<_> = (0..100).map(|n| slow.fate(Duration::from_secs(n), 1452) == Fate::Lost).collect();
    let down: Vec<_> = (0..100).map(|_| down.fate(Duration::ZERO, 1) == Fate::Lost).collect();
    assert_eq!(quick, slow);
    assert_ne!(quick, down, "the directions have decisions of their own");
}

#[test]
fn a_packet_is_not_early() {
    let (listener, dialler) = pair();
    let delay = Duration::from_millis(60);
    let link = UdpLink::start(address(&listener), &LinkOptions { delay, ..Default::default() });
    let mut buffer = [0; 10];
    let start = Instant::now();
    dialler.send_to(b"ping", link.addr).expect("sent");
    let (len, from) = listener.recv_from(&mut buffer).expect("it comes through");
    assert!(start.elapsed() >= delay);
    listener.send_to(&buffer[..len], from).expect("sent");
    dialler.recv_from(&mut buffer).expect("the answer comes through");
    assert!(start.elapsed() >= 2 * delay);
}

#[test]
fn the_rate_spaces_packets_and_a_full_queue_drops() {
    let ms = Duration::from_millis;
    let options =
        LinkOptions { rate_bytes_per_s: Some(100_000), queue: ms(25), delay: ms(5), ..Default::default() };
    let mut lane = Lane::new(&options, Direction::Up);
    let at = |at| Fate::Delivered(vec![Delivery { at, flipped_bit: None }]);
    // 1000 bytes take 10 ms.
    assert_eq!(lane.fate(ms(0), 1000), at(ms(15)));
    assert_eq!(lane.fate(ms(0), 1000), at(ms(25)));
    assert_eq!(lane.fate(ms(0), 1000), at(ms(35)));
    assert_eq!(lane.fate(ms(0), 1000), Fate::QueueFull);
    assert_eq!(lane.fate(ms(10), 1000), at(ms(45)));
    assert_eq!(lane.fate(ms(100), 1000), at(ms(115)), "an idle link does not save up");
}

#[test]
fn the_rate_can_change() {
    let (listener, dialler) = pair();
    let slow = LinkOptions { rate_bytes_per_s: Some(1), ..Default::default() };
    let link = UdpLink::start(address(&listener), &slow);
    dialler.send_to(b"would take minutes", link.addr).expect("sent");
    link.wait_until(Direction::Up, DEADLINE, |s| s.on_the_way == 1);
    link.set_rate(None);
    dialler.send_to(b"quick", link.addr).expect("sent");
    let mut buffer = [0; 20];
    let (len, _) = listener.recv_from(&mut buffer).expect("it comes through");
    assert_eq!(&buffer[..len], b"quick");
}

#[test]
fn corruption_flips_exactly_one_bit() {
    let seed = Seed::new(24);
    let options = LinkOptions { seed: seed.value, corrupt: 1.0, ..Default::default() };
    let arrived = send_numbered(&options, 100);
    assert_eq!(arrived.len(), 100);
    for (sent, got) in numbers(100).iter().zip(&arrived) {
        let flipped: u32 = sent.iter().zip(got).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((sent.len(), flipped), (got.len(), 1));
    }
}

#[test]
fn duplicates_arrive_twice() {
    let mut arrived = send_numbered(&LinkOptions { duplicate: 1.0, ..Default::default() }, 50);
    arrived.sort();
    assert_eq!(arrived, numbers(50).into_iter().flat_map(|n| [n.clone(), n]).collect::<Vec<_>>());
}

#[test]
fn jitter_reorders_and_loses_nothing() {
    let seed = Seed::new(25);
    let options = LinkOptions { seed: seed.value, jitter: Duration::from_millis(30), ..Default::default() };
    let mut arrived = send_numbered(&options, 50);
    assert_ne!(arrived, numbers(50));
    arrived.sort();
    assert_eq!(arrived, numbers(50));
}

#[test]
fn a_cut_stops_everything_until_it_is_healed() {
    let (listener, dialler) = pair();
    let delay = Duration::from_millis(50);
    let link = UdpLink::start(address(&listener), &LinkOptions { delay, ..Default::default() });
    dialler.send_to(b"on the way", link.addr).expect("sent");
    link.wait_until(Direction::Up, DEADLINE, |s| s.on_the_way == 1 || s.delivered == 1);
    link.cut();
    dialler.send_to(b"into the cut", link.addr).expect("sent");
    let statistics = link.wait_until(Direction::Up, DEADLINE, |s| s.offered == 2);
    assert_eq!(statistics.cut + statistics.delivered, 2, "{statistics:?}");
    assert!(statistics.cut >= 1);
    link.heal();
    dialler.send_to(b"after it", link.addr).expect("sent");
    let mut buffer = [0; 20];
    for _ in 0..=statistics.delivered {
        let (len, _) = listener.recv_from(&mut buffer).expect("it comes through");
        assert_ne!(&buffer[..len], b"into the cut");
    }
    assert_eq!(&buffer[..8], b"after it");
}

#[test]
fn a_planned_cut_comes_after_its_bytes_and_heals_by_itself() {
    let (listener, dialler) = pair();
    let cut = Cut { after_bytes: 30, lasts: Some(Duration::ZERO) };
    let link = UdpLink::start(address(&listener), &LinkOptions { cut: Some(cut), ..Default::default() });
    for offered in 1..=4 {
        dialler.send_to(&[0; 10], link.addr).expect("sent");
        link.wait_until(Direction::Up, DEADLINE, |s| s.offered == offered && s.on_the_way == 0);
    }
    // The cut lasts no time: everything passes, and the plan is used up.
    assert_eq!(link.statistics(Direction::Up).delivered, 4);

    let (listener, dialler) = pair();
    let cut = Cut { after_bytes: 30, lasts: None };
    let link = UdpLink::start(address(&listener), &LinkOptions { cut: Some(cut), ..Default::default() });
    for offered in 1..=4 {
        dialler.send_to(&[0; 10], link.addr).expect("sent");
        link.wait_until(Direction::Up, DEADLINE, |s| s.offered == offered && s.on_the_way == 0);
    }
    let statistics = link.statistics(Direction::Up);
    assert_eq!((statistics.delivered, statistics.cut), (2, 2));
}

#[test]
fn a_redirected_ticket_keeps_everything_but_the_port() {
    // For 192.0.2.7:4750 and [2001:db8::7]:65535, with its checksum.
    let ticket = "tl1chaaaaqhckhcaainxaaaaaaaaaaaaaaaaaaap777ljnfuws2ljnfuws2ljnfuws2ljnfuws2uws2ljnfuws2ljnfuws2ljnfuxp7wnsx";
    let [from, to] = ["192.0.2.7:4750", "192.0.2.7:4751"].map(|a| a.parse().expect("an address"));
    let redirected = redirect(ticket, from, to);
    let differing = ticket.bytes().zip(redirected.bytes()).filter(|(a, b)| a != b).count();
    // The port differs by one bit, the checksum by all of its seven letters or a few less.
    assert!((3..=8).contains(&differing), "{redirected}");
    assert_eq!(redirect(&redirected, to, from), ticket);
}
