//! CPU time of a process, thread by thread, as Linux tells it in /proc.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// CPU time used so far, or within a span.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// Of the whole process.
    pub total: Duration,
    /// Of its present threads, by their name.
    pub threads: BTreeMap<String, Duration>,
}

impl CpuTimes {
    /// Of another process, where the system tells.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(&Path::new("/proc").join(pid.to_string()))
    }

    /// Of this process.
    pub fn of_self() -> Option<Self> {
        Self::read(Path::new("/proc/self"))
    }

    fn read(process: &Path) -> Option<Self> {
        let (_, total) = stat(&process.join("stat"))?;
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(process.join("task")).ok()?.flatten() {
            if let Some((name, time)) = stat(&thread.path().join("stat")) {
                *threads.entry(name).or_default() += time;
            }
        }
        Some(Self { total, threads })
    }

    /// What was used between `before` and this.
    pub fn since(&self, before: &Self) -> Self {
        let none = Duration::ZERO;
        let threads = self.threads.iter().map(|(name, time)| {
            let before = before.threads.get(name).unwrap_or(&none);
            (name.clone(), time.saturating_sub(*before))
        });
        Self {
            total: self.total.saturating_sub(before.total),
            threads: threads.collect(),
        }
    }
}

/// Name and CPU time out of a `stat` file.
fn stat(path: &Path) -> Option<(String, Duration)> {
    parse(
        &std::fs::read_to_string(path).ok()?,
        rustix::param::clock_ticks_per_second(),
    )
}

/// `pid (name) state ppid ...`; the name may hold anything, the times are the 14th and 15th field.
fn parse(stat: &str, ticks_per_second: u64) -> Option<(String, Duration)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let micros = (user + system)
        .checked_mul(1_000_000)?
        .checked_div(ticks_per_second)?;
    Some((name.to_owned(), Duration::from_micros(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let line = "7 (a) b(c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0";
        assert_eq!(
            parse(line, 100),
            Some(("a) b(c".into(), Duration::from_secs(2)))
        );
        assert_eq!(parse("7 (x) S 1", 100), None);
    }

    #[test]
    fn only_the_span_counts() {
        let at = |seconds| CpuTimes {
            total: Duration::from_secs(seconds),
            threads: BTreeMap::from([("worker".to_owned(), Duration::from_secs(seconds))]),
        };
        assert_eq!(at(5).since(&at(3)), at(2));
    }
}
