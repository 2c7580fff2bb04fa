//! Processor time used so far, as reported by the system.

use std::fs;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::quota::CpuQuota;
use crate::session::{ProcessorUse, Ticks};

/// Processor time of this process, summed over all cores.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Processor time of this process, the time that `quota` withheld from it, and the use of its cores by all processes.
pub fn processor_use(quota: &CpuQuota) -> ProcessorUse {
    let mine = sched_getaffinity(None).ok();
    let is_mine = |core| mine.as_ref().is_none_or(|mine| core < CpuSet::MAX_CPU && mine.is_set(core));
    let machine = fs::read_to_string("/proc/stat").ok().and_then(|stat| cores(&stat, is_mine));
    ProcessorUse { own: processor_time(), withheld: quota.withheld(), machine }
}

/// The sum of the lines `cpuN` of `/proc/stat` (proc(5)) of some cores.
fn cores(stat: &str, is_meant: impl Fn(usize) -> bool) -> Option<Ticks> {
    let mut sum: Option<Ticks> = None;
    for line in stat.lines() {
        let Some((core, fields)) = line.strip_prefix("cpu").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        // The line for all cores together has no number.
        if core.parse().is_ok_and(&is_meant) {
            let Ticks { busy, all } = ticks(fields)?;
            let sum = sum.get_or_insert_default();
            sum.busy += busy;
            sum.all += all;
        }
    }
    sum
}

/// The fields are user, nice, system, idle, iowait, irq, softirq, steal. The two after them, guest and guest_nice,
/// are already counted in user and nice.
fn ticks(fields: &str) -> Option<Ticks> {
    let ticks: Vec<u64> =
        fields.split_ascii_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    let all: u64 = ticks.iter().sum();
    Some(Ticks { busy: all - idle, all })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_excludes_idle_and_counts_guests_once() {
        let stat = "cpu0 100 20 30 1000 50 6 7 8 90 10\n";
        assert_eq!(cores(stat, |_| true), Some(Ticks { busy: 171, all: 1221 }));
        for other in ["", "intr 1 2 3 4 5 6", "cpu 1 2 3 4 5 6 7 8", "cpu0 1 2 3", "cpu0 x"] {
            assert_eq!(cores(other, |_| true), None, "{other:?}");
        }
    }

    #[test]
    fn cores_of_others_do_not_count() {
        let stat = "cpu  9 0 0 6 0 0 0 0\ncpu0 1 0 0 2 0 0 0 0\ncpu1 3 0 0 3 0 0 0 0\ncpu12 5 0 0 1 0 0 0 0\nintr 7\n";
        assert_eq!(cores(stat, |_| true), Some(Ticks { busy: 9, all: 15 }));
        assert_eq!(cores(stat, |core| core > 0), Some(Ticks { busy: 8, all: 12 }));
        assert_eq!(cores(stat, |core| core == 1), Some(Ticks { busy: 3, all: 6 }));
        assert_eq!(cores(stat, |core| core == 2), None);
    }
}
