//! A thousand tokens whose server comes back after an outage, over TLS: CPU and time until all are
//! checked, beside the TLS handshakes that the server counted.
//!
//! In the outage all connections are closed and the port is closed, as when the server's process is
//! killed. The daemon's limits are generous: 64 requests in flight, and a rate limit that is never
//! reached. It probes the server at least every five seconds, so the time counts from the first
//! request that arrives.

use std::time::Duration;

use super::Run;
use super::process::{now, pause};
use super::stage::{Daemon, Play, Server};
use super::table::Target;

const TOKENS: u64 = 1_000;

/// A token is due after a tenth of its life, so that the servers can come back one after the other
/// while all tokens are due and none has expired.
const SCHEDULE: &str = "check_after = 0.1\njitter = 0.0\nmin_interval = \"1ms\"";

/// Time between the start of the outage and the return of the first server: all tokens are due.
const OUTAGE: Duration = Duration::from_secs(8);

/// Whether the tokens' known expiries pass in the outage. The check of an expired token uses a fresh
/// connection.
const LIVES: [(&str, Duration); 2] =
    [("due", Duration::from_secs(70)), ("expired", Duration::from_secs(6))];

/// The life of each token after the return.
const AFTERWARDS: Duration = Duration::from_secs(600);

/// How the server comes back: whether the session tickets that it has issued are valid.
const RETURNS: [(&str, &str); 2] = [("tickets valid", "up"), ("tickets void", "up forgetful")];

/// Runs all combinations. The outages take place side by side, and the returns one after the other.
pub(super) fn all(run: &mut Run<'_>) {
    run.table.part("1,000 tokens whose TLS server comes back, 64 in flight");
    let mut scenes = Vec::new();
    for (protocol, url) in
        [("HTTP/2", Server::secure_url as fn(&Server) -> String), ("HTTP/1.1", Server::older_url)]
    {
        for (state, life) in LIVES {
            for (tickets, command) in RETURNS {
                let name = format!("{protocol}, {state}, {tickets}");
                scenes.push((name, url, life, command));
            }
        }
    }
    let mut ready: Vec<_> = scenes
        .iter()
        .enumerate()
        .map(|(n, (_, url, life, _))| {
            let name = format!("storm{n}");
            let mut server = Server::start(run.folder, &name, run.pinned);
            server.execute(&format!("life {}", life.as_millis()));
            let play = Play {
                name: &name,
                tokens: TOKENS,
                url: url(&server),
                profile: false,
                certificate: Some(&server.certificate),
                store: true,
                schedule: SCHEDULE.into(),
                listen: None,
                cluster: String::new(),
                pinned: run.pinned,
            };
            let daemon = Daemon::start(run.folder, &play);
            server.wait_for(TOKENS as f64);
            (server, daemon)
        })
        .collect();
    for (server, _) in &mut ready {
        server.execute("down");
    }
    pause(OUTAGE);
    for ((name, _, _, command), (mut server, daemon)) in scenes.into_iter().zip(ready) {
        // From now on no token is due a second time.
        server.execute(&format!("life {}", AFTERWARDS.as_millis()));
        let (before, cpu) = (server.execute(command), daemon.process.exact_cpu());
        server.wait_for(before.requests + 1.0);
        let began = now();
        server.wait_for(before.requests + TOKENS as f64);
        let millis = began.elapsed().as_secs_f64() * 1e3;
        let cpu = daemon.process.exact_cpu().saturating_sub(cpu).as_secs_f64() * 1e3;
        let after = server.execute("");
        let (full, resumed) = (after.full - before.full, after.resumed - before.resumed);
        run.table.tell(&format!("{name}: all checked after"), millis, "ms", Target::None);
        let what = format!("CPU, with {full} full and {resumed} resumed handshakes");
        run.table.tell(&what, cpu, "ms", Target::None);
    }
}
