//! What processes use, from `/proc`.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// CPU seconds or megabytes of pulse, its engine and the generator.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) pulse: f64,
    pub(super) clickhouse: f64,
    pub(super) own: f64,
}

impl Usage {
    /// CPU seconds used so far by the pulse with this process id, its engine and ourselves.
    pub(super) fn of(pid: u32) -> Self {
        Self { pulse: cpu_seconds(pid), clickhouse: engine(pid).map_or(0.0, cpu_seconds), own: cpu_seconds(std::process::id()) }
    }

    /// What was used since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self { pulse: self.pulse - before.pulse, clickhouse: self.clickhouse - before.clickhouse, own: self.own - before.own }
    }
}

/// The largest resident sizes in megabytes until asked to stop.
pub(super) async fn watch(pid: u32, stop: CancellationToken) -> Usage {
    let mut most = Usage::default();
    while !stop.is_cancelled() {
        most.pulse = most.pulse.max(rss_mb(pid));
        most.clickhouse = most.clickhouse.max(engine(pid).map_or(0.0, rss_mb));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    most
}

/// Bytes of all files below a folder.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; what follows it is numbers, user and system time the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

fn rss_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn engine(pid: u32) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    children.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).next()
}
