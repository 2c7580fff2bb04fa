//! What is kept of each entry.

use crate::cli::args::ArchiveArgs;
use crate::cli::config::Config;
use crate::storage::fs::Fidelity;

/// A flag of its own counts before `--archive`.
pub(super) fn resolve_fidelity(given: &ArchiveArgs, config: &Config) -> Fidelity {
    let archive = given.archive.or(config.archive).unwrap_or(false);
    let keeps = |given: Option<bool>, config: Option<bool>| given.or(config).unwrap_or(archive);
    Fidelity {
        owner: keeps(given.owner, config.owner),
        numeric_ids: given.numeric_ids.or(config.numeric_ids).unwrap_or(false),
        special_bits: keeps(given.special_bits, config.special_bits),
        acls: keeps(given.acls, config.acls),
        xattrs: keeps(given.xattrs, config.xattrs),
    }
}
