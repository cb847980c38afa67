//! Controls: what the other scenarios see as double logins if there is nothing against them.

use rustix::process::Signal;

use crate::history;
use crate::ledger::Verdict;
use crate::namespace::report;
use crate::network::scenario;
use crate::replica::Replica;
use crate::stage::{Cluster, FAILOVER, KEY, Token};
use crate::support::{millis, seconds};

/// Doubles that a control must see.
const ENOUGH: usize = 3;

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn three_daemons_without_a_cluster_log_in_twice() {
    scenario(async || {
        let tokens = (0..10).map(|number| Token::mortal(format!("mortal-{number}"))).collect();
        let mut cluster = Cluster::new(1, 3, tokens).await;
        for index in 0..3 {
            cluster.configure_with(index, "");
        }
        cluster.replicas.iter_mut().for_each(Replica::start);
        let double = |ledger: &crate::ledger::Ledger| {
            ledger.logins.iter().filter(|login| login.double.is_some()).count()
        };
        cluster.api.until("double logins", |ledger| double(ledger) >= ENOUGH).await;
        let (logins, double) = cluster.api.see(|ledger| (ledger.logins.len(), double(ledger)));
        let keys = cluster.etcd.dump().await;
        assert!(keys.is_empty(), "etcd is touched: {keys:?}");
        report("control without claims", &format!("{double} double logins of {logins}"));
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn claim_on_a_lease_permits_a_login_while_a_stopped_replica_logs_in() {
    scenario(async || {
        let verdict = stopped_while_it_logs_in(true).await;
        assert!(verdict.double.len() >= ENOUGH, "the control sees nothing: {verdict:#?}");
        let figures = format!("{} double logins of {}", verdict.double.len(), verdict.logins);
        report("control with claims on leases", &figures);
    });
}

#[test]
#[ignore = "needs etcd: tests/cluster/run"]
fn claim_outlives_a_stopped_replica_that_logs_in() {
    scenario(async || {
        let verdict = stopped_while_it_logs_in(false).await;
        assert!(verdict.double.is_empty(), "{:#?}", verdict.double);
        let figures = format!("0 double logins of {}", verdict.logins);
        report("the same with claims without leases", &figures);
    });
}

/// Stops a replica while its logins are under way, until its lease has expired and the others have
/// taken its tokens, and beyond the end of these logins.
async fn stopped_while_it_logs_in(on_lease: bool) -> Verdict {
    let tokens = (0..12).map(|number| {
        let mut token = Token::mortal(format!("mortal-{number}"));
        // Longer than the lease, but within the login's time.
        token.rules.login = seconds(12)..seconds(14);
        token
    });
    let eternal = Token::eternal("eternal");
    let mut cluster = Cluster::new(1, 3, tokens.chain([eternal]).collect()).await;
    for index in 0..3 {
        let section = cluster.section(index);
        let tables = cluster.tables(index, &cluster.tokens);
        let tables = tables.replace("timeout = \"5s\"", "timeout = \"20s\"");
        let tables = tables.replace("renewal", "timeout = \"20s\"\nrenewal");
        cluster.replicas[index].stage.configure(&(section + &tables));
        if on_lease {
            cluster.replicas[index].variables.push(("TOKENKEEP_TEST_CLAIM_ON_LEASE", "1"));
        }
    }
    cluster.join().await;
    let under_way = |ledger: &crate::ledger::Ledger, replica: usize| {
        let logins = ledger.logins.iter();
        logins.filter(|login| login.replica == replica && login.ended.is_none()).count()
    };
    // Whichever has enough logins is stopped.
    let busiest = |ledger: &crate::ledger::Ledger| {
        (0..3).max_by_key(|replica| under_way(ledger, *replica)).expect("three")
    };
    let enough = |ledger: &crate::ledger::Ledger| under_way(ledger, busiest(ledger)) >= ENOUGH;
    cluster.api.until("logins at one replica", enough).await;
    let stopped = cluster.api.see(busiest);
    cluster.replicas[stopped].signal(Signal::STOP);
    let at = cluster.api.now();
    // Until all logins that were under way have ended.
    let over = |ledger: &crate::ledger::Ledger| {
        under_way(ledger, stopped) == 0
            && ledger.checks.iter().any(|check| check.at > at + FAILOVER + millis(500))
    };
    cluster.api.until("the logins have ended", over).await;
    cluster.replicas[stopped].signal(Signal::CONT);
    let stored = history::values(&history::read(&cluster.etcd).await, &[KEY]);
    cluster.api.ledger().judge(&stored)
}
