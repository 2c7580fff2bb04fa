//! The target directory.

use std::path::PathBuf;

use anyhow::{Result, ensure};

pub(super) fn resolve_into(given: Option<PathBuf>, config: Option<PathBuf>) -> Result<PathBuf> {
    let into = given.or(config).unwrap_or_else(|| PathBuf::from("."));
    ensure!(!into.as_os_str().is_empty(), "--into is empty: expected the path of a directory");
    ensure!(
        into.as_os_str() != "-",
        "standard output (`-`) takes one file of one transfer; for a directory named `-` write `./-`"
    );
    Ok(into)
}
