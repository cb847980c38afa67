//! Zabbix' frontend on PHP's own server, with `PostgreSQL`. A session ends after 90 s without a request.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::process::{Process, folder};
use super::{Http, Server, installed, text};
use crate::support::free_port;

/// `PostgreSQL` refuses to run as root.
const NOBODY: u32 = 65534;

/// What a login sends.
pub(crate) const USER: (&str, &str) = ("Admin", "zabbix");

/// A running server.
pub(crate) struct Zabbix {
    http: Http,
    port: u16,
    frontend: Process,
    _database: Process,
    _folder: TempDir,
}

impl Zabbix {
    pub(crate) async fn start() -> Self {
        let (folder, port, database_port) = (folder(), free_port(), free_port());
        let database = database(&folder, database_port).await;
        let home = installed("zabbix");
        let frontend = Process::start(&folder.path().join("log"), move || {
            let mut command = Command::new(home.join("php"));
            command.env("ZABBIX_DB_PORT", database_port.to_string());
            command.args(["-d", "date.timezone=UTC", "-S", &format!("127.0.0.1:{port}"), "-t"]);
            command.arg(home.join("usr/share/zabbix"));
            command
        });
        let mut server =
            Self { http: Http::new(), port, frontend, _database: database, _folder: folder };
        server.serves().await;
        server
    }

    async fn serves(&mut self) {
        let (url, request) =
            (self.url() + "/api_jsonrpc.php", request("apiinfo.version", &json!([])));
        let Self { http, frontend, .. } = self;
        let answers = async || {
            let reply = http.send(&url, &[CONTENT], Some(request.clone())).await;
            reply.is_some_and(|reply| reply.json["result"].is_string())
        };
        frontend.until(answers).await;
    }

    /// A new value.
    pub(crate) async fn log_in(&self) -> String {
        let (user, password) = USER;
        let body = request("user.login", &json!({"user": user, "password": password}));
        let url = self.url() + "/api_jsonrpc.php";
        text(&self.http.must(&url, &[CONTENT], Some(body)).await.json, "/result")
    }
}

const CONTENT: (&str, &str) = ("Content-Type", "application/json-rpc");

fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string()
}

/// A new database with Zabbix' tables.
async fn database(folder: &TempDir, port: u16) -> Process {
    let programs = installed("zabbix").join("postgresql");
    let data = folder.path().join("data");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root's right");
    }
    let (initdb, postgres) = (programs.join("initdb"), programs.join("postgres"));
    let mut init = unprivileged(&initdb);
    init.args(["--auth=trust", "--username=zabbix", "--no-sync", "--encoding=UTF8", "--locale=C"]);
    run(init.arg("-D").arg(&data)).await;

    let mut process = Process::start(&folder.path().join("database.log"), move || {
        let mut command = unprivileged(&postgres);
        command.arg("-D").arg(&data).args(["-k", "", "-h", "127.0.0.1", "-c", "fsync=off"]);
        command.args(["-p", &port.to_string()]);
        command
    });
    let client = |program: &str, database: &str| {
        let mut command = Command::new(programs.join(program));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "zabbix", "-d", database]);
        command.kill_on_drop(true);
        command
    };
    let accepts = async || {
        let status = client("pg_isready", "postgres").arg("--quiet").status().await;
        status.is_ok_and(|status| status.success())
    };
    process.until(accepts).await;
    run(client("psql", "postgres").args(["-q", "-c", "CREATE DATABASE zabbix"])).await;
    let tables = installed("zabbix").join("database.sql");
    let import = ["-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f"];
    run(client("psql", "zabbix").args(import).arg(tables)).await;
    process
}

fn unprivileged(program: &std::path::Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let nobody = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

/// Runs a command that must succeed.
async fn run(command: &mut Command) {
    let output = command.output().await.expect("it is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Server for Zabbix {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn is_alive(&self, value: &str) -> Option<bool> {
        let url = self.url() + "/api_jsonrpc.php";
        let params = json!({"sessionid": value, "extend": false});
        let body = request("user.checkAuthentication", &params);
        let reply = self.http.send(&url, &[CONTENT], Some(body)).await?;
        let alive = reply.json["result"].is_object();
        (alive || reply.json["error"].is_object()).then_some(alive)
    }

    async fn restart(&mut self) {
        self.frontend.restart().await;
        self.serves().await;
    }
}
