//! The main loop with all its parts.

use std::fs;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::*;
use crate::control::{ApiError, Command, ListParams};
use crate::scheduler::{SchedulerOutput, Ticket};
use crate::settings::load;

/// A daemon with this number of tokens on a server that takes one request at a time.
fn daemon(folder: &Path, tokens: usize) -> Daemon {
    let path = folder.join("tokenkeep.toml");
    let dir = folder.display();
    let mut text = format!(
        "state_dir = \"{dir}/state\"\n[server.sarus]\nurl = \"http://127.0.0.1:1\"\n\
         max_in_flight = 1\nrate_limit = 100000\n"
    );
    for n in 0..tokens {
        text += &format!("[token.t{n}]\nserver = \"sarus\"\nfile = \"{dir}/t{n}.token\"\n");
        fs::write(folder.join(format!("t{n}.token")), format!("t{n}-1")).unwrap();
    }
    fs::write(&path, text).unwrap();
    let settings = load(&path, std::iter::empty()).unwrap().settings;
    Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap()
}

/// The ticket of the last action that is pending.
fn pending_action(daemon: &Daemon) -> Ticket {
    let mut pending =
        daemon.tokens.scheduler.outputs.iter().rev().filter_map(|output| match output {
            SchedulerOutput::Action(ticket, _) => Some(*ticket),
            SchedulerOutput::TokenNotice(..)
            | SchedulerOutput::ServerNotice(..)
            | SchedulerOutput::ReauthExhausted { .. } => None,
        });
    pending.next().expect("an action")
}

#[tokio::test]
async fn action_of_a_removed_token_is_cancelled_and_its_place_goes_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = daemon(folder.path(), 2);
    let id = pending_action(&daemon).token;
    daemon.tokens.remove(id);
    // The server's rate limit allows for another request by now.
    sleep(Duration::from_millis(5)).await;
    daemon.executor().execute_actions();
    let server = daemon.tokens.servers.id_of("sarus").unwrap();
    assert_eq!(daemon.tasks.actions(), 1, "the other token is checked");
    assert_eq!(daemon.tokens.scheduler.in_flight(server), 1);
}

#[tokio::test]
async fn action_of_a_removed_token_does_not_start_for_the_next_token_with_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = daemon(folder.path(), 1);
    let id = pending_action(&daemon).token;
    let config = Arc::clone(daemon.tokens.registry.token(id).unwrap().config());
    let spec = daemon.tokens.scheduler.spec(id).unwrap().clone();
    daemon.tokens.remove(id);
    assert_eq!(daemon.tokens.add("second", &config, spec, 0), id);
    daemon.executor().execute_actions();
    assert_eq!(daemon.tasks.actions(), 0);
}

/// A daemon with a client.
fn daemon_with_client(folder: &Path) -> (Daemon, mpsc::Sender<Command>) {
    let mut daemon = daemon(folder, 1);
    let sender = daemon.control.connect();
    (daemon, sender)
}

/// Runs turns in which a task has always ended already, until the client is answered.
async fn run_saturated<T>(
    daemon: &mut Daemon,
    mut response: oneshot::Receiver<Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let mut timer = Timer::new().unwrap();
    let end = clock::now() + Duration::from_secs(10);
    while clock::now() < end {
        if let Ok(response) = response.try_recv() {
            return response;
        }
        daemon.tasks.read_sources(Vec::new());
        yield_now().await;
        let event = daemon.next_event(&mut timer, pending()).await.unwrap();
        daemon.handle_event(event);
        daemon.begin_turn();
    }
    panic!("the client is not answered");
}

#[tokio::test]
async fn command_is_executed_while_checks_never_stop_ending() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, sender) = daemon_with_client(folder.path());
    let (reply, response) = oneshot::channel();
    sender.send(Command::Ping(reply)).await.unwrap();
    assert_eq!(run_saturated(&mut daemon, response).await, Ok(()));
}

#[tokio::test]
async fn loop_waits_for_events_between_slices_and_commands_that_never_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, sender) = daemon_with_client(folder.path());
    let id = pending_action(&daemon).token;
    let mut timer = Timer::new().unwrap();
    for expected in ["waited", "slice", "command", "waited"] {
        let (reply, _response) = oneshot::channel();
        sender.send(Command::Ping(reply)).await.unwrap();
        daemon.source_reads.push_back(daemon.tokens.read_request(id).unwrap().read());
        daemon.woke = daemon.woke + Duration::from_secs(1);
        let event = daemon.next_event(&mut timer, std::future::ready(())).await.unwrap();
        let seen = match event {
            Event::Stop => "waited",
            Event::Slice => "slice",
            Event::Control(_) => "command",
            other => panic!("{other:?}"),
        };
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn query_is_answered_while_checks_never_stop_ending() {
    let folder = tempfile::tempdir().unwrap();
    let (mut daemon, sender) = daemon_with_client(folder.path());
    let (reply, response) = oneshot::channel();
    sender.send(Command::List(ListParams::default(), reply)).await.unwrap();
    let page = run_saturated(&mut daemon, response).await.unwrap();
    assert_eq!(page.tokens.len(), 1);
}
