//! A hundred thousand tokens, and a `kill -9` amid their first checks and re-auths.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::simulator::{Recorded, Simulator};

use crate::support::{Line, Stage, seconds, secret, simulator, until, until_within};

const TOKENS: usize = 100_000;

/// One in so many is dead from the start, and brought back by a hook.
const DEAD: usize = 500;

/// Checks a second: what a debug build and its server manage on two cores.
const RATE: usize = 2_000;

const IN_FLIGHT: usize = 32;

/// When the first run is killed: in the midst of both, the checks and the hooks.
const CHECKED_AT_KILL: usize = 40_000;
const REVIVED_AT_KILL: usize = 50;

/// Twice what two idle cores need for all checks.
const LONG: Duration = seconds(180);

fn name(n: usize) -> String {
    format!("t{n:06}")
}

fn is_dead(n: usize) -> bool {
    n.is_multiple_of(DEAD)
}

fn revived(name: &str) -> String {
    secret(&format!("new-{name}"))
}

async fn set() -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "max_hooks = 8\n\
         [server.sarus]\nurl = \"{}\"\nrate_limit = {RATE}\nmax_in_flight = {IN_FLIGHT}\n\
         [reauth.relogin]\ncommand = [\"$DIR/hook\"]\n\
         [inventory.crowd]\nserver = \"sarus\"\nreauth = \"relogin\"\n\
         file = \"$DIR/tokens.jsonl\"\n",
        server.url()
    ));
    let mut lines = String::new();
    for n in 0..TOKENS {
        let (name, value) = (name(n), secret(&name(n)));
        writeln!(lines, "{{\"name\": \"{name}\", \"token\": \"{value}\"}}").expect("memory");
        server.add_token(&value, seconds(3_600));
        if is_dead(n) {
            server.expire(&value);
            server.add_token(&revived(&name), seconds(3_600));
        }
    }
    stage.write("tokens.jsonl", &lines);
    let said = revived("$TOKENKEEP_NAME");
    stage
        .script("hook", &format!("sleep 0.2\necho $TOKENKEEP_NAME >>$DIR/logins\necho \"{said}\""));
    (server, stage)
}

/// The values that were found alive.
fn alive(requests: &[Recorded]) -> HashSet<&str> {
    let alive = requests.iter().filter(|request| request.status == Some(200));
    alive.filter_map(|request| Some(request.value.as_ref()?.expose())).collect()
}

/// The most requests that came within a second. As many as may be in flight can have been sent
/// before it, and have come late.
fn most_in_a_second(requests: &[Recorded]) -> usize {
    let mut times: Vec<_> = requests.iter().map(|request| request.at).collect();
    times.sort_unstable();
    let within =
        |first: usize| times[first..].partition_point(|at| *at < times[first] + seconds(1));
    (0..times.len()).map(within).max().unwrap_or(0)
}

#[tokio::test]
#[ignore = "takes a minute of two cores; .ci/run runs it alone"]
async fn hundred_thousand_tokens_survive_a_kill_during_checks_and_logins() {
    let (server, stage) = set().await;
    let daemon = stage.start();
    let checked = server.until(|requests| requests.len() >= CHECKED_AT_KILL);
    tokio::time::timeout(LONG, checked).await.expect("in time");
    until("hooks have brought some back", || stage.lines_in("logins") >= REVIVED_AT_KILL).await;
    daemon.signal(Signal::KILL);
    let first = daemon.ended().await;
    let verified: Vec<_> = first.all("reauth_succeeded", "");
    let verified: HashSet<&str> = verified.into_iter().map(|line| line.text("token")).collect();
    assert!((1..TOKENS / DEAD).contains(&verified.len()), "{} revived", verified.len());

    let before = server.requests();
    let known_before: HashSet<&str> = alive(&before);
    assert!(known_before.len() < TOKENS, "it was killed before it had asked about all");
    let daemon = stage.start();
    until_within(LONG, seconds(1), "every token is alive, or alive again", || {
        let requests = server.requests();
        let alive = alive(&requests);
        (0..TOKENS).all(|n| {
            let name = name(n);
            let value = if is_dead(n) { revived(&name) } else { secret(&name) };
            alive.contains(value.as_str())
        })
    })
    .await;
    let second = daemon.stop().await;

    let after = server.requests().split_off(before.len());
    for requests in [&before, &after] {
        let most = most_in_a_second(requests);
        assert!(most <= RATE + IN_FLIGHT, "{most} requests in a second");
    }
    // All but what the last second of the first run brought is known, and only spot-checked.
    let again = after.iter().filter_map(|request| request.value.as_ref());
    let again = again.filter(|value| known_before.contains(value.expose())).count();
    assert!(again <= known_before.len() / 50 + 2 * RATE, "{again} of {}", known_before.len());

    let mut logins: HashMap<&str, usize> = HashMap::new();
    let log = stage.read("logins");
    log.lines().for_each(|name| *logins.entry(name).or_default() += 1);
    for name in &verified {
        assert_eq!(logins[name], 1, "the value that {name} got was kept");
    }
    assert_eq!(logins.len(), TOKENS / DEAD, "the dead ones, and no others");
    let died = |line: &Line| line.is("token_expired", "") || line.is("token_rejected", "");
    let expired = first.lines.iter().chain(&second.lines).filter(|line| died(line));
    let expired: HashSet<&str> = expired.map(|line| line.text("token")).collect();
    assert!(expired.iter().all(|name| logins.contains_key(name)), "nobody else has died");
}
