//! The profile `etcd-lease`: a lease of 10 s.

use crate::scenario::{assert_learned_renew, count, survives};
use crate::servers::{Etcd, Server as _};
use crate::support::{Stage, seconds};

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn lease_outlives_a_restart_and_a_kill() {
    let mut server = Etcd::start().await;
    let stage = Stage::new(&format!(
        "[server.etcd]\nurl = \"{}\"\nprofile = \"etcd-lease\"\n\
         [token.app]\nserver = \"etcd\"\nfile = \"$DIR/app.token\"\n",
        server.url(),
    ));
    stage.write("app.token", &server.grant().await);
    let lines = survives(&mut server, &stage, seconds(75)).await;
    assert_learned_renew(&lines);
    println!("profiles: etcd: 75 s, {} checks", count(&lines, "token_checked"));
}
