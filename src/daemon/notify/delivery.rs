//! One delivery: up to three attempts to run the command or call the webhook of a
//! `[notify.NAME]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::api::{HeaderLine, WebhookClient};
use crate::daemon::tasks::blocking::{NOTIFY, blocking_among, with_disk_timeout};
use crate::event_log::WaitingEvent;
use crate::hook::{self, FeedError, Variables};
use crate::outcome::CallError;
use crate::settings::{Notify, NotifyTarget, Webhook};
use crate::token_source::read_line;

/// Attempts for each event.
pub(super) const ATTEMPTS: u32 = 3;

/// Pauses before the second and the third attempt. An application that is restarting is usually
/// back after some seconds. Longer pauses would delay the events that wait behind this one.
const PAUSES: [Duration; ATTEMPTS as usize - 1] = [Duration::from_secs(1), Duration::from_secs(5)];

/// What receives the events of a `[notify.NAME]`.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) settings: Notify,
    /// The client of a webhook. Created for the first event, so that a file that is missing at
    /// startup delays nothing.
    client: OnceCell<WebhookClient>,
}

/// An event on its way to a receiver.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) receiver: Arc<Receiver>,
    pub(super) event: Arc<WaitingEvent>,
    /// The base URL of the event's server.
    pub(super) url: Option<String>,
    /// The file of the event's token.
    pub(super) file: Option<PathBuf>,
}

/// Why an event was not delivered.
#[derive(Debug)]
pub(super) struct DeliveryError {
    /// A sentence with a remedy.
    pub(super) error: String,
    /// The HTTP status, if there was a response.
    pub(super) status: Option<u16>,
    /// The exit status, if the command ended by itself.
    pub(super) exit_status: Option<i32>,
}

impl Receiver {
    pub(super) const fn new(settings: Notify) -> Self {
        Self { settings, client: OnceCell::const_new() }
    }

    async fn client(&self, webhook: &Webhook) -> Result<&WebhookClient, String> {
        let create = || async {
            let Notify { name, timeout, .. } = self.settings.clone();
            let webhook = webhook.clone();
            let create = move || WebhookClient::new(&name, &webhook, timeout);
            with_disk_timeout(blocking_among(&NOTIFY, create)).await.unwrap_or_else(|| {
                Err(format!(
                    "`ca_file` cannot be read: {NO_DISK}; check the file system of `ca_file`"
                ))
            })
        };
        self.client.get_or_try_init(create).await
    }
}

const NO_DISK: &str = "the disk does not respond";

impl Delivery {
    /// Makes up to [`ATTEMPTS`] attempts. Returns the error of the last one.
    pub(super) async fn run(self) -> Result<(), DeliveryError> {
        let json = self.event.json_line();
        let mut delivered = self.attempt(&json).await;
        for pause in PAUSES {
            if delivered.is_ok() {
                break;
            }
            sleep(pause).await;
            delivered = self.attempt(&json).await;
        }
        delivered
    }

    async fn attempt(&self, json: &[u8]) -> Result<(), DeliveryError> {
        match &self.receiver.settings.target {
            NotifyTarget::Command(command) => Ok(self.run_command(command, json).await?),
            NotifyTarget::Webhook(webhook) => Ok(self.call_webhook(webhook, json).await?),
        }
    }

    async fn run_command(&self, command: &[String], json: &[u8]) -> Result<(), FeedError> {
        let (event, limit) = (&self.event, self.receiver.settings.timeout);
        let variables = Variables {
            name: event.text("token"),
            server: event.text("server"),
            url: self.url.as_deref(),
            reason: event.text("reason"),
            status: event.number("status"),
            detail: event.text("detail"),
            attempt: event.number("attempt"),
            file: self.file.as_deref(),
            event: Some(event.name().as_str()),
        };
        hook::feed(command, variables, json, limit).await.interpret(command, limit)
    }

    async fn call_webhook(&self, webhook: &Webhook, json: &[u8]) -> Result<(), CallError> {
        let Notify { name, timeout, .. } = &self.receiver.settings;
        let header = match &webhook.header_credential {
            None => None,
            Some(credential) => {
                let header = read_header(credential.clone()).await;
                let invalid = |error| {
                    let key = "webhook_header_credential";
                    CallError::new(format!("`{key}` of [notify.{name}]: {error}"))
                };
                Some(header.map_err(invalid)?)
            }
        };
        let client = self.receiver.client(webhook).await.map_err(CallError::new)?;
        client.post(header.as_ref(), json.to_vec(), *timeout).await
    }
}

/// Reads the header line in a credential.
async fn read_header(credential: String) -> Result<HeaderLine, String> {
    let read = move || {
        let line = read_line(&credential, &|name| std::env::var_os(name));
        let line = line.map_err(|error| error.to_string())?;
        HeaderLine::parse(&line).ok_or_else(|| {
            "the credential must contain one header line, such as `Authorization: Bearer ...`"
                .to_owned()
        })
    };
    let read = with_disk_timeout(blocking_among(&NOTIFY, read)).await;
    read.unwrap_or_else(|| Err(NO_DISK.to_owned()))
}

impl From<FeedError> for DeliveryError {
    fn from(FeedError { error, exit_status }: FeedError) -> Self {
        Self { error, status: None, exit_status }
    }
}

impl From<CallError> for DeliveryError {
    fn from(CallError { error, status, .. }: CallError) -> Self {
        Self { error: error.into(), status, exit_status: None }
    }
}
