//! What a sender asks of its receiver.

use anyhow::{Result, anyhow, ensure};

use super::common::is_variable;
use crate::app::settings::{Delete, Request};
use crate::cli::args::TargetArgs;
use crate::cli::config::Config;
use crate::protocol::path::RelPath;

/// What is asked of the receiver.
pub(super) fn resolve_request(given: &TargetArgs, config: &Config) -> Result<Request> {
    Ok(Request {
        exists: given.exists,
        compares: given.checksum.or(config.checksum).unwrap_or(false),
        is_dry: given.dry_run.or(config.dry_run).unwrap_or(false),
        delete: resolve_delete(given, config)?,
    })
}

/// What is to be removed at the receiver.
fn resolve_delete(given: &TargetArgs, config: &Config) -> Result<Option<Delete>> {
    let is_wanted = given.delete.or(config.delete).unwrap_or(false);
    for (is_given, flag) in
        [(given.max_delete.is_some(), "--max-delete"), (given.backup_dir.is_some(), "--backup-dir")]
    {
        ensure!(!is_given || is_wanted || is_variable(flag), "{flag} works only with --delete");
    }
    let backup = given.backup_dir.as_ref().or(config.backup_dir.as_ref()).map(|dir| {
        RelPath::new(dir.as_os_str().as_encoded_bytes()).map_err(|error| {
            anyhow!("--backup-dir {}: {error}; it is a path under the target directory", dir.display())
        })
    });
    let backup = backup.transpose()?;
    ensure!(
        !is_wanted || !given.atomic.or(config.atomic).unwrap_or(false),
        "--delete does not go with --atomic, which changes nothing before everything has arrived"
    );
    Ok(is_wanted.then_some(Delete { names_max: given.max_delete.or(config.max_delete), backup }))
}
