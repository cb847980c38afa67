//! External commands: how one is run, and what its end means.
//!
//! # What a command may rely on
//!
//! * Its environment holds `PATH`, `HOME` and `LANG` as the daemon has them, where it has them,
//!   and the `TOKENKEEP_` variables of [`Invocation`]. A variable of which nothing is known is
//!   not set. No token value is ever among them.
//! * It runs in `/`, with nothing to read on standard input.
//! * The first line of its standard output is the new token; the lines after it are not looked
//!   at. No output, with exit status 0, means that it wrote the token's file itself. At most
//!   [`MAX_OUTPUT_BYTES`] are taken.
//! * Its standard error goes to `/dev/null`: tools are known to print secrets there, so none
//!   of it may reach the log. A command that has something to say keeps its own log.
//! * It is the leader of a process group of its own. When it ends, times out or is no longer
//!   wanted, what is left of the group is killed; a helper that is to live on has to leave the
//!   group (`setsid`).
//!
//! [`run`] does the I/O, [`HookExit::interpret`] draws the conclusion. Neither prints anything,
//! and neither decides whether there is another attempt. [`stream`] runs a command for all that
//! it prints, such as the tokens of an inventory, under the same rules; it gets none of the
//! variables that speak of one token.

mod interpret;
mod process_group;
mod run;
mod stream;

pub use interpret::{EXIT_TRY_AGAIN, HookError, HookExit, HookResult};
pub use run::{Invocation, MAX_OUTPUT_BYTES, run};
pub use stream::{Chunk, StreamExit, stream};
