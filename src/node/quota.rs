//! Processor time withheld from this process by a quota on its control group (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// File names of cgroups version 1 and 2: the quota, and its statistics.
const QUOTA_V1: &str = "cpu.cfs_quota_us";
const QUOTA_V2: &str = "cpu.max";
const STAT: &str = "cpu.stat";

/// The quotas on this process. Quotas set later are not noticed.
pub struct CpuQuota {
    stats: Vec<PathBuf>,
}

impl CpuQuota {
    /// The quotas currently set.
    pub fn find() -> Self {
        Self { stats: stats(Path::new("/")) }
    }

    /// How long the group of this process, or one above it, has been throttled.
    pub fn withheld(&self) -> Duration {
        self.stats.iter().filter_map(|stat| throttled(&fs::read_to_string(stat).ok()?)).sum()
    }
}

/// The statistics files of all groups with a quota that contain this process, from the files under `root`.
fn stats(root: &Path) -> Vec<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mount = root.join("sys/fs/cgroup");
    let mut stats = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let mount = match controllers {
            "" => mount.clone(),
            _ if controllers.split(',').any(|name| name == "cpu") => mount.join("cpu"),
            _ => continue,
        };
        // A container that sees the host's path of its group has that group as the mount itself.
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let dir = mount.join(group);
            if has_quota(&dir) {
                stats.push(dir.join(STAT));
            }
        }
    }
    stats
}

fn has_quota(dir: &Path) -> bool {
    let first = |name| {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    // Without a quota, the value is `max` or -1.
    first(QUOTA_V2).or_else(|| first(QUOTA_V1)).is_some()
}

/// Version 2 counts microseconds, version 1 nanoseconds.
fn throttled(stat: &str) -> Option<Duration> {
    stat.lines().find_map(|line| match line.split_once(' ')? {
        ("throttled_usec", time) => time.parse().ok().map(Duration::from_micros),
        ("throttled_time", time) => time.parse().ok().map(Duration::from_nanos),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let root = system(files);
        let found = stats(root.path());
        found.iter().map(|stat| stat.strip_prefix(root.path()).unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_quota_of_any_group_above_counts() {
        let found = found(&[
            ("proc/self/cgroup", "0::/backup.slice/night.service\n"),
            ("sys/fs/cgroup/backup.slice/cpu.max", "20000 100000\n"),
            ("sys/fs/cgroup/backup.slice/night.service/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/other.slice/cpu.max", "20000 100000\n"),
        ]);
        assert_eq!(found, ["sys/fs/cgroup/backup.slice/cpu.stat"]);
    }

    #[test]
    fn version_1_has_a_directory_for_the_processor() {
        let found = found(&[
            ("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/a/b\n1:memory:/a\n0::/\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/x/cpu.cfs_quota_us", "50000\n"),
        ]);
        assert_eq!(found, ["sys/fs/cgroup/cpu/a/b/cpu.stat"]);
    }

    #[test]
    fn a_container_that_sees_the_path_of_the_host() {
        let found =
            found(&[("proc/self/cgroup", "0::/docker/0123\n"), ("sys/fs/cgroup/cpu.max", "150000 100000\n")]);
        assert_eq!(found, ["sys/fs/cgroup/cpu.stat"]);
    }

    #[test]
    fn no_groups_no_quota() {
        assert!(found(&[]).is_empty());
        assert!(found(&[("proc/self/cgroup", "nonsense\n0\n0:\n::\n")]).is_empty());
        assert!(found(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", "")]).is_empty());
    }

    #[test]
    fn both_versions_say_how_long() {
        let v2 = "usage_usec 9\nnr_periods 3\nnr_throttled 2\nthrottled_usec 61234\nnr_bursts 0\n";
        assert_eq!(throttled(v2), Some(Duration::from_micros(61_234)));
        let v1 = "nr_periods 39\nnr_throttled 39\nthrottled_time 3038045843\n";
        assert_eq!(throttled(v1), Some(Duration::from_nanos(3_038_045_843)));
        assert_eq!(throttled("throttled_usec x\n"), None);
        assert_eq!(throttled(""), None);
    }
}
