//! What a sender offers, whether it dials, waits or stays.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::app::settings::CommonSettings;
use crate::protocol::path::printable;
use crate::transport::Congestion;

/// Checks the paths as they are written.
pub(super) fn check_sources(sources: &[PathBuf]) -> Result<()> {
    for source in sources {
        ensure!(
            !source.as_os_str().is_empty(),
            "a SOURCE is empty: expected the path of a file or directory"
        );
    }
    refuse_same_names(sources)
}

/// Sets the congestion control that gives way, if `background` says so.
pub(super) fn give_way(background: bool, common: &mut CommonSettings) -> Result<()> {
    if background {
        ensure!(
            common.congestion == Congestion::Auto,
            "--background works only with --congestion auto: cubic and newreno do not give way"
        );
        common.congestion = Congestion::Background;
    }
    Ok(())
}

/// Two sources with the same name would collide at the receiver.
fn refuse_same_names(sources: &[PathBuf]) -> Result<()> {
    let shown = |path: &PathBuf| printable(path.as_os_str().as_encoded_bytes());
    let mut named: HashMap<OsString, &PathBuf> = HashMap::new();
    for source in sources {
        // A path that ends with `..` gets its name from the file system.
        let real = source.file_name().is_none().then(|| source.canonicalize().ok()).flatten();
        let Some(name) = real.as_deref().unwrap_or(source).file_name() else { continue };
        if let Some(other) = named.insert(name.to_owned(), source) {
            bail!(
                "{} and {} would both be sent as {}: send them separately",
                shown(other),
                shown(source),
                printable(name.as_encoded_bytes())
            );
        }
    }
    Ok(())
}
