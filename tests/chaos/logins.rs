//! Logins while the login itself is down, or while commands of others hang.

use std::time::Duration;

use jiff::Timestamp;
use tokenkeep::simulator::{Behaviour, Endpoint, Simulator};

use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};
use crate::namespace::{isolated, report};
use crate::observe::{check, is_alive, secs, story, takes};
use crate::support::{
    Daemon, Stage, calls, millis, seconds, secret, server_table, simulator_with, token_table,
};

/// A command that fails temporarily while the file `down` is there, and counts its runs.
const RELOGIN: &str = "echo >> $DIR/runs\n[ ! -e $DIR/down ] || exit 75\n\
                       echo \"S3CR3T/new-$TOKENKEEP_NAME+=\"";

/// Dead tokens whose only way back is a login that is down.
struct Site {
    title: &'static str,
    names: Vec<String>,
    server: Simulator,
    stage: Stage,
    daemon: Daemon,
}

impl Site {
    /// `trouble` is what the login of the API answers; `None`: a command that exits with 75.
    async fn start(
        title: &'static str,
        tokens: usize,
        trouble: Option<Trouble>,
        keys: &str,
    ) -> Self {
        let server = simulator_with(Behaviour {
            api_key: Some(secret("key").into()),
            login_life: Some(seconds(600)),
            ..Behaviour::default()
        })
        .await;
        let way = match &trouble {
            None => "command = [\"$DIR/relogin\"]",
            Some(_) => "api_key_file = \"$DIR/key\"",
        };
        let mut text =
            server_table("sarus", &server, "") + &format!("[reauth.login]\n{way}\n{keys}\n");
        let names: Vec<_> = (0..tokens).map(|n| format!("t{n:02}")).collect();
        let stage = Stage::new("");
        for name in &names {
            text += &token_table(name, "sarus", "reauth = \"login\"");
            let value = stage.token(name);
            server.add_token(&value, seconds(60));
            server.expire(&value);
            server.add_token(&secret(&format!("new-{name}")), seconds(600));
        }
        stage.configure(&text);
        stage.write("key", &secret("key"));
        stage.write("down", "");
        stage.script("relogin", RELOGIN);
        if let Some(trouble) = trouble {
            server.plan_fault(Plan::always(trouble).at(Endpoint::Login));
        }
        let daemon = stage.start();
        Self { title, names, server, stage, daemon }
    }

    /// How many logins were tried.
    fn logins(&self) -> usize {
        calls(&self.server, Endpoint::Login) + self.stage.lines_in("runs")
    }

    fn ends(&self) {
        self.server.clear_faults();
        std::fs::remove_file(self.stage.path("down")).expect("it is there");
    }

    async fn recovers(&self, within: Duration) -> String {
        let Self { title, daemon, .. } = self;
        let (tried, what) = (self.logins(), format!("{title}: all tokens are alive"));
        let all_alive = || self.names.iter().all(|name| is_alive(daemon, name));
        let took = takes(daemon, within, &what, all_alive).await;
        let exhausted = daemon.count("reauth_exhausted", "");
        assert_eq!(exhausted, 0, "{title}: {exhausted} exhausted\n{}", story(daemon));
        let more = self.logins() - tried;
        format!("{title}: {} ({tried} logins tried in the outage, {more} afterwards)", secs(took))
    }
}

/// Has the logins of all sites down for so long from the first attempt of each, and checks that
/// all recover.
async fn login_outage(title: &str, sites: Vec<Site>, outage: Duration, within: Duration) {
    for site in &sites {
        takes(&site.daemon, seconds(20), "a login is tried", || site.logins() > 0).await;
    }
    tokio::time::sleep(outage).await;
    sites.iter().for_each(Site::ends);
    let figures =
        futures_util::future::join_all(sites.iter().map(|site| site.recovers(within))).await;
    report(title, &figures.join("; "));
    for site in sites {
        site.daemon.stop().await;
    }
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_login_outage_of_15_seconds_spends_no_attempt() {
    isolated(async || {
        let html = |status| Trouble::Html { status };
        let maintenance = || Trouble::Error { status: 500, detail: "maintenance".to_owned() };
        let quiet = Trouble::Quiet { status: 429, retry_after: RetryAfter::Seconds(2) };
        let no_answer = Trouble::Body { status: 200, body: b"{}".to_vec() };
        let keys = "delay_max = \"5s\"";
        let sites = vec![
            Site::start("503", 1, Some(html(503)), keys).await,
            Site::start("500 in the envelope", 5, Some(maintenance()), keys).await,
            Site::start("reset", 5, Some(Trouble::Reset), keys).await,
            Site::start("empty object", 1, Some(no_answer), keys).await,
            Site::start("429", 3, Some(quiet), keys).await,
            Site::start("command, exit status 75", 5, None, keys).await,
        ];
        login_outage(
            "login down for 15 s, delay_max 5 s, alive after",
            sites,
            seconds(15),
            seconds(15),
        )
        .await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn thirty_dead_tokens_recover_from_a_login_outage_of_3_seconds() {
    isolated(async || {
        let sites = vec![
            Site::start("API key", 30, Some(Trouble::Html { status: 503 }), "").await,
            Site::start("API key, reset", 30, Some(Trouble::Reset), "").await,
            Site::start("command, exit status 75", 30, None, "").await,
        ];
        login_outage("30 tokens, login down for 3 s, alive after", sites, seconds(3), seconds(15))
            .await;
    });
}

#[test]
#[ignore = "needs namespaces: tests/chaos/run"]
fn a_hanging_reauth_method_does_not_delay_another() {
    isolated(async || {
        // The order of the names, and whether the good token dies with the others or later.
        let cases = [("a", "b", false), ("b", "a", false), ("a", "b", true), ("b", "a", true)];
        let mut figures = Vec::new();
        for (hanging, good, later) in cases {
            let took = beside_hanging(hanging, good, later).await;
            let order = if hanging < good { "hanging first" } else { "good first" };
            let when = if later { "dies later" } else { "dies with them" };
            figures.push(format!("{order}, {when}: {} ms", took.as_millis()));
        }
        report(
            "8 tokens on `sleep 300` beside a good reauth, login begins after",
            &figures.join("; "),
        );
    });
}

/// How long after its death the login of the good token begins.
async fn beside_hanging(hanging: &str, good: &str, later: bool) -> Duration {
    /// A second, and what a busy machine needs to start a process.
    const BEGINS: Duration = millis(3_000);
    let server = simulator_with(Behaviour::default()).await;
    let mut text = server_table("sarus", &server, "")
        + &format!("[reauth.{hanging}]\ncommand = [\"$DIR/hang\"]\ntimeout = \"5m\"\n")
        + &format!("[reauth.{good}]\ncommand = [\"$DIR/login\"]\n");
    let stage = Stage::new("");
    for n in 0..8 {
        let name = format!("{hanging}{n}");
        text += &token_table(&name, "sarus", &format!("reauth = \"{hanging}\""));
        let value = stage.token(&name);
        server.add_token(&value, seconds(60));
        server.expire(&value);
    }
    text += &token_table(good, "sarus", &format!("reauth = \"{good}\""));
    let value = stage.token(good);
    server.add_token(&value, seconds(60));
    server.add_token(&secret("new"), seconds(60));
    stage.configure(&text);
    stage.script("hang", "echo >> $DIR/hanging\nexec sleep 300");
    stage.script("login", &format!("date +%s.%N > $DIR/began\necho '{}'", secret("new")));
    if !later {
        server.expire(&value);
    }
    let daemon = stage.start();
    takes(&daemon, seconds(20), "commands hang", || stage.lines_in("hanging") >= 2).await;
    if later {
        daemon.event("token_checked", good).await;
        server.expire(&value);
        check(&daemon, &stage, &["--no-wait", good]).await;
    }
    let died = daemon.event("token_expired", good).await.timestamp();
    takes(&daemon, seconds(10), "the good login begins", || stage.lines_in("began") == 1).await;
    let began = stage.read("began");
    let (whole, part) = began.trim().split_once('.').expect("a time");
    let began = Timestamp::new(whole.parse().expect("seconds"), part.parse().expect("digits"));
    let took = began.expect("a time").duration_since(died).unsigned_abs();
    assert!(
        took < BEGINS,
        "{hanging} hangs, {good}: its login began after {took:?}\n{}",
        story(&daemon)
    );
    takes(&daemon, seconds(20), "the good token is alive", || is_alive(&daemon, good)).await;
    daemon.signal(rustix::process::Signal::KILL);
    daemon.ended().await;
    took
}
