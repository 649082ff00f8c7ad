//! What a question costs beside its time, as the kernel counts it: bytes that the engine reads from its files, compressed as they are, and
//! the most memory it and this process have while it is answered.

use std::fs;

/// The process of the engine.
pub(crate) struct Cost {
    engine: u32,
}

/// Since [`Cost::begin`].
pub(crate) struct Used {
    pub(crate) read_mb: f64,
    pub(crate) engine_mb: f64,
    pub(crate) own_mb: f64,
}

impl Cost {
    /// Of the engine that this process has started.
    pub(crate) fn of_child() -> Option<Self> {
        let lists =
            fs::read_dir("/proc/self/task").ok()?.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let engine = lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).next()?;
        Some(Self { engine })
    }

    /// Counts from here on.
    pub(crate) fn begin(&self) -> Begun<'_> {
        for process in ["self".to_owned(), self.engine.to_string()] {
            // The most memory begins anew at what there is.
            drop(fs::write(format!("/proc/{process}/clear_refs"), "5"));
        }
        Begun { cost: self, read: self.read() }
    }

    fn read(&self) -> u64 {
        field(&format!("/proc/{}/io", self.engine), "rchar:")
    }
}

pub(crate) struct Begun<'a> {
    cost: &'a Cost,
    read: u64,
}

impl Begun<'_> {
    pub(crate) fn end(self) -> Used {
        let most = |process: &str| field(&format!("/proc/{process}/status"), "VmHWM:") as f64 / 1e3;
        let read_mb = self.cost.read().saturating_sub(self.read) as f64 / 1e6;
        Used { read_mb, engine_mb: most(&self.cost.engine.to_string()), own_mb: most("self") }
    }
}

/// The number behind a name; 0 if there is none.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Forgets what the kernel keeps of files; whether it may.
pub(crate) fn drop_page_cache() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}
