//! What the commands have in common.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::app::settings::{Bounds, CommonSettings};
use crate::auth::{CODE_WORDS, Fingerprint};
use crate::cli::args::{BoundArgs, TransferArgs};
use crate::cli::config::Config;
use crate::cli::size::Wait;
use crate::node::bounds::bounds_of;
use crate::node::size::exact;
use crate::protocol::wire::limits::{CHUNK_LOG2_MAX, CHUNK_LOG2_MIN, CONNECTIONS_MAX, STREAMS_MAX};
use crate::session::Retry;

/// Default for `--chunk-size`.
const CHUNK_BYTES_DEFAULT: u64 = 1 << 20;
/// Default for `--memory`.
const MEMORY_BYTES_DEFAULT: u64 = 64 << 20;
/// Minimum for `--memory`.
const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// Maximum for `--memory`.
const MEMORY_BYTES_MAX: u64 = 1 << 40;
/// Chunks that the memory must hold.
const MEMORY_CHUNKS_MIN: u64 = 8;
/// Default for `--timeout`.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Default for `--disk-timeout`.
const DISK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10 * 60);
/// Default for `--retry`.
const RETRY_DEFAULT: Retry = Retry::For(Duration::from_secs(60));
/// Minimum for `--timeout`, `--disk-timeout` and `--retry`.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Maximum for `--timeout`, `--disk-timeout` and `--retry`.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Minimum for `--wait`.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Maximum for `--wait`.
const WAIT_MAX: Duration = Duration::from_secs(31_557_600);

/// Whether the variable of `flag` is set. Like the config file, variables hold for all commands, so a command ignores
/// those that do not concern it.
pub(super) fn is_variable(flag: &str) -> bool {
    let name = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
    std::env::var_os(format!("TOWLINE_{name}")).is_some()
}

/// What is taken. Flags take the place of those in the file.
pub(super) fn resolve_bounds(given: &BoundArgs, config: &Config) -> Result<Bounds> {
    let texts = if given.limit.is_empty() { &config.limit } else { &given.limit };
    bounds_of(texts).map_err(|error| anyhow!("--limit {error}"))
}

/// Whether files are read back from the disk.
pub(super) fn verify_disk(
    given: Option<bool>,
    config: Option<bool>,
    common: &CommonSettings,
) -> Result<bool> {
    let is_wanted = given.or(config).unwrap_or(false);
    ensure!(
        !is_wanted || common.fsync,
        "--verify-disk and --no-fsync do not work together: what is not synced is not on the disk yet"
    );
    Ok(is_wanted)
}

pub(super) fn parse_fingerprint(text: &str) -> Result<Fingerprint> {
    let text = text.trim();
    ensure!(!text.is_empty(), "--fingerprint is empty; `towline id` on the other machine prints it");
    text.parse()
        .map_err(|error| anyhow!("--fingerprint: {error}; `towline id` on the other machine prints it"))
}

pub(super) fn resolve_common(
    given: TransferArgs,
    wait: Option<Wait>,
    config: &Config,
) -> Result<CommonSettings> {
    let fingerprint = given.fingerprint.or_else(|| config.fingerprint.clone());
    let fingerprint = fingerprint.as_deref().map(parse_fingerprint).transpose()?;
    let streams = given.streams.or(config.streams);
    if let Some(streams) = streams {
        ensure!((1..=STREAMS_MAX).contains(&streams), "--streams {streams}: expected 1 to {STREAMS_MAX}");
    }
    let connections = given.connections.or(config.connections);
    if let Some(connections) = connections {
        ensure!(
            (1..=CONNECTIONS_MAX).contains(&connections),
            "--connections {connections}: expected 1 to {CONNECTIONS_MAX}"
        );
    }
    let chunk_size_bytes = given.chunk_size.or(config.chunk_size).unwrap_or(CHUNK_BYTES_DEFAULT);
    let (chunk_min, chunk_max) = (1 << CHUNK_LOG2_MIN, 1 << CHUNK_LOG2_MAX);
    ensure!(
        chunk_size_bytes.is_power_of_two() && (chunk_min..=chunk_max).contains(&chunk_size_bytes),
        "--chunk-size {}: expected a power of two from {} to {}",
        exact(chunk_size_bytes),
        exact(chunk_min),
        exact(chunk_max),
    );
    let memory_bytes = given.memory.or(config.memory).unwrap_or(MEMORY_BYTES_DEFAULT);
    check_memory(memory_bytes, chunk_size_bytes)?;
    let timeout = given.timeout.or(config.timeout).unwrap_or(TIMEOUT_DEFAULT);
    check_duration("--timeout", timeout, TIMEOUT_MIN..=TIMEOUT_MAX)?;
    let disk_timeout = given.disk_timeout.or(config.disk_timeout).unwrap_or(DISK_TIMEOUT_DEFAULT);
    check_duration("--disk-timeout", disk_timeout, TIMEOUT_MIN..=TIMEOUT_MAX)?;
    let retry = given.retry.or(config.retry).unwrap_or(RETRY_DEFAULT);
    if let Retry::For(limit) = retry {
        check_duration("--retry", limit, TIMEOUT_MIN..=TIMEOUT_MAX)?;
    }
    let wait = wait.or(config.wait).and_then(Wait::limit);
    if let Some(wait) = wait {
        check_duration("--wait", wait, WAIT_MIN..=WAIT_MAX)?;
    }
    let congestion = given.congestion.or(config.congestion).unwrap_or_default();
    ensure!(
        given.listen.is_none() || given.port_range.is_none(),
        "--listen names one port and --port-range several: give one of them"
    );
    // What was given overrides both keys of the config file.
    let (listen, port_range) = match (given.listen, given.port_range) {
        (None, None) => (config.listen, config.port_range),
        given => given,
    };
    Ok(CommonSettings {
        inherited: None,
        listen,
        port_range,
        wait,
        fingerprint,
        allowed: fingerprint.into_iter().collect(),
        pki: None,
        remember: None,
        code_words: *CODE_WORDS.start(),
        uses: 1,
        expires: None,
        verify: false,
        streams,
        connections,
        chunk_size_bytes,
        bwlimit: given.bwlimit.or_else(|| config.bwlimit.clone()).unwrap_or_default(),
        memory_bytes,
        congestion,
        timeout,
        retry,
        disk_timeout,
        path_memory: !given.no_path_memory.or(config.no_path_memory).unwrap_or(false),
        fsync: !given.no_fsync.or(config.no_fsync).unwrap_or(false),
    })
}

fn check_memory(memory_bytes: u64, chunk_size_bytes: u64) -> Result<()> {
    ensure!(
        (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&memory_bytes),
        "--memory {}: expected {} to {}",
        exact(memory_bytes),
        exact(MEMORY_BYTES_MIN),
        exact(MEMORY_BYTES_MAX),
    );
    let needed = MEMORY_CHUNKS_MIN * chunk_size_bytes;
    ensure!(
        memory_bytes >= needed,
        "--memory {} does not hold {MEMORY_CHUNKS_MIN} chunks of {}: use --memory {} or more, or a smaller \
         --chunk-size",
        exact(memory_bytes),
        exact(chunk_size_bytes),
        exact(needed),
    );
    Ok(())
}

pub(super) fn check_duration(flag: &str, given: Duration, allowed: RangeInclusive<Duration>) -> Result<()> {
    ensure!(
        allowed.contains(&given),
        "{flag} {}: expected {} to {}",
        humantime::format_duration(given),
        humantime::format_duration(*allowed.start()),
        humantime::format_duration(*allowed.end()),
    );
    Ok(())
}
