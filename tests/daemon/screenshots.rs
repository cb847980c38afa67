//! Pictures of the real program, for the README and for looking at: `docs/screenshots` asks for them.

use std::path::{Path, PathBuf};

use tokenkeep::simulator::{Behaviour, RenewsBy, Simulator};

use crate::listen::control;
use crate::support::{
    Browser, Daemon, Stage, free_port, login_simulator, mortal_simulator, on_a_terminal, post,
    seconds, secret, server_table, simulator, simulator_with, token_table,
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

/// A daemon with its servers, as it is to be seen.
struct Scene {
    stage: Stage,
    daemon: Daemon,
    port: u16,
    servers: Vec<Simulator>,
}

#[tokio::test]
#[ignore = "writes the README's pictures; docs/screenshots runs it"]
async fn the_page_and_the_terminal() {
    let folder = folder();
    let scene = twenty().await;
    let browser = Browser::start().await;
    browser.size(1_280, 800).await;
    scene.open(&browser).await;
    // By then lives have run down for a while, and are seen to differ.
    let desk = "[...body.children].find((row) => row.innerText.includes('orders-desk-1'))";
    browser.until(&format!("{desk}?.querySelector('.left').innerText.match(/^1[0-2] s/)")).await;
    browser.screenshot(&path(&folder, "page-light")).await;
    scene.terminal(&browser, 100, &path(&folder, "status")).await;
    scene.daemon.stop().await;
}

#[tokio::test]
#[ignore = "writes pictures of every layout; docs/screenshots all runs it"]
async fn every_layout() {
    let folder = folder();
    let browser = Browser::start().await;
    for name in ["three", "twenty", "thousands", "outage"] {
        let scene = match name {
            "three" => three().await,
            "twenty" => twenty().await,
            "thousands" => thousands().await,
            _ => outage().await,
        };
        for (screen, width, height) in [("desktop", 1_280, 800), ("phone", 375, 667)] {
            browser.size(width, height).await;
            for scheme in ["light", "dark"] {
                browser.prefer(scheme).await;
                scene.open(&browser).await;
                let file = path(&folder, &format!("{name}-{screen}-{scheme}"));
                browser.screenshot(&file).await;
                assert_eq!(browser.violations().await, serde_json::json!([]), "{file}");
            }
        }
        browser.size(1_600, 1_400).await;
        for columns in [100, 60] {
            let file = path(&folder, &format!("{name}-terminal-{columns}"));
            scene.terminal(&browser, columns, &file).await;
        }
        scene.daemon.stop().await;
    }
}

impl Scene {
    /// A scene whose files `prepare` writes before the daemon starts.
    fn new(
        configuration: &str,
        servers: Vec<Simulator>,
        prepare: impl FnOnce(&Stage, &[Simulator]),
    ) -> Self {
        let port = free_port();
        let stage = Stage::new(&(configuration.to_owned() + &control(port, "")));
        prepare(&stage, &servers);
        let daemon = stage.start();
        Self { stage, daemon, port, servers }
    }

    /// Opens the page, and waits until it is complete.
    async fn open(&self, browser: &Browser) {
        browser.open(&format!("http://127.0.0.1:{}/", self.port)).await;
        browser.until("link.textContent === 'Live' && body.children.length > 2").await;
        browser.until("sentence.innerText !== '' && recent.children.length > 0").await;
    }

    /// The output of `tokenkeep status` on a terminal of this width.
    async fn terminal(&self, browser: &Browser, columns: u16, path: &str) {
        let shown = on_a_terminal(self.stage.command("status"), columns, true).await;
        browser.open("about:blank").await;
        browser.run(&TERMINAL.replace("TEXT", &serde_json::Value::from(shown).to_string())).await;
        browser.picture("document.querySelector('pre')", path).await;
    }
}

async fn three() -> Scene {
    let server = simulator().await;
    let names = ["quotes", "orders", "history"];
    let tokens = names.map(|name| token_table(name, "sarus", "")).concat();
    let configuration = server_table("sarus", &server, "") + &tokens;
    let scene = Scene::new(&configuration, vec![server], |stage, servers| {
        for (name, life) in names.into_iter().zip([1_800, 3_600, 86_400]) {
            servers[0].add_token(&stage.token(name), seconds(life));
        }
    });
    scene.daemon.event("token_checked", "history").await;
    scene
}

/// Three tokens whose server is down.
async fn outage() -> Scene {
    let scene = three().await;
    let down = Behaviour { maintenance: true, ..Behaviour::default() };
    scene.servers[0].set_behaviour(down);
    for name in ["quotes", "orders", "history"] {
        post(&scene.stage, &format!("/v1/tokens/{name}/check")).await;
    }
    scene.daemon.event("server_unavailable", "").await;
    scene
}

async fn thousands() -> Scene {
    let server = simulator().await;
    let lines = (0..5_000).map(|index| {
        let (name, value) = (format!("client-{index:04}"), secret(&format!("value-{index}")));
        server.add_token(&value, seconds(600 + index));
        format!("{{\"name\": \"{name}\", \"token\": \"{value}\"}}\n")
    });
    let lines = lines.collect::<String>();
    let configuration = server_table("sarus", &server, "rate_limit = 100000")
        + "[inventory.clients]\nserver = \"sarus\"\nfile = \"$DIR/clients.jsonl\"\n"
        + &token_table("mobile-app", "sarus", "");
    let scene = Scene::new(&configuration, vec![server], |stage, _| {
        stage.write("clients.jsonl", &lines);
    });
    scene.daemon.event("inventory_loaded", "").await;
    scene
}

/// Tokens in all states but retrying and unverified, on four servers.
async fn twenty() -> Scene {
    let sarus = simulator().await;
    let archive =
        simulator_with(Behaviour { renews_by: RenewsBy::Renew, ..Behaviour::default() }).await;
    let (legacy, mortal) = (login_simulator().await, mortal_simulator().await);
    let servers = vec![sarus, archive, legacy, mortal];
    let names = ["sarus", "archive", "legacy", "trial"];
    let tables = names.iter().zip(&servers).map(|(name, server)| server_table(name, server, ""));
    let alive = ALIVE.iter().map(|(name, server, _)| token_table(name, server, ""));
    let others = [
        ("backoffice", "legacy", "reauth = \"login\""),
        ("reporting", "trial", ""),
        ("audit", "trial", ""),
        ("trial-account", "trial", ""),
        ("mobile-app", "sarus", ""),
        ("partner", "sarus", "reauth = \"broken\""),
    ];
    let others = others.iter().map(|(name, server, keys)| token_table(name, server, keys));
    let reauth = "[reauth.login]\napi_key_file = \"$DIR/api.key\"\n\
         [reauth.broken]\ncommand = [\"/bin/false\"]\ndelay = \"3m\"\n"
        .to_owned();
    let configuration = tables.chain(alive).chain(others).chain([reauth]).collect::<String>();
    let scene = Scene::new(&configuration, servers, |stage, servers| {
        for (name, server, life) in ALIVE {
            servers[usize::from(server != "sarus")].add_token(&stage.token(name), seconds(life));
        }
        for (name, server, life) in [("backoffice", 2, 2), ("reporting", 3, 2), ("audit", 3, 3_600)]
        {
            servers[server].add_token(&stage.token(name), seconds(life));
        }
        stage.token("trial-account");
        stage.token("partner");
        stage.write("api.key", &secret("key"));
    });
    let daemon = &scene.daemon;
    daemon.event("token_expired", "reporting").await;
    daemon.event("reauth_succeeded", "backoffice").await;
    daemon.event("token_rejected", "trial-account").await;
    daemon.event("reauth_failed", "partner").await;
    post(&scene.stage, "/v1/tokens/audit/pause").await;
    scene
}

fn folder() -> PathBuf {
    std::env::var_os("TOKENKEEP_PICTURES").expect("docs/screenshots says where").into()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).with_extension("png").to_str().expect("UTF-8").to_owned()
}
