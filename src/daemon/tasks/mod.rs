//! Where effects meet the world: what is asked for, as futures that end in a [`Completion`].
//!
//! A future owns all that it needs and knows nothing of the loop. What can block runs
//! [beside](super::beside) it. Attempts at new [values](super::logins), and [keeping](super::storing)
//! these, have files of their own.

pub(crate) mod blocking;
pub(crate) mod keyed_lock;
pub(crate) mod reauth;
pub(crate) mod task_set;
pub(crate) mod write_back;

use std::time::Duration;

use tokio::time::sleep;

use crate::clock;
use crate::control::{Caller, Handed, Reply};
use crate::daemon::config::loader::LoadedConfig;
use crate::daemon::inventories::death_checks::{Compared, Death};
use crate::daemon::tasks::blocking::{REREADS, blocking, blocking_among, with_disk_timeout};
use crate::daemon::tokens::InventoryId;
use crate::daemon::tokens::server_client::{Built, ServerClient};
use crate::keeper::{Ticket, TokenId};
use crate::lifecycle::{Answer, Method, ReauthFault, Slot};
use crate::outcome::{Connection, Fault};
use crate::secret::TokenValue;
use crate::settings::Source;
use crate::token_file::{Found, SourceFault, SourceFaultKind, StoreFault, read};

/// How long a source that was found empty or gone gets until it is looked at once more:
/// whoever writes a file in place empties it first.
pub(crate) const SECOND_LOOK: Duration = Duration::from_millis(400);

/// Something that was under way has ended.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A call was answered, or failed; with the value that the answer named instead.
    Answered(Ticket, Answer, Option<ReplacedValue>),
    /// A re-auth attempt ended.
    Reauthenticated { ticket: Ticket, duration: Duration, obtained: ReauthOutput },
    /// A revocation that a person asked for ended.
    RevokedOne(Ticket, Result<(), Fault>),
    /// Writing a value to its store ended.
    Stored(Ticket, Result<WriteOutcome, StoreFault>),
    /// The file of a value that is kept in the state directory was tried again.
    Rewritten { id: TokenId, name: Box<str>, result: Result<WriteOutcome, StoreFault> },
    /// It is known whether somebody may read a token's value.
    Introduced { name: String, caller: Caller, may: bool, reply: Reply<Handed> },
    /// Sources were looked at.
    Looked(Vec<SourceRead>),
    /// The source of a value that the server calls dead was read again; the answer is still to
    /// be passed on. `None`: the disk did not answer in time.
    Reread(Ticket, Answer, Option<SourceRead>),
    /// The file of an inventory was compared before these deaths are acted on.
    StockCompared(InventoryId, Vec<Death>, Compared),
    /// Deaths have waited long enough for a reading of an inventory after that of this number.
    StockReread(InventoryId, u64),
    /// Tokens were revoked at the end.
    Revoked(Vec<(Box<str>, Result<(), Fault>)>),
    /// The configuration was read, or why it was not.
    Loaded(Box<Result<LoadedConfig, String>>),
    /// Clients of servers that had none were tried again.
    ClientsBuilt(Vec<Built>),
}

/// A value that an answer named in place of the one that was asked about.
#[derive(Debug)]
pub(crate) struct ReplacedValue {
    /// Where the one that was asked about is kept.
    pub(crate) slot: Slot,
    pub(crate) from: TokenValue,
    pub(crate) to: TokenValue,
}

/// What a re-auth attempt brought.
#[derive(Debug)]
pub(crate) enum ReauthOutput {
    /// A value.
    Value(TokenValue),
    /// The hook says that it wrote the token's file itself; this is what is there now.
    SourceMatch(Result<Found, SourceFault>),
    /// Nothing.
    Nothing(ReauthFault),
}

/// How a value was stored.
#[derive(Debug)]
pub(crate) enum WriteOutcome {
    /// It was written.
    Written(TokenValue),
    /// The source has changed meanwhile to this other value, and was left as it is.
    SourceChanged(TokenValue),
    /// The file could not be replaced.
    NotInFile(TokenValue, StoreFault),
    /// The file could not be replaced for this reason; the value is kept in the state directory.
    InStateDir(StoreFault),
}

/// One look at a token's source.
#[derive(Debug)]
pub(crate) struct SourceRead {
    pub(crate) id: TokenId,
    /// The token's epoch when the look began.
    pub(crate) epoch: u8,
    pub(crate) source: Source,
    pub(crate) result: Result<Found, SourceFault>,
}

/// Asks the server about a value.
pub(crate) async fn ask(
    ticket: Ticket,
    client: ServerClient,
    method: Method,
    (slot, value): (Slot, TokenValue),
    (timeout, connection): (Duration, Connection),
) -> Completion {
    let sent = clock::now();
    let (outcome, new_value) = match method {
        Method::Query => (client.query(&value, timeout, connection).await, None),
        Method::Renew => {
            let renewed = client.renew(&value, timeout, connection).await;
            (renewed.outcome, renewed.new_value)
        }
    };
    let replaced = new_value.is_some();
    let answer = Answer { sent, received: clock::now_ceil(), outcome, replaced };
    Completion::Answered(
        ticket,
        answer,
        new_value.map(|to| ReplacedValue { slot, from: value, to }),
    )
}

/// Has the server end a value's life.
pub(crate) async fn revoke(
    ticket: Ticket,
    client: ServerClient,
    value: TokenValue,
    timeout: Duration,
) -> Completion {
    Completion::RevokedOne(ticket, client.revoke(&value, timeout).await)
}

/// Looks at sources, and a second time at those that seem to be gone.
pub(crate) async fn look(wanted: Vec<(TokenId, u8, Source)>) -> Completion {
    let mut looks = blocking(move || {
        let look = |(id, epoch, source): (TokenId, u8, Source)| {
            let result = read_source(&source);
            SourceRead { id, epoch, source, result }
        };
        wanted.into_iter().map(look).collect::<Vec<_>>()
    })
    .await;
    if looks.iter().any(SourceRead::may_be_half_done) {
        sleep(SECOND_LOOK).await;
        looks = blocking(move || {
            for look in looks.iter_mut().filter(|look| look.may_be_half_done()) {
                look.result = read_source(&look.source);
            }
            looks
        })
        .await;
    }
    Completion::Looked(looks)
}

impl SourceRead {
    fn may_be_half_done(&self) -> bool {
        may_be_half_done(&self.result)
    }
}

fn may_be_half_done(result: &Result<Found, SourceFault>) -> bool {
    result
        .as_ref()
        .is_err_and(|fault| matches!(fault.kind, SourceFaultKind::Empty | SourceFaultKind::Missing))
}

/// Reads the source of a value that the server calls dead, before that is acted on. Takes at most
/// [`DISK_PATIENCE`](crate::token_file::DISK_PATIENCE), so the answer is never lost.
pub(crate) async fn reread(
    ticket: Ticket,
    answer: Answer,
    (id, epoch, source): (TokenId, u8, Source),
) -> Completion {
    let read = || {
        let source = source.clone();
        blocking_among(&REREADS, move || read_source(&source))
    };
    let result = with_disk_timeout(async {
        let first = read().await;
        if !may_be_half_done(&first) {
            return first;
        }
        sleep(SECOND_LOOK).await;
        read().await
    });
    let look = result.await.map(|result| SourceRead { id, epoch, source: source.clone(), result });
    Completion::Reread(ticket, answer, look)
}

/// What a source holds now.
pub(crate) fn read_source(source: &Source) -> Result<Found, SourceFault> {
    read(source, &|name| std::env::var_os(name))
}
