//! A simulated session API with a key and rules for each token. It sees every login, and which
//! replica sent it: each replica has a port of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokenkeep::clock::{self, Stopwatch};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::ledger::{Ledger, Login};
use crate::network::{Cut, address};
use crate::support::{ISSUED, PATIENCE, millis, secret};

/// What happens to a token's values.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The full life of a value, drawn from this range.
    pub(crate) life: std::ops::Range<Duration>,
    /// Whether a query renews.
    pub(crate) renews: bool,
    /// How long a login takes, drawn from this range. The value is issued in the middle of it.
    pub(crate) login: std::ops::Range<Duration>,
    /// Whether logins are refused with 401.
    pub(crate) refuses: bool,
}

/// A running API. It stops when this is dropped.
pub(crate) struct Api {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    serving: Vec<JoinHandle<()>>,
}

struct Shared {
    clock: Stopwatch,
    world: Mutex<World>,
}

/// What one replica's port serves.
#[derive(Clone)]
struct Port {
    shared: Arc<Shared>,
    replica: usize,
}

#[derive(Default)]
struct World {
    rules: HashMap<String, Rules>,
    values: HashMap<String, Issued>,
    issued: usize,
    ledger: Ledger,
}

struct Issued {
    token: String,
    life: Duration,
    ends: Duration,
}

/// A status and an explanation.
type Refusal = (u16, &'static str);

impl Api {
    /// Starts the API with a port for each of `replicas`.
    pub(crate) async fn start(replicas: usize) -> Self {
        let shared = Arc::new(Shared { clock: Stopwatch::start(), world: Mutex::default() });
        let (mut addresses, mut serving) = (Vec::new(), Vec::new());
        for replica in 0..replicas {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            addresses.push(listener.local_addr().expect("an address"));
            let port = Port { shared: Arc::clone(&shared), replica };
            let router = Router::new().fallback(answer).with_state(port);
            serving.push(tokio::spawn(async move {
                axum::serve(listener, router).await.expect("it serves");
            }));
        }
        Self { shared, addresses, serving }
    }

    /// The base URL for this replica.
    pub(crate) fn url(&self, replica: usize) -> String {
        format!("http://{}", self.addresses[replica])
    }

    /// Cuts off a replica from the API.
    pub(crate) fn cut(&self, replica: usize) -> Cut {
        let own = self.addresses[replica];
        Cut::between([(address(replica), own.ip().to_string(), own.port())])
    }

    /// Adds a token, and returns its first value.
    pub(crate) fn add(&self, token: &str, rules: Rules) -> String {
        let now = self.now();
        let mut world = self.shared.world();
        world.rules.insert(token.to_owned(), rules);
        world.issue(token, now)
    }

    /// Issues another value of a token, as a person's login does.
    pub(crate) fn issue(&self, token: &str) -> String {
        let now = self.now();
        self.shared.world().issue(token, now)
    }

    /// Ends the life of a value.
    pub(crate) fn expire(&self, value: &str) {
        let now = self.now();
        let mut world = self.shared.world();
        world.values.get_mut(value).expect("a value").ends = now;
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// The time since `at`.
    pub(crate) fn since(&self, at: Duration) -> Duration {
        self.now().saturating_sub(at)
    }

    /// What the API has seen so far.
    pub(crate) fn ledger(&self) -> Ledger {
        self.shared.world().ledger.clone()
    }

    /// Evaluates what the API has seen so far.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.world().ledger)
    }

    /// Whether a login of this replica is under way.
    pub(crate) fn logging_in(&self, replica: usize) -> bool {
        let under_way = |login: &Login| login.replica == replica && login.ended.is_none();
        self.see(|ledger| ledger.logins.iter().any(under_way))
    }

    /// Waits until what the API has seen satisfies `condition`.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&Ledger) -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !self.see(&mut condition) {
            assert!(clock::now() < deadline, "not so in time: {what}");
            tokio::time::sleep(millis(10)).await;
        }
    }

    /// Waits for this many further logins.
    pub(crate) async fn more_logins(&self, more: usize) {
        let enough = self.see(|ledger| ledger.logins.len()) + more;
        self.until("further logins", |ledger| ledger.logins.len() >= enough).await;
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A login that takes its time. It takes effect even if the client disconnects.
    async fn log_in(self: Arc<Self>, replica: usize, key: String) -> Result<Value, Refusal> {
        let (login, token, rules) = {
            let now = self.clock.elapsed();
            let mut world = self.world();
            let token = world.rules.keys().find(|token| secret(token) == key).cloned();
            let token = token.ok_or((401, "The API key is not valid"))?;
            let alive = |value: &String| world.values.get(value).is_some_and(|it| it.ends > now);
            let is_alive = world.ledger.newest.get(&token).is_some_and(alive);
            let rules = world.rules[&token].clone();
            (world.ledger.login_began(&token, replica, now, is_alive), token, rules)
        };
        let half = random(&rules.login) / 2;
        tokio::time::sleep(half).await;
        let result = if rules.refuses {
            Err((401, "The API key was disabled"))
        } else {
            let now = self.clock.elapsed();
            let mut world = self.world();
            let value = world.issue(&token, now);
            let life = world.values[&value].life;
            world.ledger.logins[login].value = Some(value.clone());
            Ok(json!({ "SessionToken": value, "Remaining": whole_millis(life) }))
        };
        tokio::time::sleep(half).await;
        let now = self.clock.elapsed();
        self.world().ledger.logins[login].ended = Some(now);
        result
    }
}

impl World {
    fn issue(&mut self, token: &str, now: Duration) -> String {
        self.issued += 1;
        let value = format!("{ISSUED}{token}/{}-{:016x}+=", self.issued, fastrand::u64(..));
        let life = random(&self.rules[token].life);
        let issued = Issued { token: token.to_owned(), life, ends: now + life };
        self.values.insert(value.clone(), issued);
        self.ledger.newest.insert(token.to_owned(), value.clone());
        value
    }

    fn query(&mut self, replica: usize, value: &str, now: Duration) -> Result<Value, Refusal> {
        let issued = self.values.get_mut(value).ok_or((401, "The session token is not valid"))?;
        let alive = issued.ends > now;
        self.ledger.checked(&issued.token, replica, now, alive);
        if !alive {
            return Err((410, "The session token has expired"));
        }
        if self.rules[&issued.token].renews {
            issued.ends = now + issued.life;
        }
        Ok(json!({ "Remaining": whole_millis(issued.ends.saturating_sub(now)) }))
    }
}

async fn answer(State(port): State<Port>, uri: Uri) -> Response<Body> {
    let Query(parameters) =
        Query::<HashMap<String, String>>::try_from_uri(&uri).unwrap_or_default();
    let parameter = |name: &str| parameters.get(name).cloned().unwrap_or_default();
    let result = match uri.path() {
        "/GetSessionToken" => {
            let login = Arc::clone(&port.shared).log_in(port.replica, parameter("APIKey"));
            tokio::spawn(login).await.expect("no panic")
        }
        "/QuerySessionToken" | "/RenewSessionToken" => {
            let now = port.shared.clock.elapsed();
            port.shared.world().query(port.replica, &parameter("SessionToken"), now)
        }
        _ => Err((404, "There is no such endpoint")),
    };
    let (status, body) = match result {
        Ok(result) => (200, json!({ "Result": result })),
        Err((status, detail)) => {
            (status, json!({ "Errors": { "Status": status, "Detail": detail } }))
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

fn random(range: &std::ops::Range<Duration>) -> Duration {
    Duration::from_millis(fastrand::u64(whole_millis(range.start)..=whole_millis(range.end)))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a duration of a test")
}
