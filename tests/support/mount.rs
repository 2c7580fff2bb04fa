//! Small file systems to be filled.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tmpfs that is unmounted when dropped.
pub(crate) struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts `size_mib` MiB on `path`, an existing directory. `None` where that is not allowed.
    pub(crate) fn mount(path: &Path, size_mib: u32) -> Option<Self> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m"), "towline-test"])
            .arg(path)
            .stderr(Stdio::null())
            .status();
        matches!(status, Ok(s) if s.success()).then(|| Self { path: path.to_owned() })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.path).status();
        if !matches!(status, Ok(s) if s.success()) {
            eprintln!("cannot unmount {}", self.path.display());
        }
    }
}
