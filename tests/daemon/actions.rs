//! Actions of the scheduler: each one ends, whatever happens to its token before it starts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Stage, about, seconds, secret, simulator, until};

/// Tokens that wait for the server's rate limit, and are removed.
const WAITING: usize = 400;

/// Tokens whose files are touched in the same batch, and that come before the others by name: each
/// of them has the scheduler hand out what is due. Together they take longer than it does from one
/// request to the next.
const TOUCHED: usize = 1_000;

#[tokio::test]
async fn token_is_checked_after_others_were_removed_while_they_waited() {
    let server = simulator().await;
    let stage = Stage::new(&format!(
        "[server.sarus]\nurl = \"{}\"\nmax_in_flight = 1\nrate_limit = 200\n\
         [inventory.crowd]\nserver = \"sarus\"\ndir = \"$DIR/tokens\"\n",
        server.url()
    ));
    let write = |name: &str, value: &str| {
        server.add_token(&secret(value), seconds(600));
        stage.write(&format!("tokens/{name}"), &secret(value));
    };
    let touched: Vec<_> = (0..TOUCHED).map(|n| format!("a{n:03}")).collect();
    let waiting: Vec<_> = (0..WAITING).map(|n| format!("m{n:03}")).collect();
    for name in &touched {
        write(name, name);
    }
    write("z", "z-0");
    let daemon = stage.start();
    let asked = |value: &str| !about(&server, &secret(value)).is_empty();
    until("all are checked", || touched.iter().chain([&"z-0".to_owned()]).all(|n| asked(n))).await;
    for round in 1..=6 {
        for name in &waiting {
            write(name, &format!("{round}-{name}"));
        }
        until("they are checked one by one", || asked(&format!("{round}-m009"))).await;

        // One batch of changes, whatever is written first.
        for name in &waiting {
            fs::remove_file(stage.path(&format!("tokens/{name}"))).expect("removed");
        }
        for name in &touched {
            let path = stage.path(&format!("tokens/{name}"));
            fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
        }
        let value = format!("z-{round}");
        write("z", &value);
        until("the token that stays is checked", || asked(&value)).await;
    }
    daemon.stop().await;
}
