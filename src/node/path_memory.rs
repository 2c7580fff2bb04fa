//! What earlier transfers found about their paths: a file that all processes of a user share.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcetera::BaseStrategy;
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use super::private_dir;
use crate::auth::Fingerprint;
use crate::transport::KnownPath;

/// Maximum paths in the file; beyond them the oldest is dropped.
const PATHS_MAX: usize = 100;
/// Maximum bytes read of the file. A path takes up to 200.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// A path is remembered for this long: a weekly backup still finds it.
const REMEMBERED: Duration = Duration::from_secs(10 * 24 * 3600);
/// What a file may say. Anything else is ignored.
const MIN_RTT_MAX: Duration = Duration::from_secs(10);
const LOST_PERMILLE_MAX: u64 = 400;
/// A transfer waits no longer for a file system that hangs.
const DISK_TIME_MAX: Duration = Duration::from_millis(500);

/// A peer, and the networks that both ends are in. An IPv4 address stands for its network: two networks with the same
/// private prefix seldom give a host the same address. Of an IPv6 address only the prefix stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathName {
    peer: Fingerprint,
    own: IpAddr,
    there: IpAddr,
}

impl PathName {
    /// The path from the address `own` to `peer` at the address `there`; `None` within a host, which has no network to
    /// remember.
    pub fn new(peer: Fingerprint, own: IpAddr, there: IpAddr) -> Option<Self> {
        (!there.is_loopback()).then(|| Self { peer, own: network(own), there: network(there) })
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// A line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    name: PathName,
    path: KnownPath,
    at: SystemTime,
}

impl Remembered {
    /// `None` for anything that this program does not write.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let name = PathName {
            peer: fields.next()?.parse().ok()?,
            own: fields.next()?.parse().ok()?,
            there: fields.next()?.parse().ok()?,
        };
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (bandwidth, micros, lost_permille, seconds) = (number()?, number()?, number()?, number()?);
        let path = KnownPath { bandwidth, min_rtt: Duration::from_micros(micros), lost_permille };
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        let is_sane = path.min_rtt <= MIN_RTT_MAX && lost_permille <= LOST_PERMILLE_MAX;
        (is_sane && fields.next().is_none()).then_some(Self { name, path, at })
    }

    fn line(&self) -> String {
        let PathName { peer, own, there } = self.name;
        let KnownPath { bandwidth, min_rtt, lost_permille } = self.path;
        let seconds = self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("{peer} {own} {there} {bandwidth} {} {lost_permille} {seconds}\n", min_rtt.as_micros())
    }
}

/// The file. Two processes that write it at once leave the file of one of them. It is not synced: after a power failure
/// it may be empty, and then a transfer starts as the first one did. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PathMemory {
    file: PathBuf,
}

impl PathMemory {
    /// `towline/paths` in `$XDG_STATE_HOME` or `~/.local/state`; `None` without a home directory.
    pub fn of_this_user() -> Option<Self> {
        let strategy = etcetera::choose_base_strategy().ok()?;
        let dir = strategy.state_dir().unwrap_or_else(|| strategy.data_dir());
        Some(Self { file: dir.join("towline").join("paths") })
    }

    /// What the last transfer over this path found.
    pub async fn find(&self, name: PathName) -> Option<KnownPath> {
        let memory = self.clone();
        let reading = spawn_blocking(move || memory.read(SystemTime::now()));
        let paths = timeout(DISK_TIME_MAX, reading).await.ok()?.ok()?;
        paths.into_iter().find(|known| known.name == name).map(|known| known.path)
    }

    /// Remembers what a transfer over this path found. Where that is not possible, the next one starts as this one did.
    pub async fn keep(&self, name: PathName, path: KnownPath) {
        let memory = self.clone();
        let writing = spawn_blocking(move || memory.write(name, path, SystemTime::now()));
        match timeout(DISK_TIME_MAX, writing).await {
            Ok(Ok(Ok(()))) => {}
            other => debug!(?other, file = ?self.file, "the path is not remembered"),
        }
    }

    /// The newest first.
    fn read(&self, now: SystemTime) -> Vec<Remembered> {
        let text = read_up_to(&self.file, FILE_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let known = text.lines().filter_map(Remembered::parse);
        // One from the future was written by a wrong clock.
        let mut known: Vec<_> =
            known.filter(|known| now.duration_since(known.at).is_ok_and(|age| age < REMEMBERED)).collect();
        known.sort_by_key(|known| std::cmp::Reverse(known.at));
        known
    }

    fn write(&self, name: PathName, path: KnownPath, now: SystemTime) -> io::Result<()> {
        let dir = self.file.parent().unwrap_or(Path::new("."));
        private_dir::create(dir)?;
        let mut paths = self.read(now);
        paths.retain(|known| known.name != name);
        paths.insert(0, Remembered { name, path, at: now });
        paths.truncate(PATHS_MAX);
        // Its mode is 0600.
        let mut file = NamedTempFile::with_prefix_in(".paths-", dir)?;
        file.write_all(paths.iter().map(Remembered::line).collect::<String>().as_bytes())?;
        file.persist(&self.file)?;
        Ok(())
    }
}

fn read_up_to(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // A FIFO would wait for a writer.
    if fs::metadata(file)?.is_file() {
        File::open(file)?.take(bytes_max).read_to_end(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    const OTHER: KnownPath =
        KnownPath { bandwidth: 1_000_000, min_rtt: Duration::from_millis(20), lost_permille: 3 };

    fn memory() -> (TempDir, PathMemory) {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("towline/paths");
        (dir, PathMemory { file })
    }

    /// The path to a peer of its own.
    fn name(peer: u8) -> PathName {
        let [own, there] = ["192.0.2.1", "198.51.100.7"].map(|ip| ip.parse().unwrap());
        PathName::new(Fingerprint::from_bytes([peer; 32]), own, there).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn found(memory: &PathMemory, name: PathName, now: SystemTime) -> Option<KnownPath> {
        memory.read(now).into_iter().find(|known| known.name == name).map(|known| known.path)
    }

    #[test]
    fn a_path_is_known_by_peer_and_networks() {
        let peer = Fingerprint::from_bytes([1; 32]);
        let path = |own: &str, there: &str| PathName::new(peer, own.parse().unwrap(), there.parse().unwrap());
        assert_eq!(path("2001:db8::1", "2001:db8:1::1"), path("2001:db8::2", "2001:db8:1::ffff:3"));
        assert_ne!(path("2001:db8::1", "2001:db8:1::1"), path("2001:db8:0:1::1", "2001:db8:1::1"));
        assert_ne!(path("192.0.2.1", "198.51.100.7"), path("192.0.2.2", "198.51.100.7"));
        assert_ne!(name(1), name(2));
        assert_eq!(path("127.0.0.1", "127.0.0.1"), None);
    }

    #[test]
    fn the_last_transfer_counts_for_ten_days() {
        let (_dir, memory) = memory();
        let newer = KnownPath { bandwidth: 5, ..OTHER };
        memory.write(name(1), OTHER, at(0)).unwrap();
        memory.write(name(1), newer, at(10)).unwrap();
        assert_eq!(found(&memory, name(1), at(11)), Some(newer));
        assert_eq!(found(&memory, name(2), at(11)), None);
        assert_eq!(memory.read(at(11)).len(), 1);
        let days = REMEMBERED.as_secs();
        assert_eq!(found(&memory, name(1), at(9 + days)), Some(newer));
        assert_eq!(found(&memory, name(1), at(10 + days)), None);
        assert_eq!(found(&memory, name(1), at(9)), None, "written by a clock that was ahead");
    }

    #[test]
    fn the_oldest_paths_make_room() {
        let (_dir, memory) = memory();
        for peer in 0..=100 {
            memory.write(name(peer), OTHER, at(peer.into())).unwrap();
        }
        let (first, second, last) = (name(0), name(1), name(100));
        assert_eq!(
            [first, second, last].map(|name| found(&memory, name, at(101)).is_some()),
            [false, true, true]
        );
        assert!(fs::metadata(&memory.file).unwrap().len() < FILE_BYTES_MAX / 2);
    }

    #[test]
    fn it_is_for_the_user_only() {
        let (dir, memory) = memory();
        memory.write(name(1), OTHER, at(0)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&memory.file), mode(&dir.path().join("towline"))), (0o600, 0o700));
    }

    #[test]
    fn a_broken_file_is_replaced() {
        let fingerprint = name(1).peer;
        let long = "x".repeat(200_000);
        for broken in [
            "",
            "\0\u{1}\n",
            "one two three 4 5 6 7",
            &format!("{fingerprint} 192.0.2.1 198.51.100.7 9 99999999999 0 1800000000"),
            &format!("{fingerprint} 192.0.2.1 198.51.100.7 9 1 1000 1800000000"),
            &format!("{fingerprint} 192.0.2.1 198.51.100.7 9 1 0 18446744073709551615"),
            &format!("{fingerprint} 192.0.2.1 198.51.100.7 9 1 0 1800000000 1"),
            &long,
        ] {
            let (_dir, memory) = memory();
            private_dir::create(memory.file.parent().unwrap()).unwrap();
            fs::write(&memory.file, broken).unwrap();
            assert_eq!(memory.read(at(1)), [], "{broken:?}");
            memory.write(name(1), OTHER, at(1)).unwrap();
            assert_eq!(found(&memory, name(1), at(1)), Some(OTHER), "{broken:?}");
        }
    }

    #[test]
    fn processes_that_write_at_once_leave_a_whole_file() {
        let (_dir, memory) = memory();
        thread::scope(|scope| {
            for peer in 0..8 {
                let memory = &memory;
                scope.spawn(move || {
                    for second in 0..50 {
                        memory.write(name(peer), OTHER, at(second)).unwrap();
                        let text = fs::read_to_string(&memory.file).unwrap();
                        assert!(text.lines().all(|line| Remembered::parse(line).is_some()), "{text}");
                    }
                });
            }
        });
        let left = fs::read_dir(memory.file.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "temporary files are left");
    }

    #[tokio::test]
    async fn what_cannot_be_written_or_read_is_not_remembered() {
        let (dir, memory) = memory();
        fs::write(dir.path().join("towline"), "a file in the way").unwrap();
        memory.keep(name(1), OTHER).await;
        assert_eq!(memory.find(name(1)).await, None);
        fs::remove_file(dir.path().join("towline")).unwrap();
        memory.keep(name(1), OTHER).await;
        assert_eq!(memory.find(name(1)).await, Some(OTHER));
    }
}
