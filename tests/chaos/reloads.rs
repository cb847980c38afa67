//! Reloads that are large, or many. These scenarios need the machine for themselves.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::simulator::Behaviour;

use crate::namespace::{isolated, report, small_disk};
use crate::observe::{assert_no_death, secs, story, takes};
use crate::support::{
    Stage, descriptors, of_process, seconds, secret, server_table, simulator_with, token_table,
};

/// Tokens that one reload renames.
const CROWD: usize = 100_000;

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_reload_that_renames_100_000_tokens_delays_no_other() {
    isolated(async || {
        const SHORT: usize = 20;
        /// An optimised build stops for less than a tenth of what this one does.
        const LIFE: Duration = seconds(2);
        let (quick, bulk) = (
            simulator_with(Behaviour::default()).await,
            simulator_with(Behaviour::default()).await,
        );
        let stage = Stage::new("");
        let mut text =
            server_table("quick", &quick, "") + &server_table("bulk", &bulk, "rate_limit = 20");
        for n in 0..SHORT {
            let name = format!("short{n:02}");
            text += &token_table(
                &name,
                "quick",
                "schedule = { max_interval = \"500ms\", min_interval = \"100ms\" }",
            );
            // They begin to live when the daemon has started.
            stage.token(&name);
        }
        stage.configure(&text);
        bulk.add_token(&secret("bulk"), seconds(86_400));
        // 100,000 names of one file, in memory.
        small_disk(&stage.path("box"), "100m");
        let file = stage.write("box/value", &secret("bulk"));
        for n in 0..CROWD {
            fs::hard_link(&file, stage.path(&format!("box/{n}"))).expect("a name");
        }
        let crowd = |prefix: &str| {
            let folder = stage.path("box");
            let mut text = String::new();
            for n in 0..CROWD {
                let _ = write!(text, "[token.{prefix}{n}]\nserver = \"bulk\"\n");
                let _ = writeln!(text, "file = \"{}/{n}\"", folder.display());
            }
            stage.replace("conf.d/crowd.toml", &text);
        };
        stage.write("conf.d/.keep", "");
        crowd("a");
        (0..SHORT).for_each(|n| quick.add_token(&secret(&format!("short{n:02}")), seconds(86_400)));
        let daemon = stage.start();
        takes(&daemon, seconds(150), "all short tokens are checked", || {
            daemon.count("token_checked", "") >= SHORT && daemon.count("daemon_ready", "") == 1
        })
        .await;
        // They are asked about every half second, and have two seconds to live from then on.
        let before = quick.requests().len();
        (0..SHORT).for_each(|n| quick.add_token(&secret(&format!("short{n:02}")), LIFE));
        takes(&daemon, seconds(10), "the short tokens are asked about several times", || {
            quick.requests().len() >= before + 4 * SHORT
        })
        .await;
        let asked = quick.requests().len();
        crowd("b");
        daemon.signal(Signal::HUP);
        let took = takes(&daemon, seconds(120), "the configuration is reloaded", || {
            daemon.count("config_reloaded", "") == 1
        })
        .await;
        // A few lives longer: what the reload leaves to be done must not disturb either.
        tokio::time::sleep(5 * LIFE).await;
        let requests = quick.requests();
        let pauses =
            requests[asked - 1..].windows(2).map(|two| two[1].at.saturating_sub(two[0].at));
        let longest = pauses.max().expect("checks");
        let figures = format!(
            "reloaded in {}, {} checks of short tokens meanwhile, the longest pause between two {} ms",
            secs(took),
            requests.len() - asked,
            longest.as_millis()
        );
        let dead = requests.iter().filter(|request| request.status == Some(410)).count();
        assert_eq!(dead, 0, "died during the reload: {figures}\n{}", story(&daemon));
        assert_no_death(&daemon, |name| name.starts_with("short"));
        report("reload that renames 100,000 tokens beside 20 of 2 s", &(figures + ", no death"));
        daemon.signal(Signal::KILL);
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn renaming_a_server_200_times_leaves_nothing_behind() {
    isolated(async || {
        const RELOADS: usize = 200;
        /// The first reloads fill caches; the rest must not add to them.
        const WARM: usize = 40;
        /// Descriptors that come and go: connections, watches, the log.
        const MORE_DESCRIPTORS: usize = 10;
        /// A leaked server is 36 kB: 160 of them are 5,800.
        const MORE_KILOBYTES: u64 = 2_500;
        let server = simulator_with(Behaviour::default()).await;
        let configuration = |n: usize| {
            let (name, key) =
                (format!("s{n}"), if n.is_multiple_of(2) { "timeout = \"9s\"" } else { "" });
            server_table(&name, &server, key) + &token_table("quotes", &name, "")
        };
        let stage = Stage::new(&configuration(0));
        server.add_token(&stage.token("quotes"), seconds(30));
        let daemon = stage.start();
        daemon.event("token_checked", "quotes").await;
        let held = || {
            let status = of_process(daemon.pid(), "status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
            let kilobytes = line.trim().split(' ').next().and_then(|text| text.parse().ok());
            let kilobytes: u64 = kilobytes.expect("a number");
            (descriptors(daemon.pid()), kilobytes)
        };
        let mut warm = held();
        for n in 1..=RELOADS {
            stage.configure(&configuration(n));
            daemon.signal(Signal::HUP);
            takes(&daemon, seconds(20), "the configuration is reloaded", || {
                daemon.count("config_reloaded", "") >= n
            })
            .await;
            if n == WARM {
                warm = held();
            }
        }
        let now = held();
        assert_no_death(&daemon, |_| true);
        assert_eq!(daemon.count("config_rejected", ""), 0, "{}", story(&daemon));
        assert!(now.0 <= warm.0 + MORE_DESCRIPTORS, "descriptors: {} grew to {}", warm.0, now.0);
        assert!(now.1 <= warm.1 + MORE_KILOBYTES, "kB resident: {} grew to {}", warm.1, now.1);
        report(
            "200 reloads that rename the server",
            &format!("{} descriptors, then {}; {} kB, then {}", warm.0, now.0, warm.1, now.1),
        );
        daemon.stop().await;
    });
}
