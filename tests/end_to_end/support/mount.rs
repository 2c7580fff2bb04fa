//! File systems for a test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::stat;

use super::process::DEADLINE;

/// How often a FUSE daemon is asked whether it is there yet.
const MOUNT_CHECK: Duration = Duration::from_millis(20);

/// A mount that goes when it is dropped.
pub(crate) struct Mount {
    path: PathBuf,
    /// Serves it in the foreground.
    daemon: Option<Child>,
}

impl Mount {
    /// A tmpfs of `size_mib` MiB on `path`, an existing directory, as all of them. `None` where mounting is not
    /// allowed, as with all of them.
    pub(crate) fn tmpfs(path: &Path, size_mib: u32) -> Option<Self> {
        let size = format!("size={size_mib}m");
        Self::attach(&["-t", "tmpfs", "-o", &size, "towline-test"], path)
    }

    /// A tmpfs with mount options, such as `nr_inodes=20` or `ro`.
    pub(crate) fn tmpfs_with(path: &Path, options: &str) -> Option<Self> {
        Self::attach(&["-t", "tmpfs", "-o", options, "towline-test"], path)
    }

    /// The directory `from` once more.
    pub(crate) fn bind(from: &Path, path: &Path) -> Option<Self> {
        Self::attach(&["--bind", from.to_str().expect("a plain path")], path)
    }

    /// A new btrfs in the file `image`. Needs mkfs.btrfs.
    pub(crate) fn btrfs(image: &Path, path: &Path) -> Option<Self> {
        make_file_system("btrfs", image, 128);
        Self::image(image, path)
    }

    /// The file system in the file `image`.
    pub(crate) fn image(image: &Path, path: &Path) -> Option<Self> {
        Self::attach(&["-o", "loop", image.to_str().expect("a plain path")], path)
    }

    /// `from` through a FUSE file system that keeps everything. Needs bindfs.
    pub(crate) fn bindfs(from: &Path, path: &Path) -> Option<Self> {
        Self::serve(Command::new("bindfs").arg("-f").arg(from).arg(path), path)
    }

    /// `from` through a FUSE file system without links. Needs rclone.
    pub(crate) fn rclone(from: &Path, path: &Path) -> Option<Self> {
        let mut rclone = Command::new("rclone");
        // Neither a configuration nor a cache of the user's.
        let cache = from.with_extension("cache");
        rclone.args(["--config", "", "--cache-dir"]).arg(cache);
        rclone.args(["mount", "--vfs-cache-mode", "writes", "--vfs-write-back", "0s"]).arg(from).arg(path);
        Self::serve(&mut rclone, path)
    }

    /// A new NTFS in the file `image` in which `File` and `file` are one name. Needs ntfs-3g.
    pub(crate) fn ntfs_in_one_case(image: &Path, path: &Path) -> Option<Self> {
        let made = std::fs::File::create(image).and_then(|file| file.set_len(64 << 20));
        made.expect("room for a sparse file");
        let made = Command::new("mkntfs").args(["-q", "-F", "-f"]).arg(image).output();
        made.ok().filter(|output| output.status.success())?;
        Self::serve(
            Command::new("lowntfs-3g").args(["-o", "ignore_case,no_detach"]).arg(image).arg(path),
            path,
        )
    }

    fn attach(args: &[&str], path: &Path) -> Option<Self> {
        let status = Command::new("mount").args(args).arg(path).stderr(Stdio::null()).status();
        matches!(status, Ok(s) if s.success()).then(|| Self { path: path.to_owned(), daemon: None })
    }

    fn serve(daemon: &mut Command, path: &Path) -> Option<Self> {
        let device = |path: &Path| stat(path).map(|stat| stat.st_dev);
        let before = device(path).expect("an existing directory");
        let spawned = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut mount = Self { path: path.to_owned(), daemon: Some(spawned) };
        let end = Instant::now() + DEADLINE;
        while device(path) == Ok(before) && Instant::now() < end {
            let has_ended = mount.daemon.as_mut().is_some_and(|d| !matches!(d.try_wait(), Ok(None)));
            if has_ended {
                mount.daemon = None;
                std::mem::forget(mount);
                return None;
            }
            std::thread::sleep(MOUNT_CHECK);
        }
        Some(mount)
    }
}

/// A new, empty file system of `size_mib` MiB in the sparse file `image`. Needs `mkfs.KIND`.
pub(crate) fn make_file_system(kind: &str, image: &Path, size_mib: u64) {
    let made = std::fs::File::create(image).and_then(|file| file.set_len(size_mib << 20));
    made.expect("room for a sparse file");
    let mkfs = Command::new(format!("mkfs.{kind}")).arg("-q").arg(image).output();
    assert!(mkfs.is_ok_and(|output| output.status.success()), "mkfs.{kind}");
}

impl Drop for Mount {
    fn drop(&mut self) {
        let end = Instant::now() + DEADLINE;
        // A daemon that still closes what was open last keeps it busy for a moment.
        loop {
            let output = Command::new("umount").arg(&self.path).output();
            match output {
                Ok(output) if output.status.success() => break,
                output if Instant::now() > end => {
                    eprintln!("cannot unmount {}: {output:?}", self.path.display());
                    break;
                }
                _ => std::thread::sleep(MOUNT_CHECK),
            }
        }
        if let Some(mut daemon) = self.daemon.take() {
            // It ends by itself when it is unmounted; both calls are without effect then.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
