//! The README's pictures, taken of the real program: `docs/screenshots` asks for them.

use tokenkeep::simulator::{Behaviour, RenewsBy, Simulator};

use crate::listen::control;
use crate::support::{
    Browser, Stage, free_port, login_simulator, mortal_simulator, on_a_terminal, post, seconds,
    secret, server_table, simulator, simulator_with, token_table,
};

/// Draws TEXT, with its colours, as a terminal would.
const TERMINAL: &str = r##"
const colours =
  { 9: "#ff8f86", 10: "#63c79a", 11: "#e0b04f", 31: "#ff8f86", 32: "#63c79a", 33: "#e0b04f" };
const pre = document.createElement("pre");
pre.style.cssText = "display: inline-block; margin: 0; padding: 20px 24px; color: #e8e6e1; " +
  "background: #15181b; font: 15px/1.4 'DejaVu Sans Mono', monospace";
let style = {};
pre.append("$ tokenkeep status\n");
for (const part of TEXT.replaceAll("\r", "").split(/(\x1b\[[0-9;]*m)/)) {
  const code = part.match(/^\x1b\[([0-9;]*)m$/)?.[1];
  if (code === undefined) {
    const span = document.createElement("span");
    Object.assign(span.style, style);
    span.append(part);
    pre.append(span);
  } else if (code === "0" || code === "39") style = {};
  else if (code === "1") style = { fontWeight: "bold" };
  else style = { color: colours[code.split(";").at(-1)] ?? "inherit" };
}
document.body.style.margin = "0";
document.body.replaceChildren(pre);
"##;

/// What is alive, with a life in seconds, by server.
const ALIVE: [(&str, &str, u64); 14] = [
    ("quotes-london", "sarus", 1_800),
    ("quotes-zurich", "sarus", 1_800),
    ("quotes-tokyo", "sarus", 1_200),
    ("orders-desk-1", "sarus", 20),
    ("orders-desk-2", "sarus", 45),
    ("orders-desk-3", "sarus", 90),
    ("history-daily", "archive", 86_400),
    ("history-ticks", "archive", 43_200),
    ("history-rates", "archive", 21_600),
    ("research-a", "archive", 3_600),
    ("research-b", "archive", 45),
    ("risk-overnight", "archive", 7_200),
    ("risk-intraday", "archive", 600),
    ("settlement", "sarus", 120),
];

#[tokio::test]
#[ignore = "writes the README's pictures; docs/screenshots runs it"]
async fn the_page_and_the_terminal() {
    let folder = std::env::var("TOKENKEEP_PICTURES").expect("docs/screenshots says where");
    let sarus = simulator().await;
    let archive =
        simulator_with(Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() }).await;
    let (legacy, mortal) = (login_simulator().await, mortal_simulator().await);
    let port = free_port();
    let stage = Stage::new(&configuration(port, [&sarus, &archive, &legacy, &mortal]));
    for (name, server, life) in ALIVE {
        let server = if server == "sarus" { &sarus } else { &archive };
        server.add_token(&stage.token(name), seconds(life));
    }
    stage.write("api.key", &secret("key"));
    legacy.add_token(&stage.token("backoffice"), seconds(2));
    mortal.add_token(&stage.token("reporting"), seconds(2));
    mortal.add_token(&stage.token("audit"), seconds(3_600));
    stage.token("trial-account");
    let daemon = stage.start();
    daemon.event("token_expired", "reporting").await;
    daemon.event("reauth_succeeded", "backoffice").await;
    daemon.event("token_rejected", "trial-account").await;
    post(&stage, "/v1/tokens/audit/pause").await;
    let browser = Browser::start().await;
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        browser.open(&format!("http://127.0.0.1:{port}/")).await;
        browser.until("body.children.length >= 12 && body.innerText.includes('paused')").await;
        // By then lives have run down for a while, and are seen to differ.
        let desk = "[...body.children].find((row) => row.innerText.includes('orders-desk-1'))";
        browser
            .until(&format!("{desk}?.querySelector('.left').innerText.match(/^1[0-2] s/)"))
            .await;
        browser.picture("document.documentElement", &format!("{folder}/page-{scheme}.png")).await;
    }
    let shown = on_a_terminal(stage.command("status"), 100, true).await;
    browser.open("about:blank").await;
    browser.run(&TERMINAL.replace("TEXT", &serde_json::Value::from(shown).to_string())).await;
    browser.picture("document.querySelector('pre')", &format!("{folder}/status.png")).await;
    daemon.stop().await;
}

fn configuration(port: u16, servers: [&Simulator; 4]) -> String {
    let names = ["sarus", "archive", "legacy", "trial"];
    let servers = names.iter().zip(servers).map(|(name, server)| server_table(name, server, ""));
    let alive = ALIVE.iter().map(|(name, server, _)| token_table(name, server, ""));
    let others = [
        ("backoffice", "legacy", "reauth = \"login\""),
        ("reporting", "trial", ""),
        ("audit", "trial", ""),
        ("trial-account", "trial", ""),
        ("mobile-app", "sarus", ""),
    ];
    let others = others.iter().map(|(name, server, keys)| token_table(name, server, keys));
    let reauth = "[reauth.login]\napi_key_file = \"$DIR/api.key\"\n".to_owned();
    servers.chain(alive).chain(others).chain([reauth, control(port, "")]).collect()
}
