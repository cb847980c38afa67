//! The store: what must outlive a restart, in one crash-safe database in the state directory.
//!
//! It keeps what is known of each token's life, values that their sources cannot hold, what
//! re-auth has cost, and what servers have taught. It is opened and read once at the start
//! ([`Store`]), and from then on only written, by a thread of its own ([`Writer`]). It never
//! decides what a row is worth beyond this: whether it belongs to the value in use, and what
//! of its life is certainly left. Whatever is missing or damaged only costs extra checks.

mod commit;
mod compaction;
mod database;
mod encoding;
mod mac;
mod maintenance;
mod model;
mod open;
mod reader;
mod writer;
mod writer_thread;

#[cfg(test)]
mod tests;

pub use encoding::{LifeBatch, StoredLife};
pub use model::{Counter, CounterKey, Life, StoredValue};
pub use open::Store;
pub use writer::Writer;
pub use writer_thread::{StoreReport, WriteReceipt};
