//! etcd with TLS: with and without client certificates, with and without users.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rcgen::{DistinguishedName, ExtendedKeyUsagePurpose, date_time_ymd};
use rustix::process::Signal;

use crate::etcd::{Access, Etcd, UNCERTIFIED, USAGES, client_certificate};
use crate::ledger::Ledger;
use crate::namespace::report;
use crate::network::{address, scenario};
use crate::refusals::{asks_and_does_not_log_in, refused};
use crate::replica::Replica;
use crate::stage::{CLIENT_CERTIFICATE, Cluster, FAILOVER, Token, user};
use crate::support::tls::{Authority, Pair};
use crate::support::{PATIENCE, millis, seconds, until_within};

/// Tokens of both kinds.
fn tokens(eternal: usize, mortal: usize) -> Vec<Token> {
    let eternal = (0..eternal).map(|number| Token::eternal(format!("eternal-{number}")));
    eternal.chain((0..mortal).map(|number| Token::mortal(format!("mortal-{number}")))).collect()
}

/// The eternal tokens that this replica alone has checked in the last 2.5 s; `None` until each of
/// `all` is checked by one.
fn part(ledger: &Ledger, now: Duration, replica: usize, all: usize) -> Option<BTreeSet<String>> {
    let askers = ledger.askers(now, millis(2_500));
    let eternal: Vec<_> = askers.iter().filter(|(token, _)| token.starts_with("eternal")).collect();
    let own = eternal.iter().filter(|(_, by)| by.contains(&replica));
    let own: BTreeSet<_> = own.map(|(token, _)| (*token).clone()).collect();
    let single = eternal.iter().filter(|(_, by)| by.len() == 1).count();
    (single == all && !own.is_empty()).then_some(own)
}

fn assert_no_double_login(cluster: &Cluster) {
    let double = |ledger: &Ledger| ledger.logins.iter().filter(|it| it.double.is_some()).count();
    assert_eq!(cluster.api.see(double), 0, "{}", cluster.story());
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn replicas_with_client_certificates_take_over_and_pass_over_a_node_that_hangs() {
    scenario(async || {
        let mut cluster = Cluster::with(3, Access::CertificatePassword, 3, tokens(30, 6)).await;
        // The node that all replicas use first is not the leader, so that etcd stays available.
        cluster.etcd.lead(1).await;
        cluster.join().await;
        cluster.api.more_logins(12).await;

        let api = &cluster.api;
        let own = || api.see(|ledger| part(ledger, api.now(), 0, 30));
        until_within(seconds(20), millis(50), "a part", || own().is_some()).await;
        let (tokens, killed) = (own().expect("a part"), api.now());
        cluster.replicas[0].kill().await;
        let taken = |ledger: &Ledger| ledger.taken_over(&tokens, 0, killed);
        cluster.api.until("take-over", |ledger| taken(ledger).is_some()).await;
        let took = cluster.api.see(taken).expect("taken over").saturating_sub(killed);
        assert!(took < FAILOVER + seconds(3), "{took:?}\n{}", cluster.story());
        cluster.replicas[0].join().await;

        cluster.etcd.signal(0, Signal::STOP);
        let stopped = cluster.api.now();
        cluster.api.more_logins(12).await;
        // Longer than the beats of a replica may fail.
        cluster.api.until("time passes", |_| cluster.api.since(stopped) > FAILOVER * 2).await;
        for replica in &cluster.replicas {
            assert_eq!(replica.count("cluster_unreachable", ""), 0, "{}", cluster.story());
        }
        cluster.etcd.signal(0, Signal::CONT);
        assert_no_double_login(&cluster);
        let dead = cluster.api.see(|ledger| ledger.dead(|token| token.starts_with("eternal")));
        assert!(dead.is_empty(), "{dead:?}\n{}", cluster.story());
        let count = tokens.len();
        report("TLS", &format!("{count} tokens taken over after {:.1} s", took.as_secs_f64()));
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn replicas_share_a_login_with_a_password_or_a_certificate_alone() {
    scenario(async || {
        for access in [Access::TlsPassword, Access::Certificate] {
            let mut cluster = Cluster::with(1, access, 2, tokens(2, 2)).await;
            for replica in &cluster.replicas {
                // Without users, etcd does not care whose certificate it is.
                let pair = cluster.etcd.authority.issue_with(&["keeper"], |_| {});
                replica.renew(&pair);
            }
            cluster.join().await;
            cluster.api.more_logins(6).await;
            assert_no_double_login(&cluster);
        }
        report("TLS", "with a password, and with a certificate alone");
    });
}

/// What one replica does wrong.
struct Mistake<'a> {
    /// A text in `[cluster]`, and what it has in its place.
    change: [&'a str; 2],
    trusted: &'a Authority,
    certificate: &'a Pair,
    /// A part of its message.
    remedy: &'static str,
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn each_mistake_about_tls_is_named_with_its_remedy_and_no_login_happens() {
    scenario(async || {
        let one_way = [ExtendedKeyUsagePurpose::ServerAuth];
        let one_way = Etcd::start(1, Access::Certificate, &one_way).await;
        let plain = Etcd::start(1, Access::Password, &USAGES).await;
        let tokens = vec![Token::eternal("eternal"), Token::mortal("mortal")];
        let mut cluster = Cluster::with(1, Access::CertificatePassword, 10, tokens).await;
        let (own, other) = (&cluster.etcd.authority, &one_way.authority);
        let good = client_certificate(own);
        let strange = client_certificate(other);
        let named = own.issue_with(&["keeper"], |_| {});
        let expired = own.issue_with(&[], |params| {
            params.distinguished_name = DistinguishedName::new();
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        let (url, user, address) = (&*cluster.etcd.url(0), &*user(), &*address(0));
        let wrong_scheme = plain.url(0).replace("http://", "https://");
        let right = Mistake { change: ["", ""], trusted: own, certificate: &good, remedy: "" };
        let mistakes = [
            Mistake {
                change: [CLIENT_CERTIFICATE, ""],
                remedy: "`client_cert_file` and `client_key_file` of [cluster]",
                ..right
            },
            Mistake { certificate: &strange, remedy: "`client_cert_file` of [cluster]", ..right },
            Mistake { certificate: &expired, remedy: "[cluster] expired at 2021-01-01", ..right },
            Mistake { certificate: &named, remedy: "issue one without a CN", ..right },
            Mistake { change: [user, ""], remedy: "set `user` and `password`", ..right },
            Mistake { trusted: other, remedy: "set `ca_file` of [cluster]", ..right },
            Mistake {
                change: [address, UNCERTIFIED],
                remedy: "not for 127.0.9.1: check `etcd` of [cluster]",
                ..right
            },
            Mistake {
                change: ["https://", "http://"],
                remedy: "write https:// into `etcd`",
                ..right
            },
            Mistake { change: [url, &wrong_scheme], remedy: "serves https there", ..right },
            Mistake {
                change: [url, &one_way.url(0)],
                trusted: other,
                certificate: &strange,
                remedy: "serverAuth and clientAuth",
            },
        ];
        for (index, mistake) in mistakes.iter().enumerate() {
            let [from, to] = mistake.change;
            let section = cluster.section(index);
            assert!(section.contains(from), "{from}");
            cluster.configure_with(index, &section.replace(from, to));
            let replica = &mut cluster.replicas[index];
            replica.renew(mistake.certificate);
            replica.stage.write("ca.pem", &mistake.trusted.pem());
            replica.start();
        }
        let wait = cluster.replicas.iter().zip(&mistakes).map(async |(replica, mistake)| {
            refused(replica, 1).await;
            let reason = says(replica, mistake.remedy).await;
            assert!(!reason.contains("S3CR3T"), "{reason}");
            asks_and_does_not_log_in(&cluster, replica.index).await;
        });
        join_all(wait).await;
        let warning = cluster.replicas[2].daemon().event("config_warning", "").await;
        assert!(warning.text("message").contains("expired at 2021-01-01"), "{warning:?}");
        // The remedy.
        for replica in &cluster.replicas {
            replica.renew(&good);
            replica.stage.write("ca.pem", &own.pem());
            cluster.configure(replica.index);
            reload(replica).await;
        }
        for replica in &cluster.replicas {
            replica.daemon().event("cluster_joined", "").await;
        }
        cluster.api.more_logins(2).await;
        report("TLS", &format!("{} mistakes, each named with its remedy", mistakes.len()));
    });
}

/// Waits until the status of the replica gives a reason with these words why it cannot use etcd, and
/// returns it; without words, until it can use etcd. The first reason may be an earlier one.
async fn says(replica: &Replica, words: &str) -> String {
    let deadline = tokenkeep::clock::now() + PATIENCE;
    loop {
        let cluster = &replica.tokens().await["cluster"];
        let reason = cluster["error"].as_str().unwrap_or_default();
        if words.is_empty() == reason.is_empty() && reason.contains(words) {
            return reason.to_owned();
        }
        assert!(tokenkeep::clock::now() < deadline, "{words}: {reason}\n{}", replica.story());
        tokio::time::sleep(millis(50)).await;
    }
}

async fn reload(replica: &Replica) {
    let output = replica.command("reload", &["--wait"]).await;
    assert!(output.status.success(), "{output:?}\n{}", replica.story());
}

/// How many tokens the replica checks.
async fn asked(replica: &Replica) -> Option<u64> {
    replica.tokens().await["cluster"]["asked"].as_u64()
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn renewed_client_certificate_is_used_after_a_reload_and_after_a_rejection() {
    scenario(async || {
        let mut cluster = Cluster::with(1, Access::CertificatePassword, 2, tokens(16, 0)).await;
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        cluster.etcd.trust(&[&old, &new]).await;
        for replica in &cluster.replicas {
            replica.renew(&client_certificate(&old));
        }
        cluster.join().await;
        let both = |ledger: &Ledger| {
            let now = cluster.api.now();
            (0..2).all(|replica| part(ledger, now, replica, 16).is_some())
        };
        cluster.api.until("two parts", both).await;
        let before = asked(&cluster.replicas[0]).await;

        // The two files cannot be replaced in one step.
        let renewed = client_certificate(&new);
        cluster.replicas[0].stage.write("client.pem", &renewed.cert);
        let output = cluster.replicas[0].command("reload", &["--wait"]).await;
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        cluster.replicas[0].renew(&renewed);
        reload(&cluster.replicas[0]).await;
        let line = cluster.replicas[0].daemon().event("config_reloaded", "").await;
        assert_eq!(line.text("message"), "configuration reloaded", "not unchanged");
        let at = cluster.api.now();
        cluster.api.until("time passes", |_| cluster.api.since(at) > FAILOVER * 2).await;
        assert_eq!(asked(&cluster.replicas[0]).await, before, "{}", cluster.story());
        for event in ["replica_left", "cluster_unreachable"] {
            let count = cluster.replicas.iter().map(|it| it.count(event, "")).sum::<usize>();
            assert_eq!(count, 0, "{event}\n{}", cluster.story());
        }

        // Only the renewed one is accepted from now on.
        cluster.etcd.trust(&[&new]).await;
        refused(&cluster.replicas[1], 1).await;
        says(&cluster.replicas[1], "`client_cert_file` of [cluster]").await;
        says(&cluster.replicas[0], "").await;
        // Without a reload, because etcd rejects the other one.
        cluster.replicas[1].renew(&client_certificate(&new));
        cluster.replicas[1].daemon().event("cluster_recovered", "").await;
        report("TLS", "a renewed client certificate is used after a reload, or a rejection");
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn replica_starts_without_its_certificates_and_joins_once_they_are_there() {
    scenario(async || {
        let tokens = vec![Token::eternal("eternal"), Token::mortal("mortal")];
        let mut cluster = Cluster::with(1, Access::CertificatePassword, 1, tokens).await;
        let folder = cluster.replicas[0].stage.path(".");
        for file in ["ca.pem", "client.pem", "client.key", "etcd.password"] {
            std::fs::rename(folder.join(file), folder.join(file.to_owned() + ".away"))
                .expect("moved");
        }
        cluster.replicas[0].start();
        let reason = refused(&cluster.replicas[0], 1).await;
        assert!(reason.contains("`password` of [cluster]"), "{reason}");
        asks_and_does_not_log_in(&cluster, 0).await;
        // A token that is added meanwhile does not need etcd.
        cluster.add_on(0, Token::eternal("added"));
        reload(&cluster.replicas[0]).await;
        let is_checked = |ledger: &Ledger| ledger.checks.iter().any(|it| it.token == "added");
        cluster.api.until("the added token is checked", is_checked).await;
        // The certificate before its key: the pair does not match while one is written.
        for file in ["etcd.password", "ca.pem", "client.pem"] {
            std::fs::rename(folder.join(file.to_owned() + ".away"), folder.join(file))
                .expect("moved");
        }
        let strange = client_certificate(&Authority::new("other"));
        cluster.replicas[0].stage.write("client.key", &strange.key);
        says(&cluster.replicas[0], "`client_key_file` of [cluster]").await;
        std::fs::rename(folder.join("client.key.away"), folder.join("client.key")).expect("moved");
        cluster.replicas[0].daemon().event("cluster_joined", "").await;
        cluster.api.more_logins(2).await;
        report("TLS", "a replica joins once its certificates are there");
    });
}
