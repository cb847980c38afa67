//! The `tokenkeep` binary: the command line does it all.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// An eighth less CPU for a check than with the system's: docs/development/performance.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // First of all: a SIGHUP that nothing catches kills.
    if std::env::args_os().any(|argument| argument == "run") {
        // Where it fails, the daemon says so when it listens to its own signals.
        let _ = tokenkeep::process::catch_signals();
    }
    tokenkeep::cli::main(std::env::args_os())
}
