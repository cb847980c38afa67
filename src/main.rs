//! The `tokenkeep` binary: the command line does it all.

use std::process::ExitCode;

fn main() -> ExitCode {
    tokenkeep::cli::main(std::env::args_os())
}
