//! The page as people meet it: in a real Chromium.
//!
//! Ignored unless asked for, as they need Chromium, its driver and axe-core: `.ci/run` gets them.

use rustix::process::Signal;
use tokenkeep::simulator::{Behaviour, Simulator};

use crate::listen::control;
use crate::support::{
    Browser, DOWN, Daemon, END, ENTER, ESCAPE, ISSUED, MARK, Stage, free_port, login_simulator,
    mortal_simulator, post, seconds, secret, server_table, simulator, token_table,
};

/// A daemon with these tokens of an hour, and a browser that shows them.
async fn shown(names: &[&str]) -> (Simulator, Stage, Daemon, Browser, u16) {
    let server = simulator().await;
    let port = free_port();
    let tables = names.iter().map(|name| token_table(name, "sarus", "")).collect::<String>();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables + &control(port, "")));
    for name in names {
        server.add_token(&stage.token(name), seconds(3_600));
    }
    let daemon = stage.start();
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{port}/")).await;
    browser.until(&format!("states.textContent.includes('{} alive')", names.len())).await;
    browser.until(&format!("body.children.length === {}", names.len())).await;
    (server, stage, daemon, browser, port)
}

/// The text of the row of that token.
fn row(name: &str) -> String {
    format!("[...body.children].find((row) => row.innerText.includes('{name}'))?.innerText ?? ''")
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn characters_that_reorder_or_hide_text_are_spelled_out() {
    let name = "quotes\u{202e}\u{200b}\u{2028}\u{3164}x";
    let server = simulator().await;
    let port = free_port();
    let table = token_table("quotes", "sarus", "").replace("token.quotes]", "token.NAME]");
    let table = table.replace("NAME", &serde_json::Value::from(name).to_string());
    let stage = Stage::new(&(server_table("sarus", &server, "") + &table + &control(port, "")));
    server.add_token(&stage.token("quotes"), seconds(3_600));
    let daemon = stage.start();
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{port}/")).await;
    browser.until("body.children.length === 1").await;
    let spelled = r"quotes\\u{202e}\\u{200b}\\u{2028}\\u{3164}x";
    browser.until(&format!("body.children[0].innerText.includes('{spelled}')")).await;
    browser.until("!/[\\u202e\\u200b\\u2028\\u3164]/.test(document.body.innerText)").await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_shows_a_token_expire_and_recover() {
    let server = mortal_simulator().await;
    let port = free_port();
    let tables = server_table("sarus", &server, "") + &token_table("quotes", "sarus", "");
    let stage = Stage::new(&(tables + &control(port, "")));
    server.add_token(&stage.token("quotes"), seconds(5));
    let browser = Browser::start().await;
    let daemon = stage.start();
    browser.open(&format!("http://127.0.0.1:{port}/")).await;
    browser.until(&format!("({}).startsWith('alive')", row("quotes"))).await;
    browser.until(&format!("({}).startsWith('expired')", row("quotes"))).await;
    browser.until("recent.innerText.includes('quotes has expired')").await;
    let new = secret("new");
    server.add_token(&new, seconds(3_600));
    stage.replace("quotes.token", &new);
    browser.until(&format!("({}).startsWith('alive')", row("quotes"))).await;
    browser.until("recent.innerText.includes('quotes is alive again')").await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn rejected_reload_is_shown_until_one_succeeds() {
    let (_server, stage, daemon, browser, _) = shown(&["quotes"]).await;
    let good = stage.read("tokenkeep.toml");
    stage.configure(&(good.clone() + "nonsense = 1\n"));
    daemon.signal(Signal::HUP);
    browser.until("rejected.textContent.startsWith('Configuration on disk rejected at ')").await;
    stage.configure(&good);
    daemon.signal(Signal::HUP);
    browser.until("rejected.textContent === ''").await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn remaining_life_counts_down_on_the_page() {
    let (_server, _stage, daemon, browser, _) = shown(&["quotes"]).await;
    let width = "body.querySelector('.run').getBoundingClientRect().width";
    let before = browser.eval(width).await.as_f64().expect("a number");
    assert!(before > 0.0);
    browser.until(&format!("{width} < {before}")).await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_is_usable_with_the_keyboard_alone() {
    let names = ["orders", "risk-1", "risk-2", "risk-3", "quotes-1", "quotes-2", "quotes-10"];
    let (_server, _stage, daemon, browser, _) = shown(&names).await;
    browser.press("/quotes").await;
    browser.until("body.children.length === 3").await;
    browser.until("found.textContent === '3 of 7 tokens'").await;
    browser.press(&format!("{ENTER}{DOWN}{END}")).await;
    let chosen = "document.getElementById(grid.getAttribute('aria-activedescendant'))";
    browser.until(&format!("{chosen}?.innerText.includes('quotes-10')")).await;
    browser.press(ENTER).await;
    browser.until("story.open && document.activeElement.textContent === 'quotes-10'").await;
    browser.until("document.getElementById('story-state').innerText.trim() === 'alive'").await;
    browser.press(ESCAPE).await;
    browser.until("!story.open && document.activeElement === grid").await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_filters_tokens_by_state() {
    let names = ["risk-1", "risk-2", "risk-3", "risk-4", "risk-5", "risk-6"];
    let (_server, stage, daemon, browser, _) = shown(&names).await;
    let configuration = stage.read("tokenkeep.toml");
    stage.configure(&(configuration + &token_table("orders", "sarus", "")));
    daemon.signal(Signal::HUP);
    browser.until("body.innerText.match(/missing[^]*alive/)").await;
    let chip = |state| format!("document.querySelector('#states [data-state={state}]')");
    browser.until(&format!("{}.checkVisibility()", chip("missing"))).await;
    browser.until(&format!("!{}.checkVisibility()", chip("expired"))).await;
    let press = format!("{}.click(); return true;", chip("missing"));
    browser.run(&press).await;
    browser.until("body.children.length === 1 && body.innerText.includes('orders')").await;
    browser.run(&press).await;
    browser.until("body.children.length === 7").await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_is_accessible_at_every_size_in_dark_and_light_mode() {
    let many = ["a", "b", "c", "d", "e", "f", "g"];
    for names in [&many[..2], &many[..]] {
        let (_server, _stage, daemon, browser, _) = shown(names).await;
        for (scheme, width) in [("light", 1_280), ("dark", 1_280), ("light", 375), ("dark", 375)] {
            browser.prefer(scheme).await;
            browser.size(width, 800).await;
            let violations = browser.violations().await;
            assert_eq!(violations, serde_json::json!([]), "{scheme}, {width}");
            browser.run("body.firstElementChild.click(); return true;").await;
            browser
                .until("story.open && timeline.parentElement.innerText.includes('routine')")
                .await;
            let violations = browser.violations().await;
            assert_eq!(violations, serde_json::json!([]), "{scheme}, {width}, a story");
            browser.run("document.getElementById('close').click(); return true;").await;
        }
        daemon.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_on_a_phone_shows_words_and_does_not_scroll_sideways() {
    for names in [&["a", "b", "c"][..], &["a", "b", "c", "d", "e", "f", "g"]] {
        let (_server, _stage, daemon, browser, _) = shown(names).await;
        browser.size(375, 667).await;
        browser.until("document.documentElement.scrollWidth <= 375").await;
        for word in ["alive", "until ", "check in "] {
            let visible = format!(
                "[...body.firstElementChild.querySelectorAll('*')].some((part) => \
                 !part.children.length && part.textContent.startsWith('{word}') && \
                 part.getBoundingClientRect().width > 20)"
            );
            browser.until(&visible).await;
        }
        let third = "body.children[2].getBoundingClientRect().bottom";
        let bottom = browser.eval(third).await.as_f64().expect("a number");
        assert!(bottom < 667.0, "the third of {} tokens ends at {bottom}", names.len());
        daemon.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_starts_with_a_sentence_that_leads_to_the_token() {
    let server = mortal_simulator().await;
    let port = free_port();
    let tables = ["quotes", "orders"].map(|name| token_table(name, "sarus", "")).concat();
    let stage = Stage::new(&(server_table("sarus", &server, "") + &tables + &control(port, "")));
    server.add_token(&stage.token("quotes"), seconds(3));
    server.add_token(&stage.token("orders"), seconds(3_600));
    let daemon = stage.start();
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{port}/")).await;
    let dead = "/^1 of 2 needs you: quotes expired at \\d\\d:\\d\\d/.test(sentence.innerText)";
    browser.until(dead).await;
    browser.until("summary.dataset.level === 'error'").await;
    browser.until("document.title === '(1) tokenkeep'").await;
    browser.until(&format!("({}).includes('needs a new value')", row("quotes"))).await;
    browser.until(&format!("/since \\d\\d:\\d\\d/.test({})", row("quotes"))).await;
    browser.until("sentence.querySelector('button')?.textContent === 'quotes'").await;
    browser.run("sentence.querySelector('button').click(); return true;").await;
    browser.until("story.open && document.activeElement.textContent === 'quotes'").await;
    browser.until("story.innerText.includes('tokenkeep status quotes')").await;
    let page = browser.eval("document.documentElement.outerHTML").await.to_string();
    assert!(!page.contains("quotes.token"), "{page}");
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_shows_the_next_reauth_attempt_of_a_dead_token() {
    let server = login_simulator().await;
    let port = free_port();
    let tables = server_table("sarus", &server, "")
        + "[reauth.login]\napi_key_file = \"$DIR/api.key\"\ndelay = \"2h\"\ndelay_max = \"2h\"\n"
        + &token_table("quotes", "sarus", "reauth = \"login\"");
    let stage = Stage::new(&(tables + &control(port, "")));
    stage.write("api.key", &secret("wrong"));
    server.add_token(&stage.token("quotes"), seconds(2));
    let daemon = stage.start();
    daemon.event("reauth_failed", "quotes").await;
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{port}/")).await;
    browser.until(&format!("({}).includes('re-authentication in 1 h')", row("quotes"))).await;
    let left = "at (... )?\\d\\d:\\d\\d, 4 attempts left";
    browser.until(&format!("/{left}/.test({})", row("quotes"))).await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_shows_an_outage_and_its_class_until_it_ends() {
    let (server, stage, daemon, browser, _) = shown(&["orders", "quotes"]).await;
    server.set_behaviour(Behaviour { maintenance: true, ..Behaviour::default() });
    for name in ["orders", "quotes"] {
        post(&stage, &format!("/v1/tokens/{name}/check")).await;
    }
    daemon.event("server_unavailable", "").await;
    let outage = "sentence.innerText.startsWith('Server sarus has been unavailable since ')";
    browser.until(&format!("{outage} && sentence.innerText.includes(': status 500.')")).await;
    browser.until("servers.innerText.match(/unavailable since .*: status 500/)").await;
    browser.until(&format!("({}).includes('waits for the server')", row("quotes"))).await;
    // Retrying tokens are alive, for the sentence as for the title and the server.
    let dead = "document.querySelector('#server-rows td:last-child').textContent";
    browser.until(&format!("states.innerText.includes('2 retrying') && {dead} === '0'")).await;
    browser.until("document.title === 'tokenkeep'").await;
    // The log has the message.
    let page = browser.eval("document.documentElement.outerHTML").await.to_string();
    assert!(!page.contains("maintenance or an internal error"), "{page}");
    server.set_behaviour(Behaviour::default());
    browser.until("sentence.innerText.startsWith('All 2 tokens are alive')").await;
    browser.until("!servers.innerText.includes('unavailable')").await;
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_loads_nothing_from_elsewhere_and_has_no_token_value() {
    let (_server, _stage, daemon, browser, port) = shown(&["orders", "quotes"]).await;
    browser.run("body.firstElementChild.click(); return true;").await;
    browser.until("story.open && timeline.parentElement.innerText.includes('routine')").await;
    let ours = format!("http://127.0.0.1:{port}/");
    let requests = browser.requests().await;
    assert!(requests.iter().any(|url| url.ends_with("/page/stream")), "{requests:?}");
    for url in requests {
        assert!(url.starts_with(&ours) || url.starts_with("data:"), "{url}");
    }
    assert_eq!(browser.complaints().await, serde_json::json!([]));
    let page = browser.eval("document.documentElement.outerHTML").await.to_string();
    assert!(!page.contains(MARK) && !page.contains(ISSUED), "{page}");
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_draws_only_the_visible_rows_of_ten_thousand_tokens() {
    const MANY: usize = 10_000;
    let server = simulator().await;
    let port = free_port();
    let inventory = "[inventory.crowd]\nserver = \"sarus\"\nfile = \"$DIR/crowd.jsonl\"\n";
    let tables = server_table("sarus", &server, "rate_limit = 100000");
    let stage = Stage::new(&(tables + inventory + &control(port, "")));
    let lines = (0..MANY).map(|index| {
        let (name, value) = (format!("token-{index}"), secret(&format!("value-{index}")));
        server.add_token(&value, seconds(3_600));
        format!("{{\"name\": \"{name}\", \"token\": \"{value}\"}}\n")
    });
    stage.write("crowd.jsonl", &lines.collect::<String>());
    let daemon = stage.start();
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{port}/")).await;
    browser.until("states.innerText.match(/10,000\\s+alive/)").await;
    browser.until("grid.getAttribute('aria-rowcount') === '10001'").await;
    for part in 0..=20 {
        let script = format!(
            "grid.scrollTop = grid.scrollHeight * {part} / 20; \
             return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {{ \
               const inside = (row) => {{ const a = row.getBoundingClientRect(), b = grid.getBoundingClientRect(); \
                 return a.bottom > b.top && a.top < b.bottom; }}; \
               done([body.children.length, [...body.children].filter(inside).length]); }})));"
        );
        let drawn = browser.run(&script).await;
        let [all, seen] = [&drawn[0], &drawn[1]].map(|count| count.as_u64().expect("a number"));
        assert!(all < 200 && seen > 5, "{drawn} at {part} of 20");
    }
    daemon.stop().await;
}

#[tokio::test]
#[ignore = "needs Chromium; .ci/run runs it"]
async fn page_marks_stale_data_until_new_data_arrives() {
    let (_server, stage, daemon, browser, _) = shown(&["quotes"]).await;
    daemon.signal(Signal::STOP);
    browser.until("/^Stale, last update \\d\\d:\\d\\d:\\d\\d$/.test(link.textContent)").await;
    browser.until("stale.textContent.startsWith('No data from the daemon since ')").await;
    let before = browser.eval("body.innerText").await;
    let later = browser.eval("performance.now() + 2500").await;
    browser.until(&format!("performance.now() > {later}")).await;
    assert_eq!(browser.eval("body.innerText").await, before, "time stands still");
    assert_eq!(browser.violations().await, serde_json::json!([]), "stale");
    daemon.signal(Signal::CONT);
    browser.until("link.textContent === 'Live' && stale.textContent === ''").await;
    daemon.stop().await;
    browser.until("link.textContent.startsWith('Stale, last update ')").await;
    let daemon = stage.start();
    browser.until("link.textContent === 'Live'").await;
    browser.until(&format!("({}).startsWith('alive')", row("quotes"))).await;
    daemon.stop().await;
}
