//! The daemon as its users meet it: the real program, against simulated servers on loopback.
//!
//! Every test starts the binary with a configuration in a folder of its own, reads the lines
//! that it writes, and looks at what its servers were asked. Whatever a test is about, none of
//! its secrets may appear in what the program writes: [`support`] sees to that.

mod actions;
mod candidates;
mod check_config;
mod client_commands;
mod cluster_check;
mod command_line;
mod completions;
mod connections;
mod container;
mod contrib;
mod control;
mod crowded_listeners;
mod database;
mod demo;
mod diagnostics;
mod doctor;
mod documentation;
#[path = "../doubles/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each suite uses a part")]
mod doubles;
mod env_file;
mod event_log;
mod expiry;
mod foreign_values;
mod grace_period;
mod history;
mod hundred_thousand;
mod idle;
mod init;
mod inotify_limits;
mod inventories;
mod large_reload;
mod listen;
mod logins;
mod maintenance_windows;
mod messages;
mod metrics;
mod missing_parts;
mod notify;
mod notify_burst;
mod notify_config;
mod notify_webhook;
mod page;
mod printable;
mod probe;
mod process;
mod profile_commands;
mod profile_logins;
mod reauth;
mod reauth_budget;
mod reauth_budget_restore;
mod reboot;
mod redaction;
mod refresh_token_storage;
mod refresh_tokens;
mod reload;
mod reload_outcome;
mod removed_servers;
mod renewal;
mod renewal_proof;
mod responses;
mod restart;
mod revoke_on_shutdown;
mod scale;
mod screenshots;
mod secrets;
mod servers;
mod service_manager;
mod setup;
mod setup_as_root;
mod setup_terminal;
mod short_lives;
mod shutdown;
mod sockets;
mod sources;
mod stored_values;
mod summary;
mod support;
mod temporary_files;
mod tls;
mod user_service;
mod without_renewal;
