//! The result of a bench, for people.

use super::format;
use super::summary::limits;
use crate::event::Bench;
use crate::protocol::failure::Side;

/// Processor time for each GiB that travelled, seconds; 0 when nothing did.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn cpu_seconds_per_gib(bench: &Bench) -> f64 {
    let gib = bench.summary.bytes as f64 / f64::from(1 << 30);
    if gib > 0.0 { bench.cpu.as_secs_f64() / gib } else { 0.0 }
}

/// A line for each figure, its name first.
pub(super) fn table(bench: &Bench) -> String {
    let rows = [
        ("transfer", transfer(bench)),
        ("time", format::duration(bench.summary.elapsed)),
        ("goodput", goodput(bench)),
        ("round trip", format!("{:.3} ms", bench.rtt.as_secs_f64() * 1000.0)),
        ("packets", packets(bench)),
        ("MTU", format!("{} bytes of UDP payload", bench.mtu_bytes)),
        ("streams", format!("{} at most", bench.streams)),
        ("processor", processor(bench)),
        ("limited by", limits(&bench.summary)),
    ];
    rows.into_iter().map(|(name, figure)| format!("{name:<12}{figure}\n")).collect()
}

fn transfer(bench: &Bench) -> String {
    let summary = &bench.summary;
    let (verb, place) = match (summary.side, bench.with_itself, bench.on_disk) {
        (_, true, false) => ("sent and received", "from memory to nothing"),
        (_, true, true) => ("sent and received", "from disk to disk"),
        (Side::Sender, false, false) => ("sent", "from memory"),
        (Side::Sender, false, true) => ("sent", "from disk"),
        (Side::Receiver, false, false) => ("received", "to nothing"),
        (Side::Receiver, false, true) => ("received", "to disk"),
    };
    let (bytes, files) = (format::bytes(summary.bytes), format::count(summary.files, "file", "files"));
    let failed = if summary.failed > 0 { format!(", {} failed", summary.failed) } else { String::new() };
    format!("{bytes} in {files} {verb}, {place}{failed}")
}

fn goodput(bench: &Bench) -> String {
    let (bytes, files) = (bench.summary.bytes, bench.summary.files);
    let elapsed = bench.summary.elapsed;
    let rate = format::bytes_per_second(bytes, elapsed);
    let mut out = format!("{}/s, {} Mbit/s", format::bytes(rate), rate.saturating_mul(8) / 1_000_000);
    if files > 1 {
        out += &format!(", {} files/s", format::bytes_per_second(files, elapsed));
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn packets(bench: &Bench) -> String {
    let (sent, lost) = (bench.sent_packets, bench.lost_packets);
    let percent = 100.0 * lost as f64 / sent.max(1) as f64;
    let side = if bench.with_itself { "the sender" } else { "this side" };
    format!("{sent} sent by {side}, {lost} of them lost ({percent:.2} %)")
}

fn processor(bench: &Bench) -> String {
    let sides = if bench.with_itself { "both sides" } else { "this side" };
    let (cpu, per_gib) = (bench.cpu.as_secs_f64(), cpu_seconds_per_gib(bench));
    format!("{cpu:.2} s user and system, {per_gib:.2} s for each GiB ({sides})")
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Summary;
    use crate::protocol::engine::bottleneck::Bottleneck;

    /// 3 GiB in 2 s.
    pub(in crate::ui) fn bench(side: Side) -> Bench {
        let summary = Summary {
            side,
            files: 1,
            dirs: 1,
            links: 0,
            identical: 0,
            unchanged: 0,
            updated: 0,
            skipped: 0,
            failed: 0,
            gravest: None,
            bytes: 3 << 30,
            sent_bytes: 3 << 30,
            saved_bytes: 0,
            resumed_bytes: 0,
            copied_bytes: 0,
            elapsed: Duration::from_secs(2),
            blake3: None,
            limited_by: vec![(Bottleneck::Processor, 75), (Bottleneck::Network, 25)],
            synced: true,
            piped: false,
            verified: None,
            program: None,
            receipt: None,
            not_kept: Vec::new(),
            removed: None,
            left_out: 0,
            is_dry: false,
            deleted: None,
        };
        Bench {
            summary,
            with_itself: side == Side::Sender,
            on_disk: false,
            rtt: Duration::from_micros(1500),
            mtu_bytes: 1452,
            sent_packets: 2000,
            lost_packets: 5,
            streams: 32,
            cpu: Duration::from_secs(6),
        }
    }

    #[test]
    fn a_table_has_each_figure_with_its_unit() {
        assert_eq!(
            table(&bench(Side::Sender)),
            "transfer    3.00 GiB in 1 file sent and received, from memory to nothing\n\
             time        2.0s\n\
             goodput     1.50 GiB/s, 12884 Mbit/s\n\
             round trip  1.500 ms\n\
             packets     2000 sent by the sender, 5 of them lost (0.25 %)\n\
             MTU         1452 bytes of UDP payload\n\
             streams     32 at most\n\
             processor   6.00 s user and system, 2.00 s for each GiB (both sides)\n\
             limited by  processor 75 %, network 25 %\n"
        );
    }

    #[test]
    fn a_table_says_which_side_and_which_disk() {
        let mut received = Bench { on_disk: true, ..bench(Side::Receiver) };
        received.summary.files = 3;
        received.summary.failed = 1;
        let table = table(&received);
        assert!(table.contains("3.00 GiB in 3 files received, to disk, 1 failed\n"), "{table}");
        assert!(table.contains("(this side)"), "{table}");
        assert!(table.contains(", 1 files/s\n"), "{table}");
    }

    #[test]
    fn an_empty_bench_divides_by_nothing() {
        let mut none = Bench { sent_packets: 0, lost_packets: 0, ..bench(Side::Sender) };
        none.summary.bytes = 0;
        none.summary.elapsed = Duration::ZERO;
        let table = table(&none);
        assert!(table.contains("0 B/s, 0 Mbit/s") && table.contains("(0.00 %)"), "{table}");
        assert_eq!(cpu_seconds_per_gib(&none), 0.0);
    }
}
