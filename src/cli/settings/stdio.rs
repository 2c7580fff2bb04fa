//! Standard input as a source, and standard output as a target.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail, ensure};

use super::common::is_variable;
use crate::app::settings::{CommonSettings, Peer};
use crate::cli::args::{ReceiveArgs, SendArgs};
use crate::cli::config::Config;
use crate::protocol::path::RelPath;

/// The name of standard input at the receiver.
const NAME_DEFAULT: &str = "stdin";

/// Whether `sources` are standard input, and nothing else.
fn is_stdin(sources: &[PathBuf]) -> Result<bool> {
    if !sources.iter().any(|source| source.as_os_str() == "-") {
        return Ok(false);
    }
    ensure!(
        sources.len() == 1,
        "standard input (`-`) is sent alone: send the other sources separately, and a file named `-` as `./-`"
    );
    Ok(true)
}

/// The name under which the receiver gets standard input, if that is sent. `to` is the peer as it was written.
pub(super) fn stdin_name(given: &SendArgs, to: Option<&OsStr>) -> Result<Option<RelPath>> {
    let name = given.data.name.as_deref();
    if !is_stdin(&given.sources)? {
        ensure!(
            name.is_none() || is_variable("--name"),
            "--name names standard input: give `-` as the only SOURCE, or leave out --name"
        );
        return Ok(None);
    }
    let select = &given.select;
    for (is_given, flag) in [
        (given.remove_source == Some(true), "--remove-source"),
        (!select.exclude.is_empty(), "--exclude"),
        (!select.include.is_empty(), "--include"),
        (!select.exclude_from.is_empty(), "--exclude-from"),
        (select.ignore_files == Some(true), "--ignore-files"),
        (select.files_from.is_some(), "--files-from"),
        (select.one_file_system == Some(true), "--one-file-system"),
        (select.min_size.is_some(), "--min-size"),
        (select.max_size.is_some(), "--max-size"),
        (select.contents == Some(true), "--contents"),
    ] {
        ensure!(
            !is_given || is_variable(flag),
            "{flag} is for files, and does not go with standard input (`-`)"
        );
    }
    ensure!(
        to.is_none_or(|to| to != "-"),
        "standard input is the source, so the peer cannot be read from it: use --to @FILE"
    );
    let name = name.unwrap_or(NAME_DEFAULT.as_ref());
    let path = RelPath::new(name.as_encoded_bytes()).map_err(|error| anyhow!("--name: {error}"))?;
    ensure!(path.parent().is_none(), "--name has a `/`: expected the name of a file");
    Ok(Some(path))
}

/// Checks what a transfer of standard input cannot do. A peer that is reached by standard input needs it.
pub(super) fn check_stdin(peer: Option<&Peer>, uses: u32) -> Result<()> {
    if peer == Some(&Peer::Stdio) {
        bail!("standard input leads to the other side (`stdio:`), so it cannot be the source too");
    }
    ensure!(
        uses == 1 || peer.is_some(),
        "--uses {uses} does not go with standard input, which is read only once"
    );
    Ok(())
}

/// Whether what is received goes to standard output.
pub(super) fn is_stdout(given: &ReceiveArgs, config: &Config) -> Result<bool> {
    let into = given.into.as_ref().or(config.into.as_ref());
    if into.is_none_or(|into| into.as_os_str() != "-") {
        return Ok(false);
    }
    for (is_given, flag) in [
        (given.exists.is_some(), "--exists"),
        (given.atomic == Some(true), "--atomic"),
        (given.verify_disk == Some(true), "--verify-disk"),
        (!given.bounds.limit.is_empty(), "--limit"),
        (given.transfer.connections.is_some_and(|connections| connections > 1), "--connections"),
    ] {
        ensure!(!is_given || is_variable(flag), "{flag} does not go with standard output (--into -)");
    }
    Ok(true)
}

/// Checks what a transfer to standard output cannot do. Its bytes come in order, over one connection.
pub(super) fn check_stdout(peer: Option<&Peer>, common: &mut CommonSettings) -> Result<()> {
    if peer == Some(&Peer::Stdio) {
        bail!("standard output leads to the other side (`stdio:`), so the data cannot go there");
    }
    let uses = common.uses;
    ensure!(
        uses == 1 || peer.is_some(),
        "--uses {uses} does not go with standard output, which takes one file"
    );
    common.connections = Some(1);
    Ok(())
}
