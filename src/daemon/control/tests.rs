use std::fs;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::control::{ApiErrorKind, Caller, Command, ListParams};
use crate::daemon::config::Config;
use crate::daemon::inventories::Inventories;
use crate::daemon::metrics::Metrics;
use crate::daemon::tokens::Tokens;
use crate::settings::load;

/// The parts that commands read and change, without tokens.
struct World {
    tokens: Tokens,
    inventories: Inventories,
    config: Config,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenkeep.toml");
        fs::write(&path, "").unwrap();
        let settings = load(&path, std::iter::empty()).unwrap().settings;
        Self {
            tokens: Tokens::new(NonZeroU32::MIN, Duration::ZERO, 1),
            inventories: Inventories::new(),
            config: Config::new(settings, None, Arc::new(|| unreachable!())),
            metrics: Metrics::new(),
        }
    }

    fn parts(&mut self) -> Parts<'_> {
        let Self { tokens, inventories, config, metrics } = self;
        Parts { tokens, inventories, config, metrics, cluster: None }
    }
}

#[tokio::test]
async fn unauthorized_client_does_not_wait_for_a_reload() {
    let (mut world, mut queue) = (World::new(), ControlQueue::new());
    world.config.request_reload(&mut world.tokens);
    let mut wait = |caller| {
        let (reply, mut response) = oneshot::channel();
        let command = Command::ReloadOutcome { number: 1, caller, reply };
        queue.on_event(ControlEvent::Command(command), world.parts());
        response.try_recv().ok().map(|response| response.map_err(|error| error.kind))
    };
    let foreign = Caller { uid: u32::MAX - 1, gid: 0 };
    assert_eq!(wait(foreign), Some(Err(ApiErrorKind::Forbidden)));
    assert_eq!(wait(Caller { uid: 0, gid: 0 }), None, "it has not ended");
}

#[tokio::test]
async fn command_does_not_wait_for_the_end_of_all_queries() {
    let (mut world, mut queue) = (World::new(), ControlQueue::new());
    let sender = queue.connect();
    let (replies, _responses): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
    for reply in replies {
        queue
            .pending
            .handle_command(Command::List(ListParams::default(), reply), &mut world.parts());
    }
    let (reply, _response) = oneshot::channel();
    sender.send(Command::Ping(reply)).await.unwrap();
    assert!(matches!(queue.next().await, ControlEvent::Command(Command::Ping(_))));
    assert!(matches!(queue.next().await, ControlEvent::Slice), "the queries continue");
}
