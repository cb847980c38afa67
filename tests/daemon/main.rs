//! The daemon as its users meet it: the real program, against simulated servers on loopback.
//!
//! Every test starts the binary with a configuration in a folder of its own, reads the lines
//! that it writes, and looks at what its servers were asked. Whatever a test is about, none of
//! its secrets may appear in what the program writes: [`support`] sees to that.

mod actions;
mod answers;
mod budget;
mod cadence;
mod candidates;
mod command_line;
mod completions;
mod connections;
mod contrib;
mod control;
mod crowded_listeners;
mod database;
mod deaths;
mod demo;
mod diagnostics;
mod doctor;
#[path = "../doubles/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part")]
mod doubles;
mod event_log;
mod farewell;
mod foreign_values;
mod grace;
mod idle;
mod inventories;
mod kept_values;
mod large_reload;
mod leftovers;
mod listen;
mod logins;
mod manager;
mod memory;
mod messages;
mod metrics;
mod multitude;
mod page;
mod pictures;
mod plan;
mod printable;
mod probe;
mod process;
mod proof;
mod quiet;
mod reauth;
mod reboot;
mod redaction;
mod released;
mod reload;
mod reload_outcome;
mod remote;
mod renewal;
mod resume;
mod scale;
mod secrets;
mod servers;
mod sockets;
mod sources;
mod stopping;
mod summary;
mod support;
mod surroundings;
mod tls;
mod unwatched;
