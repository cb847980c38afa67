//! What concerns the process as a whole: signals, resource limits, core dumps, orphans.

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

/// The soft limit of descriptors is raised up to here: as far as systemd's own hard limit. Beyond
/// it, commands that close every possible descriptor would take minutes to start.
const MAX_DESCRIPTORS: u64 = 524_288;

/// Threads that a daemon always has: for the log, the state database, files and name lookups.
const THREADS: usize = 4;

/// SIGHUP came before the daemon listened to it.
static EARLY_HANGUP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The processes that the daemon has started and waits for itself.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Catches the signals of a daemon that would end the process otherwise: SIGHUP, which is seen
/// by [`take_early_hangup`], and those that mean nothing to it. Commands get them as usual. To be
/// called before anything that takes time.
///
/// # Errors
///
/// When the system refuses it.
pub fn catch_signals() -> io::Result<()> {
    let flag = EARLY_HANGUP.get_or_init(Arc::default);
    signal_hook::flag::register(Signal::HUP.as_raw(), Arc::clone(flag))?;
    // SIGXFSZ: a write beyond a limit of the file's size fails with an error instead.
    for signal in [Signal::USR1, Signal::USR2, Signal::QUIT, Signal::ALARM, Signal::XFSZ] {
        signal_hook::flag::register(signal.as_raw(), Arc::default())?;
    }
    Ok(())
}

/// Whether SIGHUP has come since [`catch_signals`], or since this was last asked.
pub fn take_early_hangup() -> bool {
    EARLY_HANGUP.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// Prepares the process of a daemon: no core dump and no other process of the user can read its
/// memory, and it may open as many files as the hard limit allows.
///
/// # Errors
///
/// When the few threads cannot be created, which nothing works without.
pub fn prepare() -> io::Result<()> {
    // Where one of them is refused, the daemon works all the same.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    raise_descriptor_limit();
    exit_if_no_thread_can_be_created();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let held = Arc::clone(&held);
            // It ends when `hold` is gone.
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

/// How many files may be open at once.
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Libraries panic when a thread cannot be created, which would look like a crash.
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

/// What to do where no thread can be created.
pub fn thread_limit_remedy() -> &'static str {
    systemd::advice(
        "raise `TasksMax=` and `LimitNPROC=` of the unit",
        "raise `ulimit -u` or the container's limit of processes (`TasksMax=` in a systemd unit)",
    )
}

/// How the limit of descriptors is raised.
pub fn descriptor_limit_remedy() -> &'static str {
    systemd::advice(
        "raise `LimitNOFILE=` of the unit",
        "raise `ulimit -n` (`LimitNOFILE=` in a systemd unit)",
    )
}

/// Whether `error` says that there is no free descriptor, in the process or in the system.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether no descriptor is free at this moment.
pub fn has_no_free_descriptor() -> bool {
    fs::File::open("/dev/null").is_err_and(|error| is_out_of_descriptors(&error))
}

/// The sentence for a request that found no free descriptor.
pub fn out_of_descriptors_message() -> String {
    let (limit, raise) = (descriptor_limit(), descriptor_limit_remedy());
    format!(
        "tokenkeep has no free file descriptor (its limit is {limit}), so nothing was sent: \
         {raise}, or lower `max_in_flight`"
    )
}

/// What this process lacked to start another one, if `error` says that, with a remedy.
pub fn spawn_limit_error(error: &io::Error) -> Option<String> {
    use rustix::io::Errno;
    if is_out_of_descriptors(error) {
        let (limit, raise) = (descriptor_limit(), descriptor_limit_remedy());
        return Some(format!(
            "tokenkeep has no free file descriptor to start the re-auth command (its limit is \
             {limit}): {raise}, or lower `max_in_flight`"
        ));
    }
    let codes = [Errno::AGAIN, Errno::NOMEM].map(Errno::raw_os_error);
    let is_lacking = error.raw_os_error().is_some_and(|code| codes.contains(&code));
    is_lacking.then(|| {
        format!(
            "no process can be started for the re-auth command ({error}); {}",
            thread_limit_remedy()
        )
    })
}

/// Whether this process has to reap the orphans of its PID namespace.
pub fn is_init() -> bool {
    getpid() == Pid::INIT
}

/// The process of this number is waited for by the task that started it.
pub fn register_child(pid: Pid) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.as_raw_nonzero().get());
}

/// The process of this number has been reaped.
pub fn unregister_child(pid: Pid) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw_nonzero().get());
}

/// Reaps orphans that have ended. To be called as the init process of a PID namespace, between
/// whose calls no process is being started.
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
    // The name, in brackets, may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with("Z 1 "))
}
