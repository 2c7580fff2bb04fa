//! Flags of both sides of a transfer.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::cli::bwlimit::parse_bwlimit;
use crate::cli::size::{parse_duration, parse_listen, parse_ports, parse_retry};
use crate::node::size::parse_size;
use crate::session::Retry;
use crate::session::schedule::Schedule;
use crate::transport::Congestion;
use crate::transport::address::PortRange;

/// Flags of both sides of a transfer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Transfer options")]
pub struct TransferArgs {
    /// Address to listen on [default: port 4750]
    ///
    /// Without it, towline listens on UDP port 4750 of all addresses, or on a free port when 4750 is in use. A port that
    /// is given here must be free.
    #[arg(long, env = "TOWLINE_LISTEN", hide_env = true, value_name = "ADDR:PORT")]
    #[arg(value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,

    /// UDP ports to listen on, instead of --listen
    ///
    /// The first one that is free is used, on all addresses. With ssh:, it is for the side on the other machine: open these
    /// ports in its firewall.
    #[arg(long, env = "TOWLINE_PORT_RANGE", hide_env = true, hide_short_help = true, value_name = "A-B")]
    #[arg(value_parser = parse_ports)]
    pub port_range: Option<PortRange>,

    /// Fingerprint of the peer; run `towline id` there
    ///
    /// The dialling side accepts only a peer with this fingerprint. The waiting side admits this peer without a
    /// ticket, and still admits whoever has the ticket.
    #[arg(long, env = "TOWLINE_FINGERPRINT", hide_env = true, value_name = "FP")]
    pub fingerprint: Option<String>,

    /// Maximum bytes a second, such as 2M [default: off]
    ///
    /// A size in bytes a second, at least 1k: 2M is 2 MiB a second. `off` or 0 means no limit. A window of local time
    /// can have its own rate: 08:00-18:00=2M. A window may cross midnight. Commas separate windows. A rate without a
    /// window applies outside all windows: 08:00-18:00=2M,10M. Only file data counts; packet headers add about 4 % on
    /// Ethernet. Either side can set a limit; the lower one applies.
    #[arg(long, env = "TOWLINE_BWLIMIT", hide_env = true, value_name = "RATE")]
    #[arg(value_parser = parse_bwlimit)]
    pub bwlimit: Option<Schedule>,

    /// Memory for the transfer, at least 8M and 8 times --chunk-size [default: 64M]
    #[arg(long, env = "TOWLINE_MEMORY", hide_env = true, hide_short_help = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub memory: Option<u64>,

    /// Maximum parcels in flight [default: as many as memory allows]
    ///
    /// A parcel is one chunk of a large file, or several small files.
    #[arg(long, env = "TOWLINE_STREAMS", hide_env = true, hide_short_help = true, value_name = "N")]
    pub streams: Option<u32>,

    /// QUIC connections to the peer [default: what the peer asks for, or 1]
    ///
    /// Each connection uses its own UDP port and its own processor core on both sides. More connections help where a
    /// core is the bottleneck. While the network is the bottleneck, all data goes over one connection.
    /// When both sides give a number, the smaller one counts. If the firewall of the waiting side blocks some of
    /// the ports, towline uses the others.
    #[arg(long, env = "TOWLINE_CONNECTIONS", hide_env = true, hide_short_help = true, value_name = "N")]
    pub connections: Option<u32>,

    /// Chunk size, a power of two from 1M to 64M [default: 1M]
    ///
    /// Sizes are numbers of bytes. They may end with k, M, G or T (or KiB, MiB, …), which are powers of 1024.
    #[arg(long, env = "TOWLINE_CHUNK_SIZE", hide_env = true, hide_short_help = true, value_name = "SIZE")]
    #[arg(value_parser = parse_size)]
    pub chunk_size: Option<u64>,

    /// Congestion control [default: auto]
    #[arg(long, env = "TOWLINE_CONGESTION", hide_env = true, hide_short_help = true, value_name = "NAME")]
    pub congestion: Option<Congestion>,

    /// Do not remember what the network path carries: each transfer measures it anew
    ///
    /// A sender keeps the bandwidth, round trip and loss of its paths for ten days in $XDG_STATE_HOME/towline/paths
    /// (~/.local/state/towline/paths), and the next transfer over the same path starts at up to half of that bandwidth.
    #[arg(
        long,
        env = "TOWLINE_NO_PATH_MEMORY",
        hide_env = true,
        hide_short_help = true,
        value_name = "BOOL"
    )]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_path_memory: Option<bool>,

    /// Give up after this long without progress, such as 30s or 2m [default: 30s]
    #[arg(long, env = "TOWLINE_TIMEOUT", hide_env = true, hide_short_help = true, value_name = "DURATION")]
    #[arg(value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Reconnect for this long after the connection is lost; 0 or forever [default: 60s]
    ///
    /// A connection is lost after 15s without a packet, or half of --timeout when that is less. The side that dialled
    /// dials again, and the transfer goes on where it was. After this long, both sides end with exit code 9. `0` ends the
    /// transfer with the connection, `forever` never gives up. Each side has its own limit.
    #[arg(long, env = "TOWLINE_RETRY", hide_env = true, hide_short_help = true, value_name = "DURATION")]
    #[arg(value_parser = parse_retry)]
    pub retry: Option<Retry>,

    /// Give up when a disk makes no progress for this long, such as 10m or 1h [default: 10m]
    ///
    /// Also applies when the peer reports for this long that it is busy, but makes no progress. towline waits for a slow
    /// disk as long as it makes progress. Both sides have this limit, so raise it on both.
    #[arg(
        long,
        env = "TOWLINE_DISK_TIMEOUT",
        hide_env = true,
        hide_short_help = true,
        value_name = "DURATION"
    )]
    #[arg(value_parser = parse_duration)]
    pub disk_timeout: Option<Duration>,

    /// Do not sync to disk: faster, but a crash of the machine can lose files that were reported as done
    #[arg(long, env = "TOWLINE_NO_FSYNC", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_fsync: Option<bool>,
}
