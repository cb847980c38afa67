//! Processes, as `/proc` shows them.

use std::fs;

/// The numbers of the processes of a group that still run; one that was killed and waits for
/// its parent to take note is none.
pub(crate) fn running(group: u32) -> Vec<u32> {
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse::<u32>().ok();
    fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
            let counts = fields[2] == group.to_string() && !matches!(fields[0], "Z" | "X");
            if counts { number(&entry.file_name()) } else { None }
        })
        .collect()
}

/// What `/proc` shows of a process under `name`; empty if it has ended.
pub(crate) fn of_process(pid: u32, name: &str) -> String {
    let content = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> usize {
    entries(pid, "task")
}

/// How many descriptors a process holds.
pub(crate) fn descriptors(pid: u32) -> usize {
    entries(pid, "fd")
}

fn entries(pid: u32, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{folder}")).expect("a running process").count()
}

/// The anonymous memory of a process in kB.
pub(crate) fn anonymous_memory(pid: u32) -> u64 {
    let status = of_process(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a process");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The voluntary context switches of all threads of a process so far: each wake-up of a thread ends
/// in one. The others only show that other processes want the processor.
pub(crate) fn context_switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let statuses = threads.filter_map(|thread| {
        // A thread may end meanwhile.
        fs::read_to_string(thread.ok()?.path().join("status")).ok()
    });
    let switches = |status: String| {
        let counts = status.lines().filter(|line| line.starts_with("voluntary_ctxt_switches"));
        let counts = counts.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        counts.sum::<u64>()
    };
    statuses.map(switches).sum()
}
