//! What `towline bench` is asked to do.

use std::ffi::OsString;
use std::io::Read;

use anyhow::{Result, bail, ensure};

use super::common::resolve_common;
use super::meeting::resolve_peer;
use crate::app::settings::{BenchSettings, BenchWith, Peer, PeersFile, Workload};
use crate::cli::args::BenchArgs;
use crate::cli::config::Config;
use crate::cli::size::Wait;
use crate::protocol::path::printable;
use crate::protocol::wire::limits::FILE_BYTES_MAX;

/// `--size` by default, with itself and without a disk.
const SIZE_BYTES_ALONE: u64 = 4 << 30;
/// `--size` by default otherwise: links and disks are slower.
const SIZE_BYTES_DEFAULT: u64 = 512 << 20;
/// Bytes of each of `--files`.
const SMALL_FILE_BYTES: u64 = 4 << 10;
/// Maximum for `--files`: the file names have this many numbers.
const FILES_MAX: u64 = 100_000_000;

pub(super) fn resolve(
    given: BenchArgs,
    config: Config,
    peers: &PeersFile,
    stdin: &mut dyn Read,
) -> Result<BenchSettings> {
    let is_given_a_place = given.transfer.listen.is_some();
    let common = resolve_common(given.transfer, given.wait, &config)?;
    let disk = given.disk.or(config.disk);
    ensure!(
        disk.as_ref().is_none_or(|disk| !disk.as_os_str().is_empty()),
        "--disk is empty: expected the path of a directory"
    );
    // --to on the command line overrides --listen and the config file.
    let is_waiting = match given.wait {
        Some(wait) => wait != Wait::No,
        // A duration in the config file applies to all commands and is only a limit.
        None => given.to.is_none() && (is_given_a_place || config.wait == Some(Wait::Yes)),
    };
    if is_waiting {
        ensure!(given.to.is_none(), "--wait waits for a peer and --to dials one: give one of them");
        ensure!(
            given.size.is_none() && given.files.is_none(),
            "--size and --files are for the sending side, `towline bench --to`"
        );
        return Ok(BenchSettings { with: BenchWith::Anyone, disk, common });
    }
    let to = given.to.or_else(|| config.to.map(OsString::from));
    let not_by_ssh = |_| bail!("--to does not accept `ssh:` here: use the ticket of `towline bench --wait`");
    let peer = resolve_peer(to.as_deref(), "--to", &common, peers, stdin, not_by_ssh)?;
    ensure!(peer != Some(Peer::Stdio), "--to does not accept `stdio:` here");
    if let Some(Peer::Dir(path)) = &peer {
        let path = printable(path.as_os_str().as_encoded_bytes());
        bail!("--to does not accept `dir:` here; to measure a disk, use `--disk {path}`");
    }
    ensure!(
        given.size.is_none() || given.files.is_none(),
        "--files sends many small files and --size one large file: give one of them"
    );
    // A flag or variable overrides both keys of the config file.
    let (size, files) = match (given.size, given.files) {
        (None, None) => (config.size, config.files),
        given => given,
    };
    let is_alone = peer.is_none() && disk.is_none();
    let size = size.unwrap_or(if is_alone { SIZE_BYTES_ALONE } else { SIZE_BYTES_DEFAULT });
    let workload = match files {
        None => Workload { files: 1, file_bytes: size },
        Some(files) => Workload { files, file_bytes: SMALL_FILE_BYTES },
    };
    ensure!((1..=FILES_MAX).contains(&workload.files), "--files: expected 1 to {FILES_MAX}");
    ensure!((1..=FILE_BYTES_MAX).contains(&workload.file_bytes), "--size: expected 1 to {FILE_BYTES_MAX}");
    let with = match peer {
        Some(peer) => BenchWith::Peer(peer, workload),
        None => BenchWith::Itself(workload),
    };
    Ok(BenchSettings { with, disk, common })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::app::settings::Command;
    use crate::cli::args::Cli;
    use crate::cli::config::ConfigFile;
    use crate::testing::ticket::TICKET;

    /// TICKET stands for a ticket.
    fn resolve(line: &str, config: &str) -> Result<BenchSettings> {
        let (line, config) = (line.replace("TICKET", TICKET), config.replace("TICKET", TICKET));
        let words = ["towline", "bench"].into_iter().chain(line.split_whitespace());
        let settings = Cli::try_parse_from(words)?.resolve(
            &ConfigFile::parse(&config)?.0,
            &PeersFile::at(None),
            &mut std::io::empty(),
        )?;
        match settings.command {
            Command::Bench(settings) => Ok(settings),
            other => panic!("{other:?}"),
        }
    }

    fn one(file_bytes: u64) -> Workload {
        Workload { files: 1, file_bytes }
    }

    #[test]
    fn peer_and_size() {
        let peer = || Peer::Ticket(TICKET.parse().unwrap());
        for (line, config, with) in [
            ("", "", BenchWith::Itself(one(4 << 30))),
            ("--disk /d", "", BenchWith::Itself(one(512 << 20))),
            ("--to TICKET", "", BenchWith::Peer(peer(), one(512 << 20))),
            ("", "to = \"TICKET\"\nsize = \"1M\"", BenchWith::Peer(peer(), one(1 << 20))),
            ("--wait", "to = \"TICKET\"\nsize = \"1M\"", BenchWith::Anyone),
            ("--listen [::1]:0", "", BenchWith::Anyone),
            ("--listen [::1]:0 --wait=no", "", BenchWith::Itself(one(4 << 30))),
            ("--wait=5s", "", BenchWith::Anyone),
            ("", "wait = \"5s\"", BenchWith::Itself(one(4 << 30))),
            ("", "wait = true", BenchWith::Anyone),
            ("", "listen = \"[::1]:0\"", BenchWith::Itself(one(4 << 30))),
            ("--to TICKET --listen [::1]:0", "wait = true", BenchWith::Peer(peer(), one(512 << 20))),
            ("--wait=no --size 2M", "wait = true\nfiles = 7", BenchWith::Itself(one(2 << 20))),
            ("--files 7", "size = 9", BenchWith::Itself(Workload { files: 7, file_bytes: 4096 })),
        ] {
            assert_eq!(resolve(line, config).unwrap().with, with, "{line} {config}");
        }
        assert_eq!(resolve("", "disk = \"/d\"").unwrap().disk, Some("/d".into()));
        assert_eq!(resolve("--wait=5s", "").unwrap().common.wait, Some(Duration::from_secs(5)));
        assert_eq!(resolve("--wait", "wait = \"5s\"").unwrap().common.wait, None);
        assert_eq!(resolve("--memory 32M", "").unwrap().common.memory_bytes, 32 << 20);
    }

    #[test]
    fn invalid_settings_say_how_to_fix_them() {
        for (line, why) in [
            ("--wait --to TICKET", "give one of them"),
            ("--wait --size 1G", "are for the sending side"),
            ("--files 1 --size 1G", "give one of them"),
            ("--files 0", "--files: expected 1 to 100000000"),
            ("--size 0", "--size: expected 1 to"),
            ("--to dir:/x", "use `--disk /x`"),
            ("--to host", "needs --fingerprint FP"),
        ] {
            let error = format!("{:#}", resolve(line, "").unwrap_err());
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
