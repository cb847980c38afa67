//! Tokens that live are kept alive, at the pace that their lives ask for.

use std::time::Duration;

use rustix::process::Signal;
use tokenkeep::simulator::{Behaviour, Recorded};

use crate::support::{
    Ended, Line, Stage, about, millis, seconds, served, server_table, simulator, simulator_with,
    token_table,
};

const NAMES: [&str; 3] = ["bonds", "indices", "quotes"];
const LIFE: Duration = seconds(3);

/// The fewest and the most checks in a minute that keep a life of 3 s well.
const A_MINUTE: (u64, u64) = (20, 45);

#[tokio::test]
async fn tokens_with_a_life_of_three_seconds_stay_alive() {
    keep_alive(seconds(20)).await;
}

#[tokio::test]
#[ignore = "takes a minute; the same for twenty seconds is in every run"]
async fn tokens_with_a_life_of_three_seconds_stay_alive_for_a_minute() {
    keep_alive(seconds(60)).await;
}

async fn keep_alive(span: Duration) {
    let server = simulator().await;
    let tokens = NAMES.map(|name| token_table(name, "sarus", "")).concat();
    let configuration = server_table("sarus", &server, "") + &tokens;
    let stage = Stage::new(&configuration);
    let values = NAMES.map(|name| stage.token(name));
    for value in &values {
        server.add_token(value, LIFE);
    }

    let daemon = stage.start();
    daemon.event("daemon_ready", "").await;
    tokio::time::sleep(span).await;
    let ended = daemon.stop().await;

    let (fewest, most) = A_MINUTE;
    let share = |count: u64| usize::try_from(count * span.as_secs() / 60).expect("few");
    for (name, value) in NAMES.iter().zip(&values) {
        let requests = about(&server, value);
        let count = requests.len();
        assert!((share(fewest)..=share(most)).contains(&count), "{name}: {count} checks");
        assert!(requests.iter().all(|request| request.status == Some(200)), "{name}");
        let checked = ended.all("token_checked", name);
        assert!(checked.len().abs_diff(count) <= 1, "a line for each check of {name}");
        for (i, line) in checked.iter().enumerate() {
            check_fields(line, i == 0);
        }
    }
    assert_troubleless(&ended);
}

/// Every contracted field of `token_checked` is there, with its type.
fn check_fields(line: &Line, first: bool) {
    let now = tokenkeep::clock::wall_clock();
    assert!(line.text("timestamp").ends_with('Z'), "UTC: {line:?}");
    assert!(now.duration_since(line.timestamp()).as_secs().abs() < 120, "{line:?}");
    assert_eq!((line.text("level"), line.text("server")), ("info", "sarus"), "{line:?}");
    assert!(!line.text("message").is_empty());
    let (remaining, next) = (line.number("remaining_ms"), line.number("next_check_ms"));
    assert!((2_900..=3_000).contains(&remaining), "{line:?}");
    assert!((1_500..=2_010).contains(&next), "{line:?}");
    if first {
        assert!(!line.has("renewed"), "one reading proves nothing: {line:?}");
    } else {
        assert_eq!(line.0["renewed"], true, "{line:?}");
    }
}

fn assert_troubleless(ended: &Ended) {
    let trouble = |line: &&Line| line.0["level"] != "info";
    assert!(!ended.lines.iter().any(|line| trouble(&line)), "{:#?}", ended.lines);
}

#[tokio::test]
async fn requests_for_one_token_never_overlap() {
    let latency = millis(150);
    let server = simulator_with(Behaviour { latency, ..Behaviour::default() }).await;
    let stage = Stage::new(
        &[
            "[schedule]\ncheck_after = 0.2\n",
            &server_table("sarus", &server, ""),
            &token_table("quotes", "sarus", ""),
        ]
        .concat(),
    );
    let value = stage.token("quotes");
    server.add_token(&value, seconds(5));

    let daemon = stage.start();
    for n in 2..14 {
        served(&server, |requests| requests.len() >= n).await;
        // Halfway through an answer.
        stage.replace("quotes.token", &value);
        daemon.signal(Signal::HUP);
    }
    daemon.event("config_reloaded", "").await;
    daemon.stop().await;

    let requests = about(&server, &value);
    assert!(!gaps(&requests).any(|gap| gap < latency), "{:?}", gaps(&requests).min());
}

fn gaps(requests: &[Recorded]) -> impl Iterator<Item = Duration> {
    requests.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at))
}
