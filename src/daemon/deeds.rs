//! Where effects meet the world: what is asked for, as futures that end in a [`Done`].
//!
//! A future owns all that it needs and knows nothing of the loop. What can block (files)
//! runs on a thread of its own, so that a hung disk does not hold up the tokens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::reading::Fresh;
use super::roster::{Kept, LastWords, Remote};
use super::turns::Turn;
use crate::api::{Client, LoginFault, LoginFaultKind};
use crate::clock;
use crate::control::{Caller, Handed, Reply};
use crate::hook::{self, HookResult, Invocation};
use crate::keeper::{Ticket, TokenId};
use crate::lifecycle::{Answer, Method, Reason, ReauthFault, Slot};
use crate::outcome::Fault;
use crate::secret::TokenValue;
use crate::settings::{KeySource, ReauthMethod, Source};
use crate::store::Receipt;
use crate::token_file::{
    DISK_PATIENCE, Found, SourceFault, SourceFaultKind, StoreFault, read, read_key, replace,
};

/// How long a source that was found empty or gone gets until it is looked at once more:
/// whoever writes a file in place empties it first.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(400);

/// Threads that writes of values, and what an attempt reads, may hold while the disk hangs. The
/// runtime has 512, and needs some to look up the names of servers.
static DISK: Semaphore = Semaphore::const_new(64);

/// Threads that may ask the system who somebody is, which may take a network.
pub(super) static USERS: Semaphore = Semaphore::const_new(8);

/// Something that was under way has ended.
#[derive(Debug)]
pub(super) enum Done {
    /// A call was answered, or failed; with the value that the answer named instead.
    Answered(Ticket, Answer, Option<Renamed>),
    /// A re-auth attempt ended.
    Reauthenticated { ticket: Ticket, duration: Duration, obtained: Obtained },
    /// A revocation that a person asked for ended.
    RevokedOne(Ticket, Result<(), Fault>),
    /// Writing a value to its store ended.
    Stored(Ticket, Result<Stored, StoreFault>),
    /// It is known whether somebody may read a token's value.
    Introduced { name: String, caller: Caller, may: bool, reply: Reply<Handed> },
    /// Sources were looked at.
    Looked(Vec<Look>),
    /// Tokens were revoked at the end.
    Revoked(Vec<(TokenId, Result<(), Fault>)>),
    /// The configuration was read, or why it was not.
    Loaded(Box<Result<Fresh, String>>),
}

/// A value that an answer named in place of the one that was asked about.
#[derive(Debug)]
pub(super) struct Renamed {
    /// Where the one that was asked about is kept.
    pub(super) slot: Slot,
    pub(super) from: TokenValue,
    pub(super) to: TokenValue,
}

/// What a re-auth attempt brought.
#[derive(Debug)]
pub(super) enum Obtained {
    /// A value.
    Value(TokenValue),
    /// The hook says that it wrote the token's file itself; this is what is there now.
    InSource(Result<Found, SourceFault>),
    /// Nothing.
    Nothing(ReauthFault),
}

/// How a value was stored.
#[derive(Debug)]
pub(super) enum Stored {
    /// It was written.
    Written(TokenValue),
    /// The source has changed meanwhile to this other value, and was left as it is.
    SourceChanged(TokenValue),
}

/// One look at a token's source.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) id: TokenId,
    /// The token's epoch when the look began.
    pub(super) epoch: u8,
    pub(super) source: Source,
    pub(super) result: Result<Found, SourceFault>,
}

/// Asks the server about a value.
pub(super) async fn ask(
    ticket: Ticket,
    client: Client,
    method: Method,
    (slot, value): (Slot, TokenValue),
    timeout: Duration,
) -> Done {
    let sent = clock::now();
    let (outcome, new_value) = match method {
        Method::Query => (client.query(&value, timeout).await, None),
        Method::Renew => {
            let renewed = client.renew(&value, timeout).await;
            (renewed.outcome, renewed.new_value)
        }
    };
    let replaced = new_value.is_some();
    let answer = Answer { sent, received: clock::now_ceil(), outcome, replaced };
    Done::Answered(ticket, answer, new_value.map(|to| Renamed { slot, from: value, to }))
}

/// Has the server end a value's life.
pub(super) async fn revoke(
    ticket: Ticket,
    client: Client,
    value: TokenValue,
    timeout: Duration,
) -> Done {
    Done::RevokedOne(ticket, client.revoke(&value, timeout).await)
}

/// What a re-auth attempt needs to know, besides how it is made.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) name: Box<str>,
    pub(super) server: String,
    pub(super) url: String,
    /// The file that the value is kept in, if its source is one.
    pub(super) file: Option<PathBuf>,
    pub(super) reason: Reason,
    pub(super) attempt: u32,
    pub(super) status: Option<u16>,
    pub(super) detail: Option<Box<str>>,
}

impl Need {
    pub(super) fn of(kept: Kept<'_>, remote: &Remote, reason: Reason, attempt: u32) -> Self {
        let words = match reason {
            Reason::Expired | Reason::Rejected => kept.last_words().cloned().unwrap_or_default(),
            // What was said of an earlier value is not why this one is to be replaced.
            Reason::Missing | Reason::Expiring | Reason::Requested => LastWords::default(),
        };
        Self {
            name: kept.name().into(),
            server: remote.settings.name.clone(),
            url: remote.settings.url.to_string(),
            file: kept.file(),
            reason,
            attempt,
            status: words.status,
            detail: words.detail,
        }
    }
}

/// Obtains a new value, once its turn has come and the attempt is counted; where that cannot be
/// written down, the store tells of it, and the attempt is made all the same.
pub(super) async fn reauth(
    ticket: Ticket,
    client: Client,
    method: ReauthMethod,
    timeout: Duration,
    need: Need,
    (turn, counted): (Turn, Option<Receipt>),
) -> Done {
    let _turn = turn.comes().await;
    if let Some(counted) = counted {
        counted.settled().await;
    }
    let began = clock::now();
    let obtained = match method {
        ReauthMethod::Command(command) => run_hook(&command, timeout, &need).await,
        ReauthMethod::ApiKey { key, minutes } => log_in(&client, key, minutes, timeout).await,
    };
    Done::Reauthenticated { ticket, duration: clock::now_ceil().since(began), obtained }
}

async fn run_hook(command: &[String], timeout: Duration, need: &Need) -> Obtained {
    let end = hook::run(Invocation {
        command,
        timeout,
        name: &need.name,
        server: &need.server,
        url: &need.url,
        reason: need.reason.as_str(),
        status: need.status,
        detail: need.detail.as_deref(),
        attempt: need.attempt,
        file: need.file.as_deref(),
    })
    .await;
    match (end.interpret(), &need.file) {
        (HookResult::NewValue(value), _) => Obtained::Value(value),
        (HookResult::WroteFile, Some(file)) => {
            let source = Source::File(file.clone());
            match in_time(blocking_among(&DISK, move || read_source(&source))).await {
                Some(found) => Obtained::InSource(found),
                None => {
                    nothing(&StoreFault::hangs(file, "reading what the command wrote").to_string())
                }
            }
        }
        (HookResult::WroteFile, None) => nothing(
            "the re-auth command printed nothing; only for a token that has a file of its own \
             may it write that itself, otherwise it is to print the new token",
        ),
        (HookResult::Failed(fault), _) => Obtained::Nothing(ReauthFault {
            exit_status: fault.exit_status(),
            error: fault.to_string().into(),
            ..ReauthFault::default()
        }),
    }
}

fn nothing(error: &str) -> Obtained {
    Obtained::Nothing(ReauthFault { error: error.into(), ..ReauthFault::default() })
}

async fn log_in(client: &Client, key: KeySource, minutes: u16, timeout: Duration) -> Obtained {
    let key = blocking_among(&DISK, move || read_key(&key, &|name| std::env::var_os(name)));
    let key = match in_time(key).await {
        Some(Ok(found)) => found.value,
        Some(Err(fault)) => return nothing(&format!("the API key cannot be had: {fault}")),
        None => {
            return nothing("the API key cannot be had: its file cannot be read, the disk hangs");
        }
    };
    match client.login(&key, minutes, timeout).await {
        Ok(value) => Obtained::Value(value),
        Err(LoginFault { kind, fault }) => Obtained::Nothing(ReauthFault {
            status: fault.status,
            error: fault.error,
            exit_status: None,
            unavailable: kind == LoginFaultKind::Unavailable,
            retry_after: match kind {
                LoginFaultKind::Throttled { retry_after } => Some(retry_after),
                LoginFaultKind::Refused
                | LoginFaultKind::Misconfigured
                | LoginFaultKind::Unavailable => None,
            },
        }),
    }
}

/// Writes a value to its token's file, durably; `in_source` is what that held when it was last
/// looked at: any other value there is a new one.
///
/// A write that hangs is given up, but not its turn: it may yet be made, and must not be when a
/// later value is there. The turn knows its value, which is then nobody else's.
pub(super) async fn store_in_file(
    ticket: Ticket,
    turn: Turn<Option<TokenValue>>,
    path: PathBuf,
    value: TokenValue,
    in_source: Option<TokenValue>,
) -> Done {
    let hangs = StoreFault::hangs(&path, "writing");
    let written = write_in_turn(turn.clone(), move |given_up| {
        let ours = [in_source, given_up.replace(value.clone())];
        write_to_file(&path, value, &ours)
    });
    let written = in_time(written).await;
    if written.is_some() {
        turn.forget();
    }
    Done::Stored(ticket, written.unwrap_or(Err(hangs)))
}

async fn write_in_turn<T: Send + 'static, R: Send + 'static>(
    turn: Turn<T>,
    write: impl FnOnce(&mut T) -> R + Send + 'static,
) -> R {
    let mut turn = turn.comes().await;
    blocking_among(&DISK, move || write(&mut turn)).await
}

/// `ours` are values that may be overwritten: that was looked at before, or was written here.
fn write_to_file(
    path: &Path,
    value: TokenValue,
    ours: &[Option<TokenValue>],
) -> Result<Stored, StoreFault> {
    if let Ok(found) = read_source(&Source::File(path.to_owned()))
        && found.value != value
        && !ours.iter().flatten().any(|ours| *ours == found.value)
    {
        return Ok(Stored::SourceChanged(found.value));
    }
    replace(path, &value)?;
    Ok(Stored::Written(value))
}

/// Waits until a value that was handed to the store is durable; `None`: there is no store.
pub(super) async fn store_by_name(
    ticket: Ticket,
    value: TokenValue,
    kept: Option<Receipt>,
) -> Done {
    let result = match kept {
        Some(kept) => kept.durable().await,
        None => Err(StoreFault::NoStateDir),
    };
    Done::Stored(ticket, result.map(|()| Stored::Written(value)))
}

/// Looks at sources, and a second time at those that seem to be gone.
pub(super) async fn look(wanted: Vec<(TokenId, u8, Source)>) -> Done {
    let mut looks = blocking(move || {
        let look = |(id, epoch, source): (TokenId, u8, Source)| {
            let result = read_source(&source);
            Look { id, epoch, source, result }
        };
        wanted.into_iter().map(look).collect::<Vec<_>>()
    })
    .await;
    if looks.iter().any(Look::may_be_half_done) {
        sleep(SECOND_LOOK).await;
        looks = blocking(move || {
            for look in looks.iter_mut().filter(|look| look.may_be_half_done()) {
                look.result = read_source(&look.source);
            }
            looks
        })
        .await;
    }
    Done::Looked(looks)
}

impl Look {
    fn may_be_half_done(&self) -> bool {
        self.result.as_ref().is_err_and(|fault| {
            matches!(fault.kind, SourceFaultKind::Empty | SourceFaultKind::Missing)
        })
    }
}

/// What a source holds now.
pub(super) fn read_source(source: &Source) -> Result<Found, SourceFault> {
    read(source, &|name| std::env::var_os(name))
}

/// What comes of something that needs the disk; `None` if that hangs.
async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(DISK_PATIENCE, work).await.ok()
}

/// Runs what may block on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        // Only a panic or the runtime's end gets here: the one aborts, the other stops us too.
        Err(_) => std::future::pending().await,
    }
}

/// The same on one of so many threads: what hangs keeps its place.
pub(super) async fn blocking_among<T: Send + 'static>(
    places: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    // They are never closed.
    let place = places.acquire().await;
    blocking(move || {
        let _place = place;
        work()
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::super::turns::Turns;
    use super::*;

    fn value(text: &str) -> TokenValue {
        TokenValue::parse(text).unwrap()
    }

    /// Stores "new" in a file that holds `there` and held `seen` when it was last looked at;
    /// tells what the file holds then.
    fn stored(there: Option<&str>, seen: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quotes.token");
        if let Some(there) = there {
            fs::write(&path, there).unwrap();
        }
        write_to_file(&path, value("new"), &[seen.map(value), Some(value("given-up"))]).unwrap();
        fs::read_to_string(path).unwrap().trim().to_owned()
    }

    #[test]
    fn a_new_value_takes_the_place_of_the_one_that_it_replaces() {
        assert_eq!(stored(Some("old"), Some("old")), "new");
    }

    #[test]
    fn a_new_value_fills_a_source_that_had_none() {
        assert_eq!(stored(None, None), "new");
    }

    #[test]
    fn a_value_that_has_not_been_seen_in_the_source_yet_is_not_overwritten() {
        assert_eq!(stored(Some("operator's"), Some("old")), "operator's");
        assert_eq!(stored(Some("operator's"), None), "operator's");
    }

    #[test]
    fn what_a_write_that_was_given_up_has_left_is_overwritten() {
        assert_eq!(stored(Some("given-up"), Some("old")), "new");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_given_up_and_keeps_its_turn_until_it_ends() {
        let mut turns = Turns::<()>::default();
        let (end, ended) = mpsc::channel();
        let write = write_in_turn(turns.take("a"), move |()| ended.recv().expect("a sender"));
        let given_up = tokio::spawn(in_time(write));
        // The clock does not run by itself while a thread is busy.
        tokio::task::yield_now().await;
        tokio::time::advance(DISK_PATIENCE).await;
        assert_eq!(given_up.await.unwrap(), None);

        let mut next = Box::pin(write_in_turn(turns.take("a"), |()| "next"));
        assert!(next.as_mut().now_or_never().is_none(), "the first may yet be made");
        end.send("first").unwrap();
        assert_eq!(next.await, "next");
    }
}
