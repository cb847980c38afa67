//! A token whose re-auth is a script.

use tokenkeep::simulator::Simulator;

use super::{Stage, seconds, secret, simulator, token_table};

/// One token whose re-auth is the script `hook`; `keys` are more keys of the re-auth.
pub(crate) fn configuration(server: &Simulator, keys: &str) -> String {
    format!(
        r#"
[server.sarus]
url = "{}"

[reauth.relogin]
command = ["$DIR/hook", "--profile", "quotes"]
delay = "50ms"
{keys}

{}"#,
        server.url(),
        token_table("quotes", "sarus", "reauth = \"relogin\""),
    )
}

/// A server with the token of a stage, which has expired, and another that lives for long.
pub(crate) async fn expired(keys: &str, hook: &str) -> (Simulator, Stage) {
    let server = simulator().await;
    let stage = Stage::new(&configuration(&server, keys));
    let value = stage.token("quotes");
    server.add_token(&value, seconds(60));
    server.expire(&value);
    server.add_token(&secret("new"), seconds(60));
    stage.script("hook", hook);
    (server, stage)
}

/// What a hook does to print the new token.
pub(crate) fn prints_new() -> String {
    format!("echo '{}'", secret("new"))
}
