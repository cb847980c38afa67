//! Process-wide settings: signals, resource limits, core dumps, orphaned processes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, getpid, getrlimit,
    set_dumpable_behavior, setrlimit, waitpid,
};

use crate::systemd;

/// The exit status for an internal error (sysexits).
const INTERNAL: i32 = 70;

/// Maximum soft limit of descriptors, the same as systemd's hard limit. With a higher limit,
/// commands that close all possible descriptors would take minutes to start.
const MAX_DESCRIPTORS: u64 = 524_288;

/// Threads that a daemon always needs: for the log, the state database, files and name lookups.
const THREADS: usize = 4;

/// Whether SIGHUP arrived before the daemon handled it.
static EARLY_HANGUP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Child processes that the daemon waits for.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Catches signals that would end a daemon: SIGHUP, reported by [`take_early_hangup`], and signals
/// without a meaning for it. Commands receive them as usual. Must be called before anything that
/// takes time.
///
/// # Errors
///
/// The system rejects a handler.
pub fn catch_signals() -> io::Result<()> {
    let flag = EARLY_HANGUP.get_or_init(Arc::default);
    signal_hook::flag::register(Signal::HUP.as_raw(), Arc::clone(flag))?;
    // SIGXFSZ: a write beyond the limit of the file size returns an error instead.
    for signal in [Signal::USR1, Signal::USR2, Signal::QUIT, Signal::ALARM, Signal::XFSZ] {
        signal_hook::flag::register(signal.as_raw(), Arc::default())?;
    }
    Ok(())
}

/// Whether SIGHUP arrived since [`catch_signals`] or the last call.
pub fn take_early_hangup() -> bool {
    EARLY_HANGUP.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// Prepares the process of a daemon: disables core dumps and access to its memory by other
/// processes of the user, and raises the limit of open files to the hard limit.
///
/// # Errors
///
/// The minimum number of threads cannot be created.
pub fn prepare() -> io::Result<()> {
    // The daemon works without these settings.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    raise_descriptor_limit();
    exit_if_no_thread_can_be_created();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let held = Arc::clone(&held);
            // Ends when `hold` is dropped.
            thread::Builder::new().spawn(move || drop(held.lock().map(|held| held.recv())))
        })
        .collect();
    drop(hold);
    threads.into_iter().try_for_each(|thread| thread.map(|thread| drop(thread.join())))
}

fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS);
    if current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// The limit of open files.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Exits with a message if no thread can be created. Libraries panic then, which would look like a
/// crash.
fn exit_if_no_thread_can_be_created() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
        if text.contains("thread") && (text.contains("spawn") || text.contains("WouldBlock")) {
            let remedy = thread_limit_remedy();
            eprintln!("tokenkeep: starting a thread: {text}; {remedy}");
            std::process::exit(INTERNAL);
        }
        default(info);
    }));
}

/// Remedy if no thread can be created.
pub fn thread_limit_remedy() -> &'static str {
    systemd::advice(
        "raise `TasksMax=` and `LimitNPROC=` of the unit",
        "raise `ulimit -u` or the container's process limit (`TasksMax=` in a systemd unit)",
    )
}

/// Remedy if no file descriptor is free.
pub fn descriptor_limit_remedy() -> &'static str {
    systemd::advice(
        "raise `LimitNOFILE=` of the unit",
        "raise `ulimit -n` (`LimitNOFILE=` in a systemd unit)",
    )
}

/// Whether `error` means that the process or the system has no free descriptor.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether the process has no free descriptor now.
pub fn has_no_free_descriptor() -> bool {
    fs::File::open("/dev/null").is_err_and(|error| is_out_of_descriptors(&error))
}

/// Message for a request that failed because no descriptor was free.
pub fn out_of_descriptors_message() -> String {
    let (limit, raise) = (descriptor_limit(), descriptor_limit_remedy());
    format!(
        "tokenkeep has no free file descriptor (its limit is {limit}), so nothing was sent: \
         {raise}, or lower `max_in_flight`"
    )
}

/// Message with a remedy if `error` means that a resource limit prevented a new process.
pub fn spawn_limit_error(error: &io::Error) -> Option<String> {
    use rustix::io::Errno;
    if is_out_of_descriptors(error) {
        let (limit, raise) = (descriptor_limit(), descriptor_limit_remedy());
        return Some(format!(
            "tokenkeep has no free file descriptor to start the command (its limit is \
             {limit}): {raise}, or lower `max_in_flight`"
        ));
    }
    let codes = [Errno::AGAIN, Errno::NOMEM].map(Errno::raw_os_error);
    let is_lacking = error.raw_os_error().is_some_and(|code| codes.contains(&code));
    is_lacking.then(|| {
        format!("no process can be started for the command ({error}); {}", thread_limit_remedy())
    })
}

/// Whether this process is the init process of its PID namespace, which must reap orphans.
pub fn is_init() -> bool {
    getpid() == Pid::INIT
}

/// Registers a child process that the task that started it waits for.
pub fn register_child(pid: Pid) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.as_raw_nonzero().get());
}

/// Unregisters a child process that was reaped.
pub fn unregister_child(pid: Pid) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw_nonzero().get());
}

/// Reaps orphans that have ended. Must be called in the init process of a PID namespace only, and
/// not while a process is being started.
pub fn reap_orphans() {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for number in numbers {
        let own = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).contains(&number);
        if !own && is_zombie_of_init(number) {
            let _ = waitpid(Pid::from_raw(number), WaitOptions::NOHANG);
        }
    }
}

fn is_zombie_of_init(number: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    // The name, in parentheses, may contain any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with("Z 1 "))
}
