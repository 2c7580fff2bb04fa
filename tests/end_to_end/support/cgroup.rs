//! A group of processes with a quota on the processor.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// Processes that share `percent` of one core.
pub(crate) struct Group {
    dir: PathBuf,
}

impl Group {
    /// A group of version 1 or 2. `None` where it cannot be made: without root, or without that controller.
    pub(crate) fn with_quota(percent: u32) -> Option<Self> {
        let (period, quota) = (100_000, 1000 * percent);
        let v1 = ("sys/fs/cgroup/cpu", "cpu.cfs_quota_us", quota.to_string());
        let v2 = ("sys/fs/cgroup", "cpu.max", format!("{quota} {period}"));
        [v1, v2].into_iter().find_map(|(parent, file, value)| {
            let dir = Path::new("/").join(parent).join(format!("towline-test-{}", std::process::id()));
            fs::create_dir(&dir).ok()?;
            let group = Self { dir };
            // A directory that is no group has no such file, and is removed again.
            let is_group = group.dir.join(file).exists();
            (is_group && fs::write(group.dir.join(file), value).is_ok()).then_some(group)
        })
    }

    /// Takes in a process.
    pub(crate) fn take(&self, pid: Pid) {
        let procs = self.dir.join("cgroup.procs");
        fs::write(procs, pid.as_raw_nonzero().to_string()).expect("a process can be moved");
    }
}

impl Drop for Group {
    /// Whatever was taken in has ended: a process lives no longer than the group in a test.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            eprintln!("cannot remove {}: {error}", self.dir.display());
        }
    }
}
