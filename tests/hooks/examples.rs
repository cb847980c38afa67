//! The examples of docs/hooks.md, run as they are written, with a login that is slow, fails or
//! does not respond.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokenkeep::hook::{HookError, HookOutput, Invocation, run};
use tokenkeep::simulator::{Behaviour, Simulator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::PATIENCE;
use crate::doubles::{Plan, PlanFaults as _, RetryAfter, Trouble};

const HOOKS: &str = include_str!("../../docs/hooks.md");

/// Six times as long as `socat` waits by default after the end of its input.
const SLOW: Duration = Duration::from_secs(3);

const KEY: &str = "k3y/with+odd=characters&";

/// An example as a program, with the paths that it names moved into a folder.
struct Example {
    folder: TempDir,
    program: PathBuf,
}

impl Example {
    /// The example that contains `mark`; `None`, said on standard error, if it cannot run here.
    fn with(mark: &str, tools: &[&str]) -> Option<Self> {
        for tool in tools {
            let path = std::env::var_os("PATH").unwrap_or_default();
            if !std::env::split_paths(&path).any(|folder| folder.join(tool).exists()) {
                eprintln!("skipped: there is no {tool}");
                return None;
            }
        }
        let mut scripts = scripts().into_iter().filter(|script| script.contains(mark));
        let script = scripts.next().expect("the example");
        assert_eq!(scripts.next(), None, "one example only contains {mark}");
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let script = script
            .replace("/run/tokenkeep-hook.sock", &at("hook.sock"))
            .replace("/etc/tokenkeep/sarus.key", &at("sarus.key"));
        assert!(script.contains(&at("")), "{script}");
        let program = folder.path().join("example");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
        fs::write(folder.path().join("sarus.key"), KEY).unwrap();
        Some(Self { folder, program })
    }

    /// Both examples that connect to a socket.
    fn of_a_socket() -> Vec<Self> {
        ["socat -u", "socat -t"].iter().filter_map(|mark| Self::with(mark, &["socat"])).collect()
    }

    fn built_in_login() -> Option<Self> {
        Self::with("curl", &["curl", "jq"])
    }

    async fn run(&self, url: &str) -> Result<HookOutput, HookError> {
        let command = [self.program.to_str().unwrap().to_owned()];
        let end = run(Invocation {
            command: &command,
            timeout: PATIENCE,
            name: "quotes",
            server: "sarus",
            url,
            reason: "expired",
            status: None,
            detail: None,
            attempt: 1,
            file: None,
        });
        end.await
    }

    /// Serves the socket: `login` gets each connection.
    fn serve<F: Future<Output = ()> + Send>(
        &self,
        login: impl Fn(UnixStream) -> F + Send + Sync + 'static,
    ) -> JoinHandle<()> {
        let listener = UnixListener::bind(self.folder.path().join("hook.sock")).unwrap();
        tokio::spawn(async move {
            loop {
                login(listener.accept().await.unwrap().0).await;
            }
        })
    }
}

/// The shell scripts in the page.
fn scripts() -> Vec<&'static str> {
    let blocks = HOOKS.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with("#!")).collect()
}

fn value(result: Result<HookOutput, HookError>) -> String {
    match result {
        Ok(HookOutput::NewValue(value)) => value.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn is_inconclusive(result: &Result<HookOutput, HookError>) -> bool {
    matches!(result, Err(fault) if fault.is_inconclusive())
}

fn is_a_counted_failure(result: &Result<HookOutput, HookError>) -> bool {
    matches!(result, Err(HookError::Exit { .. }))
}

async fn built_in_simulator() -> Simulator {
    let behaviour = Behaviour { api_key: Some(KEY.into()), ..Behaviour::default() };
    Simulator::start(behaviour).await.unwrap()
}

#[test]
fn every_script_of_the_page_is_run_by_one_of_these_tests() {
    let tested = ["socat -u", "socat -t", "curl"];
    let scripts = scripts();
    assert_eq!(scripts.len(), tested.len(), "{scripts:?}");
    for mark in tested {
        assert!(scripts.iter().any(|script| script.contains(mark)), "{mark}");
    }
}

#[tokio::test]
async fn a_slow_login_behind_a_socket_loses_no_token() {
    for example in Example::of_a_socket() {
        // A login that ends its line, and one that does not.
        for output in ["new-1\n", "new-1"] {
            let _ = fs::remove_file(example.folder.path().join("hook.sock"));
            let serving = example.serve(move |mut stream| async move {
                tokio::time::sleep(SLOW).await;
                stream.write_all(output.as_bytes()).await.unwrap();
            });
            assert_eq!(value(example.run("").await), "new-1", "{output:?}");
            serving.abort();
        }
    }
}

#[tokio::test]
async fn a_login_behind_a_socket_learns_the_token_s_name_if_the_command_sends_it() {
    let Some(example) = Example::with("socat -t", &["socat"]) else { return };
    let _serving = example.serve(|mut stream| async move {
        let mut name = String::new();
        stream.read_to_string(&mut name).await.unwrap();
        tokio::time::sleep(SLOW).await;
        stream.write_all(format!("new-for-{name}").as_bytes()).await.unwrap();
    });
    assert_eq!(value(example.run("").await), "new-for-quotes");
}

#[tokio::test]
async fn a_connection_that_is_closed_without_a_byte_is_inconclusive() {
    for example in Example::of_a_socket() {
        let _serving = example.serve(|stream| async move { drop(stream) });
        let result = example.run("").await;
        assert!(is_inconclusive(&result), "{result:?}");
    }
}

#[tokio::test]
async fn a_socket_without_a_server_is_inconclusive() {
    for example in Example::of_a_socket() {
        let result = example.run("").await;
        assert!(is_inconclusive(&result), "{result:?}");
    }
}

#[tokio::test]
async fn a_login_behind_a_socket_that_fails_is_a_failed_attempt() {
    for example in Example::of_a_socket() {
        let _serving = example.serve(|mut stream| async move {
            tokio::time::sleep(SLOW).await;
            stream.write_all(b"\n").await.unwrap();
        });
        let result = example.run("").await;
        assert!(is_a_counted_failure(&result), "{result:?}");
    }
}

#[tokio::test]
async fn the_script_with_the_built_in_login_prints_the_token_of_a_slow_server() {
    let Some(example) = Example::built_in_login() else { return };
    let server = built_in_simulator().await;
    server.set_behaviour(Behaviour {
        api_key: Some(KEY.into()),
        latency: SLOW,
        path_prefix: "/api/v2".to_owned(),
        ..Behaviour::default()
    });
    let token = value(example.run(&server.url()).await);
    assert!(server.remaining(&token).is_some());
}

#[tokio::test]
async fn the_script_with_the_built_in_login_tells_an_outage_from_a_refusal() {
    let Some(example) = Example::built_in_login() else { return };
    let mut server = built_in_simulator().await;
    let error = |status| Trouble::Error { status, detail: "no".to_owned() };
    for status in [400, 401, 403] {
        server.plan_fault(Plan::once(error(status)));
        let result = example.run(&server.url()).await;
        assert!(is_a_counted_failure(&result), "{status}: {result:?}");
    }
    let outages = [
        error(500),
        error(503),
        error(408),
        Trouble::Quiet { status: 429, retry_after: RetryAfter::Unsaid },
        Trouble::Html { status: 403 },
        Trouble::Html { status: 200 },
        Trouble::Body { status: 200, body: Vec::new() },
        Trouble::Reset,
        Trouble::ResetAfterHeaders,
    ];
    for trouble in outages {
        server.plan_fault(Plan::once(trouble.clone()));
        let result = example.run(&server.url()).await;
        assert!(is_inconclusive(&result), "{trouble:?}: {result:?}");
    }
    let url = server.url();
    server.go_down().await;
    assert!(is_inconclusive(&example.run(&url).await), "no connection");
    fs::remove_file(example.folder.path().join("sarus.key")).unwrap();
    assert!(is_inconclusive(&example.run(&url).await), "no key");
}
