//! What of the processor has been used so far, as the system tells.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::session::{ProcessorUse, Ticks};

/// By this process, on all cores together.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// By this process and by all of the machine.
pub(super) fn processor_use() -> ProcessorUse {
    let machine = fs::read_to_string("/proc/stat").ok().and_then(|stat| all_cores(&stat));
    ProcessorUse { own: processor_time(), machine }
}

/// The first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal. What comes behind
/// those is counted in them already.
fn all_cores(stat: &str) -> Option<Ticks> {
    let mut fields = stat.lines().next()?.split_ascii_whitespace();
    if fields.next() != Some("cpu") {
        return None;
    }
    let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    let all: u64 = ticks.iter().sum();
    Some(Ticks { busy: all - idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_idle_and_guests_count_once() {
        let stat = "cpu  100 20 30 1000 50 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(all_cores(stat), Some(Ticks { busy: 171, all: 1221 }));
        for other in ["", "intr 1 2 3 4 5 6", "cpu 1 2 3", "cpu x"] {
            assert_eq!(all_cores(other), None, "{other:?}");
        }
    }
}
