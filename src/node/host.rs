//! What the host allows one process.

use std::thread::available_parallelism;

/// Maximum disk calls that may wait at once, per core, with a minimum for the smallest host: the parcels in flight of
/// one transfer. More would only cost memory.
const DISK_THREADS_PER_CORE: usize = 4;
const DISK_THREADS_MIN: usize = 16;

/// Threads of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// Threads for the network and for hashing, one per core. All but one may make disk calls that do not wait.
    pub workers: usize,
    /// Maximum threads that wait for disks. They start when calls wait and end when idle.
    pub disk_max: usize,
}

/// The settings for this host, from its cores or those that a quota or mask allows.
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
