//! A daemon of three tokens at rest: wake-ups, memory and threads.
//!
//! It rests while the other parts run, for a minute at least.

use std::fs;
use std::time::{Duration, Instant};

use super::Run;
use super::process::{now, pause};
use super::stage::{Daemon, Server, quoted};
use super::table::Target;

const TOKENS: u32 = 3;

const LIFE: Duration = Duration::from_secs(30 * 60);

/// The minimum time at rest.
const MINUTE: Duration = Duration::from_secs(60);

/// After this time the daemon has stored what the first responses said, and the thread of the log has
/// ended, which takes 10 s: the switches of a thread that ends are no longer counted.
const SETTLE: Duration = Duration::from_secs(15);

/// A daemon that rests.
pub(super) struct Small {
    /// Keeps the connections of the daemon open.
    _server: Server,
    daemon: Daemon,
    began: Instant,
    switches: f64,
}

impl Small {
    /// Starts a daemon with tokens in local files and a TLS server, and waits until it rests.
    pub(super) fn start(run: &Run<'_>) -> Self {
        let mut server = Server::start(run.folder, "small", run.pinned);
        server.execute(&format!("life {}", LIFE.as_millis()));
        let own = run.folder.join("small");
        fs::create_dir_all(&own).expect("a writable folder");
        let mut text = format!(
            "state_dir = {}\n[log]\nformat = \"json\"\n[control]\nsocket = {}\n\
             [server.stub]\nurl = \"{}\"\nca_file = {}\n",
            quoted(&own.join("state")),
            quoted(&own.join("control.sock")),
            server.secure_url(),
            quoted(&server.certificate),
        );
        for n in 0..TOKENS {
            let file = own.join(format!("{n}.token"));
            fs::write(&file, format!("{n:08x}-5ca1-4b1e-8000-000000000000\n")).expect("room");
            text += &format!("[token.t{n}]\nserver = \"stub\"\nfile = {}\n", quoted(&file));
        }
        let config = own.join("tokenkeep.toml");
        fs::write(&config, text).expect("room");
        let daemon = Daemon::run(&config, run.pinned);
        server.wait_for(f64::from(TOKENS));
        pause(SETTLE);
        let switches = daemon.process.switches();
        Self { _server: server, daemon, began: now(), switches }
    }

    /// Reports what it cost at rest.
    pub(super) fn finish(self, run: &mut Run<'_>) {
        pause((self.began + MINUTE).saturating_duration_since(now()));
        let minutes = self.began.elapsed().as_secs_f64() / 60.0;
        let process = &self.daemon.process;
        let switches = (process.switches() - self.switches) / minutes;
        run.table.part("Three tokens of 30 min in local files, TLS, store included");
        let most = Target::AtMost;
        run.table.tell("context switches in a minute", switches, "", most(10.0));
        run.table.tell("resident memory", process.resident() / 1e6, "MB", most(12.0));
        run.table.tell("of it anonymous", process.own_memory() / 1e6, "MB", most(2.5));
        run.table.tell("threads", process.thread_count(), "", most(2.0));
    }
}
