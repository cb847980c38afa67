//! The engine on scripted members of etcd.

use std::fmt::Write as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::clock::Stopwatch;
use crate::settings::{self, load};

/// A member of etcd that answers each request, by its number and text, with this body; `None`: it
/// closes the connection. A watch stays open. Returns its URL, and the number of requests.
pub(crate) async fn member(
    answer: impl Fn(usize, &str) -> Option<String> + Send + 'static,
) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut open = Vec::new();
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let (mut request, mut part) = (Vec::new(), [0; 4_096]);
            let is_whole = |request: &[u8]| {
                request.ends_with(b"}")
                    || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n")
            };
            while !is_whole(&request) {
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
            }
            let Some(body) = answer(number, &String::from_utf8_lossy(&request)) else { continue };
            let is_error = body.starts_with(r#"{"code":"#);
            let status = if is_error { "400 Bad Request" } else { "200 OK" };
            let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
            if request.starts_with(b"POST /v3/watch") {
                stream.write_all(format!("{head}\r\n{body}\n").as_bytes()).await.unwrap();
                open.push(stream);
            } else {
                write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
                stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
            }
        }
    });
    (url, asked)
}

/// The configuration of these members of etcd, with a `failover` of 3 s.
fn cluster(urls: &[String]) -> settings::Cluster {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), STANDARD.encode([7; 32])).unwrap();
    let text = format!(
        "[cluster]\netcd = {urls:?}\nname = \"a\"\nfailover = \"3s\"\n\
         key = {{ file = \"{0}/key\" }}\n[server.s]\nurl = \"http://127.0.0.1:1\"\n\
         [token.t]\nserver = \"s\"\nfile = \"{0}/t\"\n",
        folder.path().display()
    );
    let file = folder.path().join("tokenkeep.toml");
    std::fs::write(&file, text).unwrap();
    load(&file, std::iter::empty()).unwrap().settings.cluster.unwrap()
}

fn access(urls: &[String]) -> Access {
    Access::open(&cluster(urls), &|_| None).unwrap()
}

fn engine(urls: &[String]) -> Etcd {
    Etcd::new(access(urls))
}

fn created(revision: u64) -> String {
    let header = format!(r#"{{"cluster_id":"1","revision":"{revision}"}}"#);
    format!(r#"{{"result":{{"header":{header},"created":true}}}}"#)
}

const AFTER: StoreRevision = StoreRevision { cluster: 1, revision: 10 };

#[tokio::test]
async fn watch_on_a_member_that_lags_behind_is_begun_on_another_one_without_a_gap() {
    let (behind, asked) = member(|_, _| Some(created(9))).await;
    let event = r#"{"kv":{"key":"L3Rva2Vua2VlcC9tZXRh","mod_revision":"11"}}"#;
    let changed = format!(
        r#"{{"result":{{"header":{{"cluster_id":"1","revision":"11"}},"events":[{event}]}}}}"#
    );
    let (current, _) = member(move |_, _| Some(format!("{}\n{changed}", created(10)))).await;
    let engine = engine(&[behind, current]);
    let (sender, mut changes) = mpsc::channel(1);
    tokio::select! {
        why = engine.watch(AFTER, sender) => panic!("a gap: {why}"),
        change = timeout(Duration::from_secs(10), changes.recv()) => {
            let (at, _) = change.expect("a change").expect("the watch lives");
            assert_eq!(at, StoreRevision { revision: 11, ..AFTER });
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn etcd_that_stays_behind_for_a_failover_ends_the_watch_after_pauses() {
    let (behind, asked) = member(|_, _| Some(created(9))).await;
    let engine = engine(&[behind]);
    let (sender, _changes) = mpsc::channel(1);
    let began = Stopwatch::start();
    let why = timeout(Duration::from_secs(30), engine.watch(AFTER, sender)).await.expect("a gap");
    assert!(why.contains("older revision"), "{why}");
    assert!(began.elapsed() > Duration::from_secs(3));
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 20, "{asked} watches");
}

#[tokio::test]
async fn page_without_an_answer_is_read_again_at_the_same_revision() {
    let (etcd, asked) = member(|number, request| {
        let header = r#"{"cluster_id":"1","revision":"10"}"#;
        let first = r#"[{"key":"L3Rva2Vua2VlcC9tZXRh","mod_revision":"9"}],"more":true"#;
        match number {
            0 => Some(format!(r#"{{"header":{header},"kvs":{first},"count":"2"}}"#)),
            // Twice: with the usual time limit, and with a longer one.
            1 | 2 => None,
            _ => {
                assert!(request.contains(r#""revision":"10""#), "{request}");
                Some(r#"{"header":{"cluster_id":"1","revision":"12"}}"#.to_owned())
            }
        }
    })
    .await;
    let engine = engine(&[etcd]);
    let parts = AtomicU64::new(0);
    let answered = || {
        parts.fetch_add(1, Ordering::Relaxed);
    };
    let (at, entries) = engine.read_with(&answered).await.expect("all pages");
    assert_eq!((at, entries.len()), (AFTER, 1));
    assert_eq!(parts.load(Ordering::Relaxed), 2);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn state_of_an_endpoint_is_known_to_users_who_may_not_ask_for_its_status() {
    let (etcd, asked) = member(|_, request| {
        Some(match request.split(' ').nth(1) {
            Some("/v3/kv/range") => r#"{"header":{"cluster_id":"1", "revision":"10"}}"#.to_owned(),
            Some("/version") => r#"{"etcdserver":"3.6.5","etcdcluster":"3.6.0"}"#.to_owned(),
            _ => r#"{"code":7, "message":"etcdserver: permission denied"}"#.to_owned(),
        })
    })
    .await;
    let state = engine(&[etcd]).reachable().await.remove(0).state;
    assert_eq!(state, Ok(("3.6.5".to_owned(), AFTER)));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// The reason why none of these members answers.
async fn reason(urls: &[&str]) -> Reason {
    let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
    match engine(&urls).read().await {
        Err(StoreError::Unanswered(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn kind_of_a_reason_is_the_same_whichever_endpoint_is_asked_first() {
    let error = |words: &str| format!(r#"{{"code":14, "message":"etcdserver: {words}"}}"#);
    let (silent, stopped) = (error("no leader"), error("server stopped"));
    let (silent, _) = member(move |_, _| Some(silent.clone())).await;
    let (stopped, _) = member(move |_, _| Some(stopped.clone())).await;
    let (other, _) = member(|_, _| Some("<html>".to_owned())).await;
    let [both, turned] = [reason(&[&silent, &other]).await, reason(&[&other, &silent]).await];
    assert_ne!(both.text(), turned.text());
    assert_eq!(both.kind(), turned.kind());
    assert_eq!(both.kind(), reason(&[&other]).await.kind(), "it tells more than silence");
    assert_eq!(reason(&[&silent]).await.kind(), reason(&[&stopped]).await.kind());
    assert_ne!(reason(&[&silent]).await.kind(), both.kind());
}

#[tokio::test]
async fn endpoint_that_accepts_connections_and_does_not_respond_is_named_with_the_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let state = engine(&[url]).reachable().await.remove(0).state;
    let error = state.expect_err("no response");
    let remedy = "the quorum is lost; check the other nodes with `etcdctl endpoint status";
    assert!(error.contains(remedy), "{error}");
}

#[tokio::test]
async fn connections_are_kept_if_what_was_read_again_has_not_changed() {
    let urls = ["http://127.0.0.1:1".to_owned()];
    let engine = engine(&urls);
    let before = engine.sender();
    engine.renew(access(&urls));
    assert!(Arc::ptr_eq(&before, &engine.sender()));
    let mut changed = access(&urls);
    changed.user = Some(("keeper".to_owned(), "half".into()));
    engine.renew(changed);
    assert!(!Arc::ptr_eq(&before, &engine.sender()));
}
