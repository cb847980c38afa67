//! State database: what must survive a restart, in one crash-safe `SQLite` file in `state_dir`.
//!
//! It contains the life of each token, values and refresh tokens that their sources cannot store, the
//! counters of re-auth attempts, and the renewal method of each server. It is opened and read once at startup
//! ([`Store`]); from then on a thread of its own only writes it ([`Writer`]). It decides only
//! whether a row belongs to the current value, and how much of its life is certainly left. Missing
//! or damaged rows only cost extra checks.
//!
//! From top to bottom; a file uses only files below it:
//!
//! ```text
//! cluster                what a replica knew of its cluster
//! writer                 queues writes, answers with receipts
//! writer_thread          commits what is queued
//! maintenance  reader    deletes expired rows; reads at startup
//! recovery  open         a damaged database; lock and directory
//! commit                 one transaction
//! cluster_batch          what it writes of the cluster
//! companion              refresh tokens
//! rows                   conversion between rows and model
//! database  compaction
//! encoding  model  mac
//! ```

mod aside;
mod cluster;
mod cluster_batch;
mod commit;
mod compaction;
mod companion;
mod database;
mod encoding;
mod mac;
mod maintenance;
mod model;
mod open;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod properties;
mod reader;
mod recovery;
mod rows;
mod writer;
mod writer_thread;

#[cfg(test)]
mod tests;

pub use cluster_batch::ClusterSeen;
pub use companion::CompanionWriter;
pub use encoding::{LifeBatch, StoredLife};
pub use model::{Counter, CounterKey, StoredCompanion, StoredValue};
pub use open::Store;
pub use writer::Writer;
pub use writer_thread::{StoreReport, WriteReceipt};
