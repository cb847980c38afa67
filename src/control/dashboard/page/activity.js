// Counts, servers, events, and one token in detail.

// ---- tokens by state, servers
for (const state of [...STATES].reverse()) {
  $("share").append(make("i", { "data-state": state }));
  const button = make("button", { type: "button", "data-state": state, "aria-pressed": "false" },
    make("span", { class: "mark" }), make("b"), ` ${state}`);
  button.addEventListener("click", () => {
    const on = !wanted.delete(state);
    if (on) wanted.add(state);
    button.setAttribute("aria-pressed", String(on));
    grid.scrollTop = 0;
    count();
    later(true);
    found();
  });
  $("states").append(button);
}

function count() {
  const total = states.total ?? 0;
  for (const button of $("states").children) {
    const { state } = button.dataset, number = states[state] ?? 0;
    tell(button.querySelector("b"), grouped(number));
    button.hidden = number === 0 && !wanted.has(state);
  }
  for (const part of $("share").children) {
    const number = states[part.dataset.state] ?? 0;
    part.hidden = number === 0;
    part.style.flexBasis = total ? `${(number / total) * 100}%` : "0";
  }
  const dead = notAlive(states);
  document.title = dead ? `(${grouped(dead)}) tokenkeep` : "tokenkeep";
}

// What is wrong with a server: its level and a sentence.
function troubleOf({ down, reason, down_since_ms: since, pause_ms: pause }) {
  const began = since === null || since === undefined ? "" : ` since ${clock(since)}`;
  if (down) return ["error", `unavailable${began}: ${reason}`];
  return pause > 0 ? ["warn", `asked for a pause until ${clock(wall(now()) + pause)}`] : ["ok", ""];
}

function showServers() {
  const used = servers.filter((server) => server.states.total > 0);
  const table = $("server-rows");
  while (table.children.length > used.length) table.lastChild.remove();
  used.forEach((server, index) => {
    const line = table.children[index] ?? table.appendChild(make("tr", {},
      make("th", { scope: "row" }, make("span"), make("small")), make("td"), make("td")));
    const [head, all, bad] = line.children;
    const [level, trouble] = troubleOf(server);
    head.lastChild.dataset.level = level;
    tell(head.firstChild, shown(server.name));
    tell(head.lastChild, trouble);
    tell(all, grouped(server.states.total));
    tell(bad, grouped(notAlive(server.states)));
  });
  document.body.dataset.servers = used.length > 1 ? "many" : "one";
  $("servers").hidden = used.length === 0;
}

// The replicas, and which part of the tokens this one checks.
function showCluster() {
  if (cluster === null) return tell($("cluster"), "");
  const { name, members, asked, elsewhere } = cluster;
  const who = members.length ? `: ${members.map(shown).join(", ")}` : "";
  const here = name ? ` (${shown(name)})` : "";
  tell($("cluster"), `Cluster${who}; ${grouped(asked)} of ${plural(asked + elsewhere, "token")} checked here${here}`);
}

// ---- what happened
const SAID = {
  daemon_ready: "the daemon is ready", config_reloaded: "configuration reloaded",
  config_rejected: "configuration reload failed", config_warning: "configuration warning",
  token_expiring: "is about to expire",
  token_expired: "has expired", token_rejected: "was rejected", token_missing: "has no value",
  token_unverified: "no response before its last known expiry", token_recovered: "is alive again",
  token_replaced: "has a new value", token_revoked: "was revoked",
  reauth_started: "re-authentication started", reauth_succeeded: "re-authentication succeeded",
  reauth_failed: "re-authentication failed", reauth_exhausted: "no re-authentication attempts left",
  server_unavailable: "server unavailable", server_recovered: "server available again",
  store_failed: "could not be stored", check_failed: "check failed",
  renewal_not_observed: "no permitted request renews it",
  refresh_token_rejected: "its refresh token was rejected",
  renewal_learned: "renewal proven", action_requested: "control command",
  action_refused: "control command refused", value_read: "token value read",
  cluster_joined: "joined the cluster", replica_joined: "has joined the cluster", replica_left: "has left the cluster or is silent",
  cluster_unreachable: "cluster unreachable", cluster_recovered: "cluster reachable again",
  reauth_held: "re-authentication waits for the cluster",
};

function noteItem(note, subject) {
  const at = new Date(note.at_ms ?? note.at);
  const time = make("time", { datetime: at.toISOString() }, clock(at.getTime(), true));
  const said = SAID[note.event] ?? note.event.replaceAll("_", " ");
  const what = make("span", { class: "what" }, said);
  const line = subject ? make("span", {}, make("b", {}, subject), " ", what) : make("span", {}, what);
  return make("li", { "data-level": note.level }, time, line);
}

function note(note) {
  const list = $("recent");
  // Names can be hidden.
  const other = note.event.startsWith("replica_") ? "a replica" : "";
  list.prepend(noteItem(note, shown(note.token ?? note.server ?? note.replica ?? other)));
  while (list.children.length > NOTES) list.lastChild.remove();
  if (told !== null && note.token && note.token === rows.get(told)?.name) timeline();
}

// ---- one token's story
const story = $("story");
for (const id of ["story-life", "story-next"]) $(id).append(make("span"), make("small"));

function tellStory(id) {
  const row = rows.get(id);
  if (!row) return;
  told = id;
  $("timeline").replaceChildren();
  refresh();
  runDown();
  story.showModal();
  $("story-title").focus();
  timeline();
}

function refresh() {
  const row = rows.get(told);
  if (!row) return;
  tell($("story-title"), nameOf(row));
  $("story-state").dataset.state = story.querySelector(".track").dataset.state = row.state;
  tell($("story-state").lastChild, row.state);
  tell($("story-server"), serverOf(row));
  for (const element of story.querySelectorAll(".replica")) element.hidden = cluster === null;
  tell($("story-replica"), replicaOf(row));
  const needsValue = isDead(row) && !row.reauth;
  $("story-remedy").hidden = row.name === null || !needsValue && row.state !== "paused";
  const [command, effect] = needsValue ? ["status", "shows why, and where to put a new value"] : ["resume", "ends the pause"];
  tell($("story-remedy").children[0], `tokenkeep ${command} ${nameOf(row)}`);
  tell($("story-remedy").children[1], effect);
}

async function timeline() {
  const row = rows.get(told), none = $("timeline-none");
  const say = (text) => { none.hidden = !text; tell(none, text); };
  if (!row) return;
  if (row.name === null) return say("Token names are hidden here, so no events are shown.");
  try {
    const answer = await fetch(`page/story?name=${encodeURIComponent(row.name)}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const notes = await answer.json();
    if (told !== row.id) return;
    $("timeline").replaceChildren(...notes.reverse().map((note) => noteItem(note)));
    say(notes.length ? "" : "Only routine checks since the start.");
  } catch {
    say("The events could not be loaded.");
  }
}

story.addEventListener("close", () => { told = null; grid.focus(); });
story.addEventListener("click", (event) => { if (event.target === story) story.close(); });
$("close").addEventListener("click", () => story.close());
