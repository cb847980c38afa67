//! What will be done for each token, in plain words: the answer of `check-config`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::lifecycle::{Draw, Renewal, SHORTEST_ROOM, Schedule, check_wait};
use crate::settings::{Loaded, Reauth, ReauthMethod, Server, Settings, Source, Token};

/// The lives that the plan is told for; the API grants 1 minute to 24 hours.
const LIVES: [(&str, Duration); 3] = [
    ("1 min", Duration::from_secs(60)),
    ("30 min", Duration::from_secs(30 * 60)),
    ("24 h", Duration::from_secs(24 * 3600)),
];

/// The latest and the earliest that a check can be due.
const LATEST: f64 = 0.0;
const EARLIEST: f64 = 1.0;

/// The plan for every token of a configuration.
pub(super) fn tell(loaded: &Loaded) -> String {
    let Settings { servers, reauths, tokens, .. } = &loaded.settings;
    let mut text = String::new();
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    line(&mut text, &format!("configuration: {}: correct", files.join(", ")));
    let mut crowd: BTreeMap<&str, u32> = BTreeMap::new();
    for token in tokens {
        *crowd.entry(&token.server).or_default() += 1;
    }
    for server in servers {
        let count = crowd.get(server.name.as_str()).copied().unwrap_or(0);
        line(&mut text, &describe_server(server, count));
    }
    for token in tokens {
        let Some(server) = servers.iter().find(|server| server.name == token.server) else {
            continue;
        };
        let reauth = reauths.iter().find(|reauth| Some(&reauth.name) == token.reauth.as_ref());
        let count = crowd.get(token.server.as_str()).copied().unwrap_or(1);
        describe_token(&mut text, token, server, reauth, count);
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn describe_server(server: &Server, tokens: u32) -> String {
    format!(
        "server {}: {}; {tokens} {}, at most {} requests a second and {} at once",
        server.name,
        server.url,
        if tokens == 1 { "token" } else { "tokens" },
        server.rate_limit,
        server.max_in_flight,
    )
}

fn describe_token(
    text: &mut String,
    token: &Token,
    server: &Server,
    reauth: Option<&Reauth>,
    crowd: u32,
) {
    let source = match &token.source {
        Source::File(path) => format!("file {}", path.display()),
        Source::Credential(name) => format!("systemd credential {name}"),
        Source::Env(name) => format!("environment variable {name}"),
    };
    let check = match server.renewal {
        Renewal::Auto => "queries, and renews where queries do not extend the life",
        Renewal::Query => "queries only",
        Renewal::Renew => "renews at each check",
    };
    line(text, &format!("\ntoken {}: {source}, server {}; {check}", token.name, server.name));
    line(text, &format!("  first check    {}", first_check(server, crowd)));
    for (name, life) in LIVES {
        let _ =
            writeln!(text, "  life {name:<9} {}", cadence(&token.schedule, life, server, crowd));
    }
    line(text, &format!("  when it dies   {}", on_death(token, reauth)));
}

fn first_check(server: &Server, crowd: u32) -> String {
    let spread = Duration::from_secs(1) * crowd / server.rate_limit.get();
    if spread < Duration::from_secs(1) {
        "at the start".to_owned()
    } else {
        format!("within {} of the start, as the rate limit allows", words(spread))
    }
}

fn cadence(schedule: &Schedule, life: Duration, server: &Server, crowd: u32) -> String {
    let latest = check_wait(life, schedule, Draw::new(LATEST));
    let earliest = check_wait(life, schedule, Draw::new(EARLIEST));
    let checks = if earliest == latest {
        format!("a check every {}", words(latest))
    } else {
        format!("a check every {} to {}", words(earliest), words(latest))
    };
    let outage = survived(life, latest, server, crowd);
    if outage.is_zero() {
        format!("{checks}; survives no outage that starts when a check is due")
    } else {
        format!(
            "{checks}; survives any outage of {} that starts when a check is due",
            words(outage)
        )
    }
}

/// The longest outage after which the token is certain to be asked about in time, however
/// the pauses between the retries fall: all of the retry room but its end, where no check
/// and retry fit any more, and the time that the rate limit needs to serve every token.
fn survived(life: Duration, due: Duration, server: &Server, crowd: u32) -> Duration {
    let queue = Duration::from_secs(1) * crowd / server.rate_limit.get();
    life.saturating_sub(due).saturating_sub(SHORTEST_ROOM).saturating_sub(queue)
}

fn on_death(token: &Token, reauth: Option<&Reauth>) -> String {
    let Some(reauth) = reauth else {
        return "it is logged, and the source is watched for a new value".to_owned();
    };
    let how = match &reauth.method {
        ReauthMethod::Command(command) => {
            format!("re-auth {} runs {}", reauth.name, command.first().map_or("", String::as_str))
        }
        ReauthMethod::ApiKey { minutes, .. } => {
            format!("re-auth {} asks for a token of {minutes} min with the API key", reauth.name)
        }
    };
    let kept = match &token.source {
        Source::File(path) => format!("in {}", path.display()),
        Source::Credential(_) | Source::Env(_) => "in the state directory".to_owned(),
    };
    let policy = &reauth.policy;
    format!(
        "{how}, at most {} times in {}; the new value is kept {kept}",
        policy.max_attempts,
        words(policy.window)
    )
}

/// A duration for people: the two largest units that matter.
fn words(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 10_000 {
        let tenths = millis / 100;
        return match tenths % 10 {
            0 => format!("{} s", tenths / 10),
            rest => format!("{}.{rest} s", tenths / 10),
        };
    }
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let told = [900, 40_200, 594_000, 600_000, 23_400_000, 21_600_000]
            .map(|millis| words(Duration::from_millis(millis)));
        assert_eq!(told, ["0.9 s", "40 s", "9 min 54 s", "10 min", "6 h 30 min", "6 h"]);
    }
}
