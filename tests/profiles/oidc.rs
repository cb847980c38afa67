//! The profile `oauth2` with npm's `oidc-provider`: access tokens of 8 s, and refresh tokens that can
//! each be used once.

mod crashes;
mod interference;
mod losses;
mod tap;

use crate::scenario::{assert_secret, count, story, survives};
use crate::servers::{CLIENT, Oidc, Server as _};
use crate::support::{Stage, seconds};

/// The configuration of a server; `keys` are more of its keys.
fn server_table(url: &str, keys: &str) -> String {
    let (name, _) = CLIENT;
    format!(
        "[server.idp]\nurl = \"{url}\"\nprofile = \"oauth2\"\n\
         with = {{ client_id = \"{name}\", client_secret = {{ file = \"$DIR/client-secret\" }} }}\n\
         {keys}\n"
    )
}

/// The configuration of a token with the refresh token from this source; `keys` are more of its keys.
fn token_table(refresh: &str, keys: &str) -> String {
    format!(
        "[token.app]\nserver = \"idp\"\nfile = \"$DIR/run/app.token\"\nrefresh = {{ {refresh} }}\n\
         {keys}\n"
    )
}

#[tokio::test]
#[ignore = "needs a real server: tests/profiles/run"]
async fn access_token_outlives_a_restart_and_a_kill_and_no_refresh_token_is_used_twice() {
    let mut server = Oidc::start().await;
    let configuration = server_table(&server.url(), "")
        + "[token.app]\nserver = \"idp\"\nfile = \"$DIR/app.token\"\n\
           refresh = { file = \"$DIR/app.refresh\" }\n";
    let stage = Stage::new(&configuration);
    stage.write("client-secret", CLIENT.1);
    stage.write("app.refresh", &server.first().await);

    let lines = survives(&mut server, &stage, seconds(80)).await;
    server.assert_each_used_once();
    let uses = server.refreshes();
    // An access token lives for 8 s, and its replacement is due after 5.4 s, less 10% jitter.
    assert!((10..=25).contains(&uses.len()), "{} refreshes\n{}", uses.len(), story(&lines));
    let (access, refresh) = (stage.read("app.token"), stage.read("app.refresh"));
    let used = uses.iter().map(|used| used.token.as_str());
    assert_secret(&lines, used.chain([access.trim(), refresh.trim(), CLIENT.1]));
    let checks = count(&lines, "token_checked");
    println!("profiles: oidc: 80 s, {} refreshes, {checks} checks", uses.len());
}
