//! What the host lets one process have.

use std::thread::available_parallelism;

/// Disk calls that may wait at once for each core, and on the smallest of hosts: as many as one transfer has parcels on
/// the way. More would only add memory.
const DISK_THREADS_PER_CORE: usize = 4;
const DISK_THREADS_MIN: usize = 16;

/// Threads of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// Those that serve the network and hash: one for each core. They never wait for a disk.
    pub workers: usize,
    /// Those that wait for disks, at most. They are started when calls wait, and end when none does.
    pub disk_max: usize,
}

/// What suits this host: its cores, or those that a quota or a mask leaves to this process.
pub fn threads() -> Threads {
    threads_for(available_parallelism().map_or(1, usize::from))
}

fn threads_for(cores: usize) -> Threads {
    Threads { workers: cores, disk_max: (cores * DISK_THREADS_PER_CORE).max(DISK_THREADS_MIN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_the_cores() {
        let threads = [1, 4, 64].map(|cores| (threads_for(cores).workers, threads_for(cores).disk_max));
        assert_eq!(threads, [(1, 16), (4, 16), (64, 256)]);
    }
}
