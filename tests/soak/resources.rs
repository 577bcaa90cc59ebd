//! What a process holds: tasks, files, memory.

use std::{fmt, fs};

use tokio::runtime::Handle;

/// What this process holds at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) tasks: usize,
    /// Open file descriptors, which sockets are.
    pub(crate) files: usize,
    /// Allocated and not freed, in bytes.
    pub(crate) live: usize,
    /// Resident, in bytes.
    pub(crate) resident: usize,
}

impl Held {
    /// Of the runtime that this is called in.
    pub(crate) fn now() -> Self {
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            files: fs::read_dir("/proc/self/fd").unwrap().count(),
            live: crate::ALLOCATOR.current_usage(),
            resident: resident(),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (live, resident) = (self.live >> 10, self.resident >> 10);
        write!(
            f,
            "{} tasks, {} files, {live} KiB live, {resident} KiB resident",
            self.tasks, self.files
        )
    }
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
