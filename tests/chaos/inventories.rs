//! Inventories that shrink while their tokens wait for the server.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokenkeep::simulator::{Behaviour, Simulator};

use crate::doubles::{Plan, PlanFaults as _, Trouble};
use crate::namespace::{isolated, report};
use crate::observe::{assert_no_death, check, story, takes};
use crate::support::{Daemon, Stage, seconds, secret, server_table, simulator_with};

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn tokens_that_remain_after_removals_are_still_checked() {
    isolated(async || {
        let hanging = [(1, 2), (1, 12), (8, 200), (64, 300)];
        let hanging = hanging.map(|(in_flight, files)| beside_hanging(in_flight, files));
        let saturated = [(1, 200, 40), (4, 200, 100), (64, 500, 200)];
        let saturated =
            saturated.map(|(in_flight, rate, files)| saturated_by(in_flight, rate, files));
        let (hanging, saturated) =
            futures_util::future::join(join_all(hanging), join_all(saturated)).await;
        report("files deleted while their tokens wait", &[hanging, saturated].concat().join("; "));
    });
}

/// A folder of token files, and the server that knows their values.
struct Folder {
    server: Simulator,
    stage: Stage,
    files: usize,
}

impl Folder {
    async fn new(files: usize, schedule: &str, keys: &str) -> Self {
        let server = simulator_with(Behaviour::default()).await;
        let stage = Stage::new(
            &(format!("[schedule]\n{schedule}\n")
                + &server_table("sarus", &server, keys)
                + "[inventory.crowd]\nserver = \"sarus\"\ndir = \"$DIR/box\"\n"),
        );
        stage.write("box/.keep", "");
        Self { server, stage, files }
    }

    fn file(n: usize) -> String {
        format!("box/t{n:03}")
    }

    /// Puts a living value into the file of token `n`, in one step: the folder never holds any
    /// other file.
    fn place(&self, n: usize, value: &str) {
        self.server.add_token(value, seconds(600));
        let new = self.stage.write(&format!("new{n:03}"), value);
        fs::rename(new, self.stage.path(&Self::file(n))).expect("renamed");
    }

    /// Deletes all files but those of the survivors.
    fn delete_all_but(&self, survives: impl Fn(usize) -> bool) {
        for n in (0..self.files).filter(|n| !survives(*n)) {
            fs::remove_file(self.stage.path(&Self::file(n))).expect("it is there");
        }
    }

    /// No response about this value, ever.
    fn silence(&self, value: &str) {
        self.server.plan_fault(Plan::always(Trouble::Silence).for_token(value));
    }

    /// How many requests there were about each value. One copy of the record serves a whole
    /// condition: it is long, and looked at often.
    fn asked(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for value in self.server.requests().into_iter().filter_map(|request| request.value) {
            *counts.entry(value.expose().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Waits until there were so many requests about each of these values.
    async fn until_asked(
        &self,
        daemon: &Daemon,
        within: Duration,
        values: &[String],
        times: usize,
    ) {
        let what = format!("{times} requests about each of {} values", values.len());
        takes(daemon, within, &what, || {
            let asked = self.asked();
            values.iter().all(|value| asked.get(value).is_some_and(|count| *count >= times))
        })
        .await;
    }

    /// Whether a check of all tokens succeeds.
    async fn check_all(&self, daemon: &Daemon) {
        let status = check(daemon, &self.stage, &["*"]).await;
        assert_eq!(status, Some(0), "check '*'\n{}", story(daemon));
    }
}

/// Several times: as many requests as may be in flight hang while the other tokens wait. Then, in
/// one batch, the files of the tokens in flight change and all others are deleted.
async fn beside_hanging(in_flight: usize, files: usize) -> String {
    const ROUNDS: usize = 3;
    let keys = format!("max_in_flight = {in_flight}");
    let folder = Folder::new(files, "max_interval = \"1s\"", &keys).await;
    // Those that hang: not always the same.
    let hangs = |round: usize, n: usize| (n + round) % files < in_flight;
    let value = |round: usize, n: usize| secret(&format!("r{round}n{n}"));
    let survivor = |round: usize, n: usize| secret(&format!("s{round}n{n}"));
    let fill = |round: usize| {
        for n in 0..files {
            if hangs(round, n) {
                folder.silence(&value(round, n));
            }
            folder.place(n, &value(round, n));
        }
    };
    fill(0);
    let daemon = folder.stage.start();
    for round in 0..ROUNDS {
        let hung = || (0..files).filter(|n| hangs(round, *n));
        let waiting: Vec<_> = hung().map(|n| value(round, n)).collect();
        folder.until_asked(&daemon, seconds(60), &waiting, 1).await;
        hung().for_each(|n| folder.place(n, &survivor(round, n)));
        folder.delete_all_but(|n| hangs(round, n));
        let survivors: Vec<_> = hung().map(|n| survivor(round, n)).collect();
        folder.until_asked(&daemon, seconds(40), &survivors, 3).await;
        folder.check_all(&daemon).await;
        folder.server.clear_faults();
        fill(round + 1);
    }
    assert_no_death(&daemon, |_| true);
    daemon.signal(Signal::KILL);
    format!("{in_flight} hanging of {files}: all asked again, {ROUNDS} times")
}

/// Many times: more tokens are due than the server's limits let through. In one batch, one file
/// changes and all others are deleted. At the end, as many requests as ever may be in flight.
async fn saturated_by(in_flight: usize, rate: usize, files: usize) -> String {
    const ROUNDS: usize = 10;
    let keys = format!("max_in_flight = {in_flight}\nrate_limit = {rate}");
    let schedule = "max_interval = \"50ms\"\nmin_interval = \"10ms\"";
    let folder = Folder::new(files, schedule, &keys).await;
    let value = |round: usize, n: usize| secret(&format!("r{round}n{n}"));
    let survivor = |round: usize| secret(&format!("s{round}"));
    (0..files).for_each(|n| folder.place(n, &value(0, n)));
    let daemon = folder.stage.start();
    for round in 0..ROUNDS {
        let all: Vec<_> = (0..files).map(|n| value(round, n)).collect();
        folder.until_asked(&daemon, seconds(40), &all, 1).await;
        let survives = round * 5 % files;
        folder.place(survives, &survivor(round));
        folder.delete_all_but(|n| n == survives);
        folder.until_asked(&daemon, seconds(20), &[survivor(round)], 3).await;
        folder.check_all(&daemon).await;
        (0..files).for_each(|n| folder.place(n, &value(round + 1, n)));
    }
    // Every place of the server gate is free again: as many requests hang as may be in flight.
    (0..files).for_each(|n| folder.silence(&value(ROUNDS, n)));
    takes(&daemon, seconds(9), "all places of the server gate are used", || {
        let requests = folder.server.requests();
        let hanging = requests.iter().filter(|request| request.status.is_none());
        hanging.count() >= in_flight.min(files)
    })
    .await;
    assert_no_death(&daemon, |_| true);
    daemon.signal(Signal::KILL);
    format!("1 of {files} at {rate} a second: asked again, {ROUNDS} times, no place lost")
}
