//! `check-config`: describes what the daemon will do for each token.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::daemon::Effective;
use crate::lifecycle::{RandomFraction, Renewal, SHORTEST_ROOM, Schedule, check_wait};
use crate::profile::Profile;
use crate::secret::mask;
use crate::settings::{
    EnvFile, InventorySource, KeepAlive, Loaded, NamePattern, Notify, NotifyTarget, Reauth,
    ReauthMethod, Server, Settings, Source, Token,
};

use super::cluster;
use super::inventory_summary::{self, InventorySummary};
use crate::text::format_duration;

/// Example lives that check intervals are shown for; the API grants 1 minute to 24 hours.
const LIVES: [(&str, Duration); 3] = [
    ("1 min", Duration::from_secs(60)),
    ("30 min", Duration::from_secs(30 * 60)),
    ("24 h", Duration::from_secs(24 * 3600)),
];

/// Random fractions that make a check due as late and as early as possible.
const LATEST_FRACTION: f64 = 0.0;
const EARLIEST_FRACTION: f64 = 1.0;

/// Maximum number of tokens that are described one by one without `--all`.
const MAX_DETAILED: usize = 50;

/// What the daemon will do for all tokens of a configuration.
pub(super) struct Plan<'a> {
    loaded: &'a Loaded,
    summaries: Vec<InventorySummary<'a>>,
    /// Number of tokens of each server, as far as it is known.
    token_counts: BTreeMap<&'a str, u32>,
}

impl<'a> Plan<'a> {
    /// The plan of a configuration; reads its inventories.
    pub(super) fn of(loaded: &'a Loaded) -> Self {
        let mut token_counts: BTreeMap<&str, u32> = BTreeMap::new();
        for token in &loaded.settings.tokens {
            *token_counts.entry(&token.keep_alive.server).or_default() += 1;
        }
        let summaries = inventory_summary::summarize(&loaded.settings);
        for summary in &summaries {
            *token_counts.entry(&summary.inventory.keep_alive.server).or_default() +=
                summary.tokens.unwrap_or(0);
        }
        Self { loaded, summaries, token_counts }
    }

    fn count(&self, server: &Server) -> u32 {
        self.token_counts.get(server.name.as_str()).copied().unwrap_or(0)
    }

    /// What will fail in a cluster although it is valid.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Settings { cluster, servers, .. } = &self.loaded.settings;
        let servers = servers.iter().filter(|_| cluster.is_some());
        let impossible = |server: &Server| {
            let profile = server.profile.as_deref()?;
            let effective = Effective::new(server.renewal, Some(profile), false);
            let life = profile.assume.filter(|_| effective.assumed)?;
            cluster::impossible_take_over(server, self.count(server), life)
        };
        servers.filter_map(impossible).collect()
    }
}

/// Describes the plan. `all` removes the limit of [`MAX_DETAILED`] tokens. `warnings` is the number
/// of printed warnings.
pub(super) fn describe(plan: &Plan<'_>, warnings: usize, all: bool) -> String {
    let Plan { loaded, summaries, token_counts } = plan;
    let Settings { servers, reauths, tokens, notifies, cluster, .. } = &loaded.settings;
    let mut text = String::new();
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let but = match warnings {
        0 => String::new(),
        1 => ", with 1 warning".to_owned(),
        _ => format!(", with {warnings} warnings"),
    };
    line(&mut text, &format!("configuration: {}: correct{but}", files.join(", ")));
    if let Some(cluster) = cluster {
        line(&mut text, &cluster::describe(cluster));
    }
    for server in servers {
        let count = plan.count(server);
        line(&mut text, &describe_server(server, count));
        if cluster.is_some() && count > 0 {
            line(&mut text, &cluster::describe_take_over(server, count));
        }
    }
    for reauth in reauths {
        let mut described = describe_reauth(reauth);
        if cluster.is_some() {
            described += &cluster::describe_repeated_login(reauth);
        }
        line(&mut text, &described);
    }
    for notify in notifies {
        line(&mut text, &describe_notify(notify));
    }
    let mut paragraph = |described: &Described, keep_alive: &KeepAlive, remarks: &[String]| {
        let Some(server) = servers.iter().find(|server| server.name == keep_alive.server) else {
            return;
        };
        let reauth = reauths.iter().find(|reauth| Some(&reauth.name) == keep_alive.reauth.as_ref());
        let count = token_counts.get(keep_alive.server.as_str()).copied().unwrap_or(1);
        let what = &described.what;
        let profile = server.profile.as_deref();
        let effective = Effective::new(server.renewal, profile, described.refresh.is_some());
        let renewal = describe_renewal(profile, effective);
        line(&mut text, &format!("\n{what}, server {}; {renewal}", server.name));
        for remark in remarks {
            line(&mut text, &format!("  wrong          {remark}"));
        }
        if let Some(exported) = &described.exported {
            line(&mut text, &format!("  applications   {exported}"));
        }
        if let Some(refresh) = &described.refresh {
            line(&mut text, &format!("  refresh token  {refresh}"));
        }
        describe_keep_alive(&mut text, keep_alive, server, effective, count);
        if let Some(before) = keep_alive.reauth_before.filter(|_| !effective.assumed) {
            let before = format!("  before its end {}", describe_reauth_before(before));
            line(&mut text, &before);
        }
        line(&mut text, &format!("  when it dies   {}", describe_death(reauth, server, described)));
    };
    let shown = if all { tokens.len() } else { tokens.len().min(MAX_DETAILED) };
    for token in &tokens[..shown] {
        paragraph(&describe_token(token), &token.keep_alive, &[]);
    }
    for summary in summaries {
        let described = describe_inventory(summary);
        paragraph(&described, &summary.inventory.keep_alive, &summary.remarks);
    }
    if shown < tokens.len() {
        let rest = tokens.len() - shown;
        line(&mut text, &format!("\n{rest} more of {} tokens: --all shows them too", tokens.len()));
    }
    mask(&text).into_owned()
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn describe_server(server: &Server, tokens: u32) -> String {
    let profile = server.profile.as_ref();
    let profile = profile.map_or_else(String::new, |profile| format!(", profile {}", profile.name));
    format!(
        "server {}: {}{profile}; {}, at most {} requests a second and {} at once",
        server.name,
        server.url,
        count_tokens(tokens),
        server.rate_limit,
        server.max_in_flight,
    )
}

/// A `reauth` method, and the limits that its tokens share.
fn describe_reauth(reauth: &Reauth) -> String {
    let Reauth { name, max_failures_all, policy, maintenance_windows, .. } = reauth;
    let mut text = format!(
        "re-auth {name}: at most {max_failures_all} failures of all its tokens in {}",
        format_duration(policy.window)
    );
    if !maintenance_windows.is_empty() {
        let windows: Vec<_> = maintenance_windows.iter().map(ToString::to_string).collect();
        text += &format!("; maintenance window each day {}", windows.join(", "));
    }
    text
}

/// What receives which events.
fn describe_notify(notify: &Notify) -> String {
    let Notify { name, events, tokens, target, timeout } = notify;
    let target = match target {
        NotifyTarget::Command(command) => {
            format!("runs {}", command.first().map_or("", String::as_str))
        }
        // Its path may be a secret.
        NotifyTarget::Webhook(webhook) => format!("posts to {}", webhook.origin()),
    };
    let events = match events {
        Some(events) => events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(", "),
        None => "all events of level error, and token_recovered".to_owned(),
    };
    let tokens = match tokens {
        Some(tokens) => {
            let tokens: Vec<_> = tokens.iter().map(NamePattern::as_str).collect();
            format!("of tokens {}", tokens.join(", "))
        }
        None => "of all tokens".to_owned(),
    };
    let timeout = format_duration(*timeout);
    format!("notify {name}: {target}, at most {timeout} for an attempt; {events}; {tokens}")
}

fn count_tokens(tokens: u32) -> String {
    format!("{tokens} {}", if tokens == 1 { "token" } else { "tokens" })
}

const IN_STATE: &str = "in the state directory";

const WATCHED: &str = "the source is watched for a new value";

/// Description of a token or of the tokens of an inventory.
struct Described {
    /// The name and the value source.
    what: String,
    /// Where a new value is stored.
    kept: String,
    /// How a new value gets from the source to the daemon.
    renewed: &'static str,
    /// The `env_file`.
    exported: Option<String>,
    /// The source of the refresh token, and where new ones are stored.
    refresh: Option<String>,
}

fn describe_token(token: &Token) -> Described {
    let (source, kept, renewed) = match &token.source {
        Source::File(path) => {
            (format!("file {}", path.display()), format!("in {}", path.display()), WATCHED)
        }
        Source::Credential(name) => (
            format!("systemd credential {name}"),
            IN_STATE.to_owned(),
            "a new value needs `systemctl restart tokenkeep`: a credential does not change while \
             the service runs",
        ),
        Source::Env(name) => (
            format!("environment variable {name}"),
            IN_STATE.to_owned(),
            "a new value needs a restart: an environment variable does not change while the \
             daemon runs",
        ),
    };
    let exported = token.env_file.as_ref().map(|EnvFile { path, variable, group }| {
        let readers = group.as_ref().map_or(String::new(), |group| format!(" and group {group}"));
        format!("read {variable} from {}, for the service's user{readers}", path.display())
    });
    let refresh = token.refresh.as_ref().map(describe_refresh);
    Described { what: format!("token {}: {source}", token.name), kept, renewed, exported, refresh }
}

fn describe_refresh(source: &Source) -> String {
    let (place, kept) = match source {
        Source::File(path) => return format!("file {}; new ones replace it", path.display()),
        Source::Credential(name) => ("systemd credential", name),
        Source::Env(name) => ("environment variable", name),
    };
    format!("{place} {kept}; new ones are kept {IN_STATE}")
}

fn describe_inventory(summary: &InventorySummary<'_>) -> Described {
    let whole = summary.inventory.whole();
    let (source, kept, renewed) = match &summary.inventory.source {
        InventorySource::File { .. } => (format!("file {whole}"), IN_STATE, WATCHED),
        InventorySource::Dir(_) => (format!("folder {whole}"), "in the token's file", WATCHED),
        InventorySource::Command { .. } => (
            format!("output of {whole}"),
            IN_STATE,
            "the command runs again at each reload and restart",
        ),
    };
    let tokens = match summary.tokens {
        Some(tokens) => format!("{} now", count_tokens(tokens)),
        None => "number of tokens known only when it runs".to_owned(),
    };
    Described {
        what: format!("inventory {}: {source}, {tokens}", summary.inventory.name),
        kept: kept.to_owned(),
        renewed,
        exported: None,
        refresh: None,
    }
}

/// Which calls keep a token alive.
fn describe_renewal(profile: Option<&Profile>, effective: Effective) -> String {
    let calls = match effective.renewal {
        Renewal::Auto => "queries, and renews where queries do not renew",
        Renewal::Query => "queries only",
        Renewal::Renew if effective.rotates => "renews at each check, with its refresh token",
        Renewal::Renew => "renews at each check",
    };
    let assume = profile.and_then(|profile| profile.assume).filter(|_| effective.assumed);
    let assumed = assume.map_or_else(String::new, |life| {
        let life = format_duration(life);
        format!("; assumes a life of {life} after each, so that no renewal can be proven")
    });
    format!("{calls}{assumed}")
}

fn describe_keep_alive(
    text: &mut String,
    keep_alive: &KeepAlive,
    server: &Server,
    effective: Effective,
    token_count: u32,
) {
    line(text, &format!("  first check    {}", first_check(server, token_count)));
    let mut checks = |name: &str, life| {
        let checks = describe_checks(&keep_alive.schedule, life, server, token_count);
        let _ = writeln!(text, "  life {name:<9} {checks}");
    };
    let assume = server.profile.as_ref().and_then(|profile| profile.assume);
    match assume.filter(|_| effective.assumed) {
        Some(life) => checks(&format_duration(life), life),
        None => LIVES.into_iter().for_each(|(name, life)| checks(name, life)),
    }
}

fn first_check(server: &Server, token_count: u32) -> String {
    let spread = Duration::from_secs(1) * token_count / server.rate_limit.get();
    if spread < Duration::from_secs(1) {
        "at the start".to_owned()
    } else {
        format!("within {} of the start, as the rate limit allows", format_duration(spread))
    }
}

fn describe_checks(
    schedule: &Schedule,
    life: Duration,
    server: &Server,
    token_count: u32,
) -> String {
    let latest = check_wait(life, schedule, RandomFraction::new(LATEST_FRACTION));
    let earliest = check_wait(life, schedule, RandomFraction::new(EARLIEST_FRACTION));
    let checks = if earliest == latest {
        format!("a check every {}", format_duration(latest))
    } else {
        format!("a check every {} to {}", format_duration(earliest), format_duration(latest))
    };
    let needed = f64::from(token_count) / earliest.as_secs_f64();
    let outage = longest_survivable_outage(life, latest, server, token_count);
    if needed > f64::from(server.rate_limit.get()) {
        format!(
            "{checks}; too many tokens: that takes {needed:.0} requests a second, and rate_limit \
             allows {}",
            server.rate_limit
        )
    } else if outage.is_zero() {
        format!("{checks}; survives no outage that starts when a check is due")
    } else {
        format!(
            "{checks}; survives any outage of {} that starts when a check is due",
            format_duration(outage)
        )
    }
}

/// The longest outage after which the token is certainly checked in time, for any retry pauses: the
/// retry window, minus the time for a last check and retry, minus the time that the rate limit needs
/// to serve all tokens.
fn longest_survivable_outage(
    life: Duration,
    due: Duration,
    server: &Server,
    token_count: u32,
) -> Duration {
    let queue = Duration::from_secs(1) * token_count / server.rate_limit.get();
    life.saturating_sub(due).saturating_sub(SHORTEST_ROOM).saturating_sub(queue)
}

fn describe_reauth_before(before: Duration) -> String {
    format!(
        "by {}, if nothing renews it, a new value is obtained; the old one stays in service until \
         the new one is verified",
        format_duration(before)
    )
}

fn describe_death(reauth: Option<&Reauth>, server: &Server, described: &Described) -> String {
    let Described { kept, renewed, .. } = described;
    let Some(reauth) = reauth else {
        return format!("it is logged, and {renewed}");
    };
    let how = match &reauth.method {
        ReauthMethod::Command(command) => {
            format!("re-auth {} runs {}", reauth.name, command.first().map_or("", String::as_str))
        }
        ReauthMethod::ApiKey { minutes, .. } => {
            format!("re-auth {} requests a token of {minutes} min with the API key", reauth.name)
        }
        ReauthMethod::Login { .. } => {
            let profile = server.profile.as_ref().map_or("sarus", |profile| &profile.name);
            format!("re-auth {} logs in by the login call of profile {profile}", reauth.name)
        }
    };
    let policy = &reauth.policy;
    format!(
        "{how}, at most {} times in {}; the new value is kept {kept}",
        policy.max_attempts,
        format_duration(policy.window)
    )
}
