//! Peer: a tokio task for each token, which checks, reads the response and sleeps, as people write it
//! in Rust. Its protocol is that of `peers/tasks.py`.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

/// Requests in flight, as many as the other clients have.
const AT_ONCE: usize = 64;

struct Shared {
    http: reqwest::Client,
    url: String,
    places: Semaphore,
    left: AtomicU64,
    over: Notify,
}

/// Checks each of `tokens` tokens `checks` times, then waits for its input to end.
pub(super) fn run(base: &str, tokens: u64, checks: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let shared = Arc::new(Shared {
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            url: format!("{base}/QuerySessionToken"),
            places: Semaphore::new(AT_ONCE),
            left: AtomicU64::new(tokens),
            over: Notify::new(),
        });
        let warm: Vec<_> = (0..4 * AT_ONCE)
            .map(|_| Arc::clone(&shared))
            .map(|shared| tokio::spawn(async move { shared.ask("warm").await }))
            .collect();
        for asked in warm {
            asked.await.expect("an answer");
        }
        say("ready");
        for n in 0..tokens {
            let token = format!("{n:08x}-5ca1-4b1e-8000-000000000000");
            tokio::spawn(keep(Arc::clone(&shared), token, checks));
        }
        shared.over.notified().await;
        say("done");
        let wait = || std::io::stdin().read_to_end(&mut Vec::new());
        tokio::task::spawn_blocking(wait).await.expect("waited").expect("an end");
    });
}

async fn keep(shared: Arc<Shared>, token: String, checks: u64) {
    let mut remaining = 0;
    for _ in 0..checks {
        remaining = shared.ask(&token).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if shared.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        shared.over.notify_one();
    }
    tokio::time::sleep(Duration::from_millis(remaining / 100 * 67)).await;
}

impl Shared {
    async fn ask(&self, token: &str) -> u64 {
        let _place = self.places.acquire().await.expect("never closed");
        let request = self.http.get(&self.url).query(&[("SessionToken", token)]);
        let answer = request.timeout(Duration::from_secs(10)).send().await.expect("an answer");
        let body = answer.bytes().await.expect("a body");
        let envelope: serde_json::Value = serde_json::from_slice(&body).expect("an envelope");
        envelope["Result"]["Remaining"].as_u64().expect("a life")
    }
}

fn say(word: &str) {
    println!("{word}");
    std::io::stdout().flush().expect("a reader");
}
