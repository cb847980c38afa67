//! The store: what must outlive a restart, in one crash-safe database in the state directory.
//!
//! It keeps what is known of each token's life, values that their sources cannot hold, what
//! re-auth has cost, and what servers have taught. It is opened and read once at the start
//! ([`Store`]), and from then on only written, by a thread of its own ([`Writer`]). It never
//! decides what a row is worth beyond this: whether it belongs to the value in use, and what
//! of its life is certainly left. Whatever is missing or damaged only costs extra checks.

mod aside;
mod commit;
mod database;
mod load;
mod open;
mod packed;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod rolling;
mod row;
mod tag;
mod upkeep;
mod work;
mod writer;

#[cfg(test)]
mod tests;

pub use open::Store;
pub use packed::{Part, Recalled};
pub use row::{Count, Counted, Stored};
pub use work::{Receipt, Report};
pub use writer::Writer;
