//! `cluster status` and `cluster rekey`: the replicas, and the key of their values in etcd.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::time::sleep;

use super::progress::Progress;
use super::terminal::{RED, Terminal};
use super::times::{LocalTime, short_duration};
use super::{DaemonCommand, SocketArgs};
use crate::cli::{CliError, EX_DEAD, EX_UNAVAILABLE, eprint_message, print, print_text};
use crate::control::client::{Client, ControlClientError};
use crate::control::{
    ClaimView, ClusterDetail, ClusterStatus, EndpointView, RekeyView, ReplicaView,
};
use crate::text::{format_millis, group_digits, printable};

const CLUSTER: &str = "/v1/cluster";
const REKEY: &str = "/v1/cluster/rekey";

/// Interval between two queries for the progress of a rekey.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Width of the names of properties, with the space behind them.
const NAMES: usize = 12;

/// Show the cluster of replicas, or encrypt its values with a new key
#[derive(Debug, Args)]
pub(in crate::cli) struct Cluster {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Show replicas, endpoints of etcd, keys, and logins under way. Exits 69 if etcd cannot be used
    Status {
        /// Print JSON, as returned by the control socket
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket_args: SocketArgs,
    },
    /// Encrypt all values in etcd with `cluster.key`, and wait until it is done. Refused unless
    /// every replica can open that key
    Rekey {
        #[command(flatten)]
        socket_args: SocketArgs,
    },
}

impl DaemonCommand for Cluster {
    fn socket_args(&self) -> &SocketArgs {
        let (ClusterCommand::Status { socket_args, .. } | ClusterCommand::Rekey { socket_args }) =
            &self.command;
        socket_args
    }

    async fn run(self, client: &mut Client) -> Result<u8, CliError> {
        match self.command {
            ClusterCommand::Status { json, .. } => show(client, json).await,
            ClusterCommand::Rekey { .. } => rekey(client).await,
        }
    }
}

async fn show(client: &mut Client, json: bool) -> Result<u8, CliError> {
    let detail: ClusterDetail = client.get(CLUSTER).await?;
    if json {
        let text = serde_json::to_string_pretty(&detail).unwrap_or_default();
        print_text(&(text + "\n"))?;
    } else {
        print(&render(&detail, Terminal::detect(), &LocalTime::now()))?;
    }
    Ok(if detail.status.reachable { 0 } else { EX_UNAVAILABLE })
}

async fn rekey(client: &mut Client) -> Result<u8, CliError> {
    client.post(REKEY).await?;
    let progress = Progress::waiting();
    let (detail, ended) = progress.during(wait_for_rekey(client)).await?;
    drop(progress);
    let RekeyView { done, total, error, .. } = ended;
    let (done, total) = (group_digits(done), group_digits(total));
    if let Some(error) = error {
        eprint_message(&format!(
            "{done} of {total} values were encrypted with the new key, then this failed: {error}; \
             run the command again"
        ));
        return Ok(EX_DEAD);
    }
    let key = detail.sealing_key.unwrap_or_default();
    print_text(&format!("{done} of {total} values re-encrypted; key {key} seals new values\n"))?;
    Ok(0)
}

/// Waits until the rekey has ended, without a timeout: it is bounded by the number of values.
async fn wait_for_rekey(
    client: &mut Client,
) -> Result<(ClusterDetail, RekeyView), ControlClientError> {
    loop {
        let detail: ClusterDetail = client.get(CLUSTER).await?;
        match detail.rekey.clone() {
            Some(rekey) if !rekey.running => return Ok((detail, rekey)),
            // The daemon has restarted since.
            None => {
                let error = "the daemon has restarted".to_owned();
                let rekey = RekeyView { running: false, done: 0, total: 0, error: Some(error) };
                return Ok((detail, rekey));
            }
            Some(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

/// The cluster in one line: the replicas, whether etcd can be used, and which part is checked here.
pub(super) fn cluster_line(cluster: &ClusterStatus, time: &LocalTime) -> String {
    let etcd = if cluster.reachable {
        "etcd reachable".to_owned()
    } else {
        let reason = match (cluster.unreachable_since, &cluster.error) {
            // It may be reachable: it has not responded since the start.
            (None, Some(error)) => error.clone(),
            // The sentence above the line has the reason.
            (None, None) => "etcd has not responded yet".to_owned(),
            (since, error) => {
                let since = since.map(|at| format!(" since {}", time.at(at.as_millisecond())));
                let error = error.as_ref().map(|error| format!(": {error}"));
                let (since, error) = (since.unwrap_or_default(), error.unwrap_or_default());
                format!("etcd cannot be used{since}{error}")
            }
        };
        let held = match cluster.held {
            0 => "; logins would wait for it".to_owned(),
            1 => "; the login of 1 token waits for it".to_owned(),
            held => format!("; the logins of {} tokens wait for it", group_digits(held)),
        };
        format!("{reason}{held}")
    };
    let total = cluster.asked + cluster.elsewhere;
    let (members, asked) = (cluster.members.join(", "), group_digits(cluster.asked));
    let tokens = if total == 1 { "token" } else { "tokens" };
    let (total, name) = (group_digits(total), &cluster.name);
    format!("cluster: {members}; {etcd}; {asked} of {total} {tokens} asked here ({name})")
}

/// `claimed by keeper-b, 12 s`.
pub(super) fn claimed_by(claim: &ClaimView) -> String {
    format!("claimed by {}, {}", claim.replica, short_duration(claim.age_ms))
}

/// The line of `status`, then one line for each property, replica, endpoint and claim.
fn render(detail: &ClusterDetail, terminal: Terminal, time: &LocalTime) -> String {
    let mut text = printable(&cluster_line(&detail.status, time)).into_owned();
    text = terminal.wrap(&text, 0, 0);
    if !detail.status.reachable {
        text = terminal.paint(RED, &text);
    }
    text.push_str("\n\n");
    let mut property = |name: &str, fact: &str| {
        let fact = terminal.wrap(&printable(fact), NAMES, NAMES);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<11} {fact}");
    };
    property("prefix", &detail.prefix);
    property("failover", &format_millis(detail.failover_ms));
    property("revision", &detail.revision.to_string());
    property("key", detail.sealing_key.as_deref().unwrap_or("not known"));
    for endpoint in &detail.endpoints {
        property("endpoint", &describe_endpoint(endpoint));
    }
    for replica in &detail.replicas {
        property("replica", &describe_replica(replica, detail.sealing_key.as_deref()));
    }
    for claim in &detail.claims {
        property("claim", &format!("{}: {}", claim.token, claimed_by(&claim.claim)));
    }
    text
}

fn describe_endpoint(endpoint: &EndpointView) -> String {
    let EndpointView { url, version, error } = endpoint;
    match (version, error) {
        (_, Some(error)) => format!("{url}: {error}"),
        (Some(version), None) => format!("{url}: responds, version {version}"),
        (None, None) => format!("{url}: not known"),
    }
}

/// A replica, and what hinders a rotation of the key.
fn describe_replica(replica: &ReplicaView, sealing: Option<&str>) -> String {
    let ReplicaView { name, tokens, format, keys, unreachable } = replica;
    let mut text = match tokens {
        1 => format!("{name}: checks 1 token"),
        tokens => format!("{name}: checks {} tokens", group_digits(*tokens)),
    };
    if let Some(format) = format {
        let _ = write!(text, "; format {format}");
    }
    if !keys.is_empty() {
        let _ = write!(text, "; keys {}", keys.join(", "));
    }
    if sealing.is_some_and(|sealing| !keys.iter().any(|key| key == sealing)) {
        text.push_str("; cannot open new values");
    }
    if !unreachable.is_empty() {
        let servers: Vec<_> = unreachable.iter().map(|server| printable(server)).collect();
        let _ = write!(text, "; cannot reach {}", servers.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::control::ClaimOf;

    fn detail() -> ClusterDetail {
        let replica = |name: &str, tokens, keys: &[&str]| ReplicaView {
            name: name.to_owned(),
            tokens,
            format: Some(1),
            keys: keys.iter().map(ToString::to_string).collect(),
            unreachable: Vec::new(),
        };
        let endpoint = |url: &str, version: Option<&str>, error: Option<&str>| EndpointView {
            url: url.to_owned(),
            version: version.map(str::to_owned),
            error: error.map(str::to_owned),
        };
        let claim = ClaimView { replica: "keeper-b".to_owned(), age_ms: 12_000 };
        ClusterDetail {
            status: ClusterStatus {
                name: "keeper-a".to_owned(),
                members: vec!["keeper-a".to_owned(), "keeper-b".to_owned()],
                reachable: true,
                error: None,
                unreachable_since: None,
                held: 0,
                asked: 334,
                elsewhere: 666,
            },
            prefix: "/tokenkeep/prod".to_owned(),
            failover_ms: 10_000,
            revision: 4_711,
            sealing_key: Some("00000000000000aa".to_owned()),
            endpoints: vec![
                endpoint("https://10.0.0.1:2379", None, Some("connection refused")),
                endpoint("https://10.0.0.2:2379", Some("3.4.23"), None),
            ],
            replicas: vec![
                replica("keeper-a", 334, &["00000000000000aa", "00000000000000bb"]),
                replica("keeper-b", 1, &["00000000000000bb"]),
            ],
            claims: vec![ClaimOf { token: "quotes".to_owned(), server: "sarus".to_owned(), claim }],
            rekey: None,
        }
    }

    fn shown(detail: &ClusterDetail) -> String {
        let terminal = Terminal { width: 80, height: None, colour: false };
        let time = LocalTime::for_tests("2026-11-29T13:36:00+01:00[Europe/Zurich]");
        render(detail, terminal, &time)
    }

    #[test]
    fn cluster_status_shows_replicas_endpoints_keys_and_claims() {
        assert_eq!(
            shown(&detail()),
            "\
cluster: keeper-a, keeper-b; etcd reachable; 334 of 1,000 tokens asked here (keeper-a)

prefix      /tokenkeep/prod
failover    10 s
revision    4711
key         00000000000000aa
endpoint    https://10.0.0.1:2379: connection refused
endpoint    https://10.0.0.2:2379: responds, version 3.4.23
replica     keeper-a: checks 334 tokens; format 1; keys 00000000000000aa, 00000000000000bb
replica     keeper-b: checks 1 token; format 1; keys 00000000000000bb; cannot open new values
claim       quotes: claimed by keeper-b, 12 s
"
        );
    }

    #[test]
    fn servers_that_a_replica_cannot_reach_are_named() {
        let mut detail = detail();
        detail.replicas[0].unreachable = vec!["sarus".to_owned(), "a\u{1b}[2Jb".to_owned()];
        let text = shown(&detail);
        let line = text.lines().find(|line| line.contains("keeper-a: checks")).expect("its line");
        assert!(line.contains("; cannot reach sarus, a"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn unusable_etcd_is_shown_with_its_reason_since_when_and_what_waits() {
        let mut detail = detail();
        detail.status.reachable = false;
        detail.status.error = Some("no response from any endpoint".to_owned());
        let since: Timestamp = "2026-11-29T12:05:00Z".parse().expect("a time");
        detail.status.unreachable_since = Some(since);
        for (held, waits) in [
            (0, "logins would wait for it"),
            (1, "the login of 1 token waits for it"),
            (1_200, "the logins of 1,200 tokens wait for it"),
        ] {
            detail.status.held = held;
            let line = shown(&detail).lines().next().unwrap_or_default().to_owned();
            assert_eq!(
                line,
                format!(
                    "cluster: keeper-a, keeper-b; etcd cannot be used since 13:05: no response \
                     from any endpoint; {waits}; 334 of 1,000 tokens asked here (keeper-a)"
                )
            );
        }
    }

    #[test]
    fn etcd_that_has_not_responded_since_the_start_is_not_called_unusable() {
        let mut detail = detail();
        detail.status.members.pop();
        detail.status.reachable = false;
        detail.status.error = Some("etcd has not responded yet".to_owned());
        let line = shown(&detail).lines().next().unwrap_or_default().to_owned();
        assert_eq!(
            line,
            "cluster: keeper-a; etcd has not responded yet; logins would wait for it; 334 of 1,000 \
             tokens asked here (keeper-a)"
        );
    }
}
