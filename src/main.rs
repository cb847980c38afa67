//! The `tokenkeep` binary. All logic is in the library; see `cli`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A check uses an eighth less CPU than with the system's allocator: docs/development/performance.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Before anything else, because an unhandled SIGHUP terminates the process.
    if std::env::args_os().any(|argument| argument == "run") {
        // If this fails, the daemon reports it when it registers its signal handlers.
        let _ = tokenkeep::process::catch_signals();
    }
    tokenkeep::cli::main(std::env::args_os())
}
