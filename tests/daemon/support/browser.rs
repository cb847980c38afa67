//! A real browser: headless Chromium, driven by the `WebDriver` protocol.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenkeep::clock;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{PATIENCE, millis};

/// Says nothing to anybody but the page, runs as root, and needs no screen.
const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// The accessibility checker: where `.ci/run` puts it, or where the environment says.
const AXE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/axe/node_modules/axe-core/axe.min.js");

/// Keys as the protocol writes them.
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";
pub(crate) const DOWN: &str = "\u{e015}";
pub(crate) const END: &str = "\u{e010}";

/// A browser with one window. It is gone when this is dropped.
pub(crate) struct Browser {
    http: reqwest::Client,
    address: SocketAddr,
    session: String,
    _driver: Child,
    _folder: TempDir,
}

impl Browser {
    /// Starts one that has no memory of any other.
    pub(crate) async fn start() -> Self {
        let (driver, port) = Self::driver().await;
        let folder = tempfile::tempdir().expect("a folder");
        let mut arguments: Vec<_> = ARGUMENTS.iter().map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", folder.path().display()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut browser =
            Self { http, address, session: String::new(), _driver: driver, _folder: folder };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = browser.ask("/session", &wanted).await;
        browser.session.push_str(session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// Starts the driver, and returns its port. It takes one that is free for IPv4, and fails if it is
    /// not free for IPv6.
    async fn driver() -> (Child, u16) {
        for _ in 0..5 {
            let mut driver = Command::new("chromedriver")
                .args(["--port=0", "--log-level=SEVERE"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("chromedriver is installed, as .ci/run does");
            let mut lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
            while let Some(line) = lines.next_line().await.expect("text") {
                let told = line.rsplit_once("successfully on port ");
                let port = told.and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
                if let Some(port) = port {
                    return (driver, port);
                }
            }
        }
        panic!("chromedriver finds no free port");
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("http://{}{path}", self.address));
        let answer = request.body(body.to_string()).timeout(PATIENCE).send().await;
        let text = answer.expect("an answer").text().await.expect("text");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{path} {body}: {value}");
        value
    }

    async fn command(&self, command: &str, body: Value) -> Value {
        self.ask(&format!("/session/{}{command}", self.session), &body).await
    }

    /// Goes to a page, and waits until it is there.
    pub(crate) async fn open(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// What this JavaScript function body returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// What this JavaScript expression is.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        self.run(&format!("return ({expression});")).await
    }

    /// Waits until this JavaScript expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let deadline = clock::now() + PATIENCE;
        while self.eval(&format!("!!({expression})")).await != true {
            if clock::now() >= deadline {
                let page = self.eval("document.body.innerText").await;
                panic!("not so in time: {expression}\n{page}");
            }
            tokio::time::sleep(millis(50)).await;
        }
    }

    /// Presses and releases each of these keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let pressed = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let actions: Vec<_> = pressed.collect();
        let body = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        self.command("/actions", body).await;
    }

    /// Makes the browser prefer `dark` or `light`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let body = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}});
        self.command("/goog/cdp/execute", body).await;
    }

    /// Gives the page this size in pixels; a narrow one is a phone's.
    pub(crate) async fn size(&self, width: u32, height: u32) {
        let params = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        let body = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": params});
        self.command("/goog/cdp/execute", body).await;
    }

    /// What axe-core finds wrong with the page as it is now.
    pub(crate) async fn violations(&self) -> Value {
        let path = std::env::var_os("TOKENKEEP_AXE").map_or_else(|| AXE.into(), PathBuf::from);
        let axe = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("axe-core at {}: {error}", path.display()));
        self.run(&axe).await;
        let script = "const done = arguments[0]; axe.run().then(({violations}) => \
             done(violations.map(({id, nodes}) => [id, nodes.map((node) => node.html)])));";
        self.command("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// The addresses that the browser has asked for since the last time, but for those of its
    /// own pages: it begins with one.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({"type": "performance"})).await;
        let entries = log.as_array().expect("a list").iter();
        let messages = entries.filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            let sent = message["method"] == "Network.requestWillBeSent";
            sent.then(|| message["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        messages.filter(|url: &String| !url.starts_with("chrome:")).collect()
    }

    /// Writes what is to be seen of this element into a PNG file.
    pub(crate) async fn picture(&self, element: &str, path: &str) {
        let clip = format!(
            "return (({{x, y, width, height}}) => ({{x, y, width, height, scale: 1}})) \
             ({element}.getBoundingClientRect());"
        );
        let clip = self.run(&clip).await;
        self.capture(json!({ "clip": clip }), path).await;
    }

    /// Writes the visible part of the page into a PNG file.
    pub(crate) async fn screenshot(&self, path: &str) {
        self.capture(json!({}), path).await;
    }

    async fn capture(&self, params: Value, path: &str) {
        let body = json!({"cmd": "Page.captureScreenshot", "params": params});
        let picture = self.command("/goog/cdp/execute", body).await;
        let text = picture["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        std::fs::write(path, bytes).expect("a folder to write to");
    }

    /// What the browser complains of.
    pub(crate) async fn complaints(&self) -> Value {
        self.command("/se/log", json!({"type": "browser"})).await
    }
}

impl Drop for Browser {
    /// The driver would leave the browser behind if it were only killed.
    fn drop(&mut self) {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return };
        let text = format!(
            "DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            self.session
        );
        // A test that fails must not hang for it.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.read(&mut [0; 512]));
    }
}
