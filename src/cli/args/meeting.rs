//! Flags about the peer of a transfer.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::app::settings::PeerName;
use crate::cli::size::parse_duration;
use crate::ui::Qr;

/// Flags about the peer of a transfer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Peer options")]
pub struct MeetingArgs {
    /// Let in this known peer without a ticket; may be repeated
    ///
    /// Applies while this side waits. The peer is authenticated by its key. Its entry must allow what this side asks for:
    /// `may = ["send"]` lets it send to this machine, `may = ["receive"]` lets it receive from it.
    #[arg(long, env = "TOWLINE_ALLOW", hide_env = true, hide_short_help = true, value_name = "NAME")]
    #[arg(value_delimiter = ',')]
    pub allow: Vec<PeerName>,

    /// Trust the certificates of this authority
    ///
    /// A PEM file. The dialling side accepts a peer at HOST whose certificate is for HOST (or --peer-name); the waiting side
    /// lets in whoever has a certificate of the authority, or with --peer-name only one for that name. Expiry and key usage
    /// are checked as for TLS servers and clients. Known peers and tickets count as before; entries and --allow limit
    /// nobody who comes by a certificate.
    #[arg(long, env = "TOWLINE_CA", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub ca: Option<PathBuf>,

    /// With --ca: the certificate of this side, and those between it and the authority
    #[arg(long, env = "TOWLINE_CERT", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub cert: Option<PathBuf>,

    /// With --ca: the key of --cert
    ///
    /// PEM: PKCS#8, SEC1 or PKCS#1. Only its owner may have rights on the file.
    #[arg(long, env = "TOWLINE_KEY", hide_env = true, hide_short_help = true, value_name = "FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub key: Option<PathBuf>,

    /// With --ca: name that the certificate of the peer must be for
    ///
    /// A DNS name or IP address. May be repeated while this side waits: then the certificate is for one of them.
    #[arg(long, env = "TOWLINE_PEER_NAME", hide_env = true, hide_short_help = true, value_name = "NAME")]
    #[arg(value_delimiter = ',')]
    pub peer_name: Vec<String>,

    /// Words of the one-time code that this side prints [default: 2]
    ///
    /// A code is good for one guess. Two words make one guess in 1.6 million right, and each further word 1,288 times as
    /// many.
    #[arg(long, env = "TOWLINE_WORDS", hide_env = true, hide_short_help = true, value_name = "N")]
    pub words: Option<usize>,

    /// Transfers that the ticket serves, one after the other [default: 1]
    ///
    /// Applies while this side waits. It ends after that many transfers; while one of them runs, others are told to try
    /// again later (exit code 3). There is no code then, because a code is good for one transfer. With --forever and
    /// --tickets, each ticket serves that many.
    #[arg(long, env = "TOWLINE_USES", hide_env = true, hide_short_help = true, value_name = "N")]
    pub uses: Option<u32>,

    /// Replace the ticket and the code after this long [default: never]
    ///
    /// Applies while this side waits. Whoever has an expired ticket or code is refused (exit code 4), and this side prints new
    /// ones. --wait limits the waiting itself.
    #[arg(long, env = "TOWLINE_EXPIRES", hide_env = true, hide_short_help = true, value_name = "DURATION")]
    #[arg(value_parser = parse_duration)]
    pub expires: Option<Duration>,

    /// Draw the ticket as a QR code: auto (on a terminal), always or never
    ///
    /// Applies while this side waits. `--qr` alone is `--qr=auto`.
    #[arg(long, env = "TOWLINE_QR", hide_env = true, hide_short_help = true, value_name = "WHEN")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "auto", hide_possible_values = true)]
    pub qr: Option<Qr>,

    /// Compare four words with the other side before anything is sent
    ///
    /// Both sides give this flag, show words, and ask whether the other side has the same ones, for example on the phone.
    /// They differ if somebody is in between, even somebody who has the ticket or the code. It needs a terminal.
    #[arg(long, env = "TOWLINE_VERIFY", hide_env = true, hide_short_help = true, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub verify: Option<bool>,

    /// Keep the peer as a known peer under this name
    ///
    /// Its key and address go to the file of known peers, with the right to do the same again: a peer that received may
    /// receive, a peer that sent may send. If the name is known already, the peer must have the key of that entry.
    #[arg(long, env = "TOWLINE_REMEMBER", hide_env = true, hide_short_help = true, value_name = "NAME")]
    pub remember: Option<PeerName>,
}
