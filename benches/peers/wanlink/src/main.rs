//! Joins two network namespaces by a link with a chosen rate, delay, queue and loss.
//!
//! Each end is a TUN device, so every packet that crosses is a real IP packet (TCP, UDP, ICMP
//! alike) and passes through this process, which delays or drops it. It stands in for `tc netem`
//! on kernels that are built without it. Needs root.
//!
//! `wanlink --rate-mbit 200 --delay-ms 50 --loss 0.5 -- COMMAND...` makes the namespaces `wl-a`
//! (10.99.0.1) and `wl-b` (10.99.0.2), runs COMMAND, prints what crossed, and removes them.
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;

#[derive(Parser, Clone)]
struct Options {
    /// Rate of each direction, in Mbit/s (0: as fast as the machine can)
    #[arg(long, default_value_t = 0.0)]
    rate_mbit: f64,
    /// A later rate, as SECONDS:MBIT after the start; can be given several times
    #[arg(long, value_parser = rate_change)]
    then: Vec<(f64, f64)>,
    /// One-way delay, in ms; the round trip takes twice that
    #[arg(long, default_value_t = 0.0)]
    delay_ms: f64,
    /// Random extra delay of up to this many ms a packet; it reorders packets
    #[arg(long, default_value_t = 0.0)]
    jitter_ms: f64,
    /// Packets lost in each direction, in percent
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Mean length of a run of lost packets (1: each loss on its own)
    #[arg(long, default_value_t = 1.0)]
    burst: f64,
    /// Packets duplicated in each direction, in percent
    #[arg(long, default_value_t = 0.0)]
    duplicate: f64,
    /// Packets with one bit flipped, in percent (both ends see a bad checksum, or a bad AEAD tag)
    #[arg(long, default_value_t = 0.0)]
    corrupt: f64,
    /// Queue in front of the rate limit, in ms of line rate; what overflows is dropped
    #[arg(long, default_value_t = 50.0)]
    queue_ms: f64,
    /// Marks packets that wait for longer than this many ms in the queue with ECN's CE (RFC 3168), if they can be
    #[arg(long)]
    mark_ms: Option<f64>,
    /// MTU of both ends
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// After this many seconds the link drops everything...
    #[arg(long)]
    cut_after_s: Option<f64>,
    /// ...for this many seconds
    #[arg(long, default_value_t = 5.0)]
    cut_for_s: f64,
    /// Writes a line every 100 ms: seconds since the start, then packets and bytes that crossed, lost, overflowed and
    /// marked packets so far from a to b, and the same from b to a
    #[arg(long)]
    samples: Option<PathBuf>,
    /// Congestion control of TCP connections that cross (cubic, bbr, reno); most hosts run cubic
    #[arg(long, default_value = "cubic")]
    tcp: String,
    /// Prefix of the two namespaces
    #[arg(long, default_value = "wl")]
    name: String,
    /// Third octet of the addresses, 10.99.N.1 and 10.99.N.2
    #[arg(long, default_value_t = 0)]
    net: u8,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run with WL_A, WL_B (the addresses), WL_IN_A and WL_IN_B (prefixes that run a command inside an end)
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn rate_change(text: &str) -> Result<(f64, f64), String> {
    let (at, rate) = text.split_once(':').ok_or("want SECONDS:MBIT")?;
    Ok((at.parse().map_err(|e| format!("{at}: {e}"))?, rate.parse().map_err(|e| format!("{rate}: {e}"))?))
}

const SAMPLE_EVERY: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Counts {
    packets: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    overflowed: AtomicU64,
    marked: AtomicU64,
}

/// xorshift64*: the same losses for the same seed and packet sequence.
struct Rng(u64);
impl Rng {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

type Queue = Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)>;

fn ip(args: &str) -> io::Result<()> {
    let status = Command::new("ip").args(args.split_whitespace()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {args}: {status}"))) }
}

/// Opens a TUN device and moves it into namespace `ns` with address `addr`/24.
fn open_end(ns: &str, dev: &str, addr: &str, mtu: u32) -> io::Result<File> {
    let _ = Command::new("ip").args(["netns", "del", ns]).stderr(std::process::Stdio::null()).status();
    ip(&format!("netns add {ns}"))?;
    let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let file = unsafe { File::from_raw_fd(fd) };
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in req.ifr_name.iter_mut().zip(dev.bytes()) {
        *to = from as libc::c_char;
    }
    req.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &req) } < 0 {
        return Err(io::Error::last_os_error());
    }
    ip(&format!("link set {dev} netns {ns}"))?;
    ip(&format!("-n {ns} addr add {addr}/24 dev {dev}"))?;
    ip(&format!("-n {ns} link set {dev} mtu {mtu} txqueuelen 10000 up"))?;
    ip(&format!("-n {ns} link set lo up"))?;
    Ok(file)
}

fn read_end(mut tun: File, queue: Queue, opt: Options, seed: u64, counts: Arc<Counts>, start: Instant) {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (leave_bad, enter_bad) = {
        let leave = 1.0 / opt.burst.max(1.0);
        let p = opt.loss / 100.0;
        (leave, if p >= 1.0 { 1.0 } else { (leave * p / (1.0 - p)).min(1.0) })
    };
    let delay = Duration::from_secs_f64(opt.delay_ms / 1e3);
    let queue_limit = Duration::from_secs_f64(opt.queue_ms / 1e3);
    let mut line_free = Instant::now();
    let mut bad = false;
    let mut buf = vec![0u8; 65536];
    while let Ok(n) = tun.read(&mut buf) {
        let now = Instant::now();
        if opt.loss > 0.0 {
            bad = if bad { rng.unit() >= leave_bad } else { rng.unit() < enter_bad };
        }
        let cut = opt.cut_after_s.is_some_and(|at| {
            let t = (now - start).as_secs_f64();
            t >= at && t < at + opt.cut_for_s
        });
        if bad || cut {
            counts.lost.fetch_add(1, Relaxed);
            continue;
        }
        if line_free < now {
            line_free = now;
        }
        let elapsed = (now - start).as_secs_f64();
        let rate =
            opt.then.iter().rev().find(|(at, _)| elapsed >= *at).map_or(opt.rate_mbit, |(_, rate)| *rate);
        let mut mark = false;
        if rate > 0.0 {
            let waits = line_free - now;
            if waits > queue_limit {
                counts.overflowed.fetch_add(1, Relaxed);
                continue;
            }
            mark = opt.mark_ms.is_some_and(|at| waits.as_secs_f64() * 1e3 > at);
            line_free += Duration::from_secs_f64(n as f64 * 8.0 / (rate * 1e6));
        }
        let mut due = line_free + delay;
        if opt.jitter_ms > 0.0 {
            due += Duration::from_secs_f64(rng.unit() * opt.jitter_ms / 1e3);
        }
        let mut packet = buf[..n].to_vec();
        if mark && set_ce(&mut packet) {
            counts.marked.fetch_add(1, Relaxed);
        }
        if opt.corrupt > 0.0 && rng.unit() * 100.0 < opt.corrupt {
            let at = 20 + (rng.unit() * (n.saturating_sub(20)) as f64) as usize;
            if at < n {
                packet[at] ^= 1 << (rng.unit() * 8.0) as u32;
            }
        }
        counts.packets.fetch_add(1, Relaxed);
        counts.bytes.fetch_add(n as u64, Relaxed);
        let twice = opt.duplicate > 0.0 && rng.unit() * 100.0 < opt.duplicate;
        let (lock, ready) = &*queue;
        let mut q = lock.lock().unwrap();
        // Without jitter packets are queued in the order they are due.
        let at = if opt.jitter_ms > 0.0 { q.partition_point(|(d, _)| *d <= due) } else { q.len() };
        if twice {
            q.insert(at, (due, packet.clone()));
        }
        q.insert(at, (due, packet));
        ready.notify_one();
    }
}

/// Marks an IPv4 packet whose sender takes marks; its checksum changes by as much (RFC 1624).
fn set_ce(packet: &mut [u8]) -> bool {
    const CE: u8 = 3;
    if packet.len() < 20 || packet[0] >> 4 != 4 || packet[1] & CE == 0 {
        return false;
    }
    let before = u16::from_be_bytes([packet[0], packet[1]]);
    packet[1] |= CE;
    let after = u16::from_be_bytes([packet[0], packet[1]]);
    let sum =
        u32::from(!u16::from_be_bytes([packet[10], packet[11]])) + u32::from(!before) + u32::from(after);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    true
}

fn write_end(mut tun: File, queue: Queue) {
    let (lock, ready) = &*queue;
    loop {
        let mut q = lock.lock().unwrap();
        let due = loop {
            match q.front() {
                Some((due, _)) => break *due,
                None => q = ready.wait(q).unwrap(),
            }
        };
        let now = Instant::now();
        if due > now {
            drop(q);
            std::thread::sleep((due - now).min(Duration::from_millis(1)));
            continue;
        }
        let (_, packet) = q.pop_front().unwrap();
        drop(q);
        let _ = tun.write(&packet);
    }
}

fn write_samples(mut file: File, counts: [Arc<Counts>; 2], start: Instant) {
    for tick in 1.. {
        let due = start + SAMPLE_EVERY * tick;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut line = format!("{:.3}", start.elapsed().as_secs_f64());
        for count in counts.iter().flat_map(|c| [&c.packets, &c.bytes, &c.lost, &c.overflowed, &c.marked]) {
            line += &format!(" {}", count.load(Relaxed));
        }
        line.push('\n');
        if file.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn main() -> ExitCode {
    let opt = Options::parse();
    match run(&opt) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("wanlink: {e}");
            ExitCode::from(125)
        }
    }
}

fn run(opt: &Options) -> io::Result<u8> {
    let ns = [format!("{}-a", opt.name), format!("{}-b", opt.name)];
    let addr = [format!("10.99.{}.1", opt.net), format!("10.99.{}.2", opt.net)];
    let a = open_end(&ns[0], &format!("{}tuna", opt.name), &addr[0], opt.mtu)?;
    let b = open_end(&ns[1], &format!("{}tunb", opt.name), &addr[1], opt.mtu)?;
    for (ns, end) in ns.iter().zip(["a", "b"]) {
        let (name, net) = (&opt.name, opt.net);
        ip(&format!("-n {ns} route replace 10.99.{net}.0/24 dev {name}tun{end} congctl {}", opt.tcp))?;
    }
    let counts: [Arc<Counts>; 2] = Default::default();
    let start = Instant::now();
    for (i, (from, to)) in [(&a, &b), (&b, &a)].into_iter().enumerate() {
        let queue: Queue = Default::default();
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (q, o, c) = (queue.clone(), opt.clone(), counts[i].clone());
        let seed = opt.seed * 2 + i as u64;
        std::thread::spawn(move || read_end(from, q, o, seed, c, start));
        std::thread::spawn(move || write_end(to, queue));
    }
    if let Some(path) = &opt.samples {
        let (file, counts) = (File::create(path)?, counts.clone());
        std::thread::spawn(move || write_samples(file, counts, start));
    }
    let status = Command::new(&opt.command[0])
        .args(&opt.command[1..])
        .env("WL_A", &addr[0])
        .env("WL_B", &addr[1])
        .env("WL_IN_A", format!("ip netns exec {}", ns[0]))
        .env("WL_IN_B", format!("ip netns exec {}", ns[1]))
        .status();
    for (i, way) in ["a->b", "b->a"].iter().enumerate() {
        let c = &counts[i];
        eprintln!(
            "wanlink {way}: {} packets, {} bytes crossed; {} lost, {} overflowed, {} marked",
            c.packets.load(Relaxed),
            c.bytes.load(Relaxed),
            c.lost.load(Relaxed),
            c.overflowed.load(Relaxed),
            c.marked.load(Relaxed)
        );
    }
    for n in &ns {
        let _ = ip(&format!("netns del {n}"));
    }
    Ok(status?.code().unwrap_or(126) as u8)
}
