//! External commands: runs them and interprets the result.
//!
//! # What a command may rely on
//!
//! * Its environment contains `PATH`, `HOME` and `LANG` of the daemon, if set, and the `TOKENKEEP_`
//!   variables of [`Invocation`]. A variable whose content is unknown is not set. No variable
//!   contains a token value.
//! * Its working directory is `/`, and its standard input is empty.
//! * The first line of its standard output is the new token; later lines are ignored. No output
//!   with exit status 0 means that it wrote the token's file itself. It may print at most
//!   [`MAX_OUTPUT_BYTES`].
//! * Its standard error goes to `/dev/null`, because tools print secrets there, and none may reach
//!   the log. A command that has something to report must write a log of its own.
//! * It is the leader of its own process group. When it ends, times out or is cancelled, the rest
//!   of the group is killed. A helper that must survive has to leave the group (`setsid`).
//!
//! [`run`] does the I/O, and [`HookExit::interpret`] is pure. Neither prints anything, and neither
//! decides whether there is another attempt. [`stream`] runs a command under the same rules and
//! streams its output, such as the tokens of an inventory, without the variables of one token.
//! [`feed`] runs a command that has an input and no output: the command of a `[notify.NAME]`.

mod feed;
mod interpret;
mod process_group;
mod run;
mod stream;
mod variables;

pub use feed::{FeedError, FeedExit, feed};
pub use interpret::{EXIT_TRY_AGAIN, HookError, HookExit, HookResult, MAX_OUTPUT_BYTES};
pub use run::{Invocation, run};
pub use stream::{Chunk, StreamExit, stream};
pub use variables::Variables;
