// The sentence and the list of tokens.

// How long a token lives, and until when.
function lifeOf(row) {
  if (row.until !== null) {
    if (row.basis === "endless") return ["does not expire", ""];
    const left = row.until - now(), at = clock(wall(row.until));
    const assumed = row.basis === "assumed" ? "assumed " : "";
    return left < 0 && row.state === "unverified" ? [`${assumed}expiry passed`, `at ${at}`]
      : [duration(Math.max(0, left)), `${assumed}until ${at}`];
  }
  if (row.state === "elsewhere") return ["not known", ""];
  if (row.state === "missing") return ["no value", ""];
  if (row.dead !== null) return [`for ${rough(wall(now()) - row.dead)}`, `since ${clock(row.dead)}`];
  return row.state === "expired" || row.state === "rejected" ? ["no life left", ""] : ["not known yet", ""];
}

const isDead = (row) => ["missing", "rejected", "expired"].includes(row.state);

// What happens next to a token, and when.
function nextOf(row) {
  const at = (moment) => moment - now() < 1000 ? "" : `at ${clock(wall(moment))}`;
  const { reauth } = row;
  if (reauth?.running) return ["re-authentication running", ""];
  if (row.claimedBy !== null) return [`claimed by ${shown(row.claimedBy)}`, ""];
  if (row.state === "paused") return ["nothing until resumed", ""];
  if (row.state === "elsewhere") {
    return [`checked by ${replicaOf(row)}`, cluster?.reachable ? "taken over here if it fails" : ""];
  }
  const attempt = reauth?.next ?? null;
  if (attempt !== null && (row.next === null || attempt < row.next)) {
    const left = reauth.left ? `${plural(reauth.left, "attempt")} left` : "";
    return [`re-authentication ${ahead(attempt - now())}`, [at(attempt), left].filter(Boolean).join(", ")];
  }
  if (isDead(row) && row.next === null) return [reauth ? "new value in progress" : "needs a new value", ""];
  if (servers[row.server]?.down) return ["waits for the server", ""];
  if (row.next === null) return ["check running", ""];
  return [`${row.state === "retrying" ? "retry" : "check"} ${ahead(row.next - now())}`, at(row.next)];
}

function pair(element, [main, more]) {
  tell(element.children[0], main);
  tell(element.children[1], more);
}

const nameOf = (row) => shown(row.name ?? `token ${row.id}`);
// The replica that checks a token, in words if names are hidden.
const replicaOf = (row) =>
  row.replica !== null ? shown(row.replica) : row.state === "elsewhere" ? "another replica" : "this one";
const serverOf = (row) => shown(servers[row.server]?.name ?? "");

function run(bar, row) {
  const [fill, notch] = bar.children;
  const life = row.life || 0;
  const share = row.until === null || !life ? 0 : Math.min(1, Math.max(0, (row.until - now()) / life));
  fill.style.transform = `scaleX(${share.toFixed(4)})`;
  const at = row.until === null || row.next === null || !life ? -1 : (row.until - row.next) / life;
  notch.hidden = !(at > 0 && at < 1);
  notch.style.left = `${(at * 100).toFixed(2)}%`;
}

// ---- the sentence: its words are the daemon's, its times are written here.
function say() {
  const nodes = $("sentence").childNodes;
  sentence.forEach((part, index) => {
    if (part.at_ms !== undefined) tell(nodes[index], clock(part.at_ms));
    else if (part.until !== undefined) tell(nodes[index], rough(part.until - now()));
  });
}

// Writes the sentence again if its words have changed, or the tokens that it leads to.
let written = null;
function write() {
  const ids = new Map();
  for (const part of sentence) if (part.token !== undefined) ids.set(part.token, null);
  if (ids.size) for (const row of rows.values()) if (ids.has(row.name)) ids.set(row.name, row.id);
  const words = JSON.stringify([...ids.values(), ...sentence.map((part) =>
    part.token ?? (typeof part === "string" ? part : 0))]);
  if (words === written) return;
  written = words;
  $("sentence").replaceChildren(...sentence.map((part) => {
    if (part.token === undefined) return document.createTextNode(typeof part === "string" ? shown(part) : "");
    const id = ids.get(part.token);
    if (id === null) return make("b", {}, shown(part.token));
    const button = make("button", { type: "button" }, shown(part.token));
    button.addEventListener("click", () => tellStory(id));
    return button;
  }));
  say();
  // Announced when the words change, not when a time does.
  tell($("announced"), $("sentence").textContent);
}

// ---- the list: only what is visible is drawn, into rows that are used again.
const grid = $("grid"), body = $("body"), pool = [];
let height = 52;
let first = 0;
const isTable = () => document.body.dataset.layout === "table";

function drawnRow() {
  const cell = (name, ...children) => make("span", { role: "gridcell", class: name }, ...children);
  const two = (name) => make("span", { class: `${name} pair` }, make("b"), make("small"));
  const track = make("span", { class: "track", "aria-hidden": "true" },
    make("span", { class: "run" }), make("span", { class: "notch" }));
  const left = two("left");
  const state = cell("state", make("span", { class: "mark" }), make("span"));
  const token = cell("token pair", make("b", { class: "name" }), make("small"));
  const next = cell("next pair", make("b"), make("small"));
  const row = make("div", { role: "row", class: "row" }, state, token, cell("life", track, left), next);
  return { row, word: state.lastChild, token, track, left, next, shown: null };
}

function draw() {
  const top = body.offsetTop, table = isTable();
  // The list scrolls in itself, or with the page.
  const seen = grid.getBoundingClientRect();
  const from = grid.scrollTop + Math.max(0, -seen.top);
  const until = grid.scrollTop + Math.min(grid.clientHeight, innerHeight - seen.top) - top;
  first = table ? Math.min(view.length, Math.max(0, Math.floor(from / height) - BEYOND)) : 0;
  const last = table ? Math.min(view.length, Math.ceil(until / height) + BEYOND) : view.length;
  const count = Math.max(0, last - first);
  while (pool.length < count) {
    pool.push(drawnRow());
    body.append(pool.at(-1).row);
  }
  while (pool.length > count) pool.pop().row.remove();
  pool.forEach((drawn, offset) => {
    const row = view[first + offset];
    drawn.shown = row;
    const { row: element } = drawn;
    element.id = `row-${row.id}`;
    element.dataset.state = row.state;
    element.toggleAttribute("data-dead", row.until === null);
    element.style.transform = `translateY(${(first + offset) * height}px)`;
    element.setAttribute("aria-rowindex", String(first + offset + 2));
    element.setAttribute("aria-selected", String(row.id === chosen));
    tell(drawn.word, row.state);
    pair(drawn.token, [nameOf(row), serverOf(row)]);
    if (drawn.token.title !== nameOf(row)) drawn.token.title = nameOf(row);
  });
  const isSeen = pool.some((drawn) => drawn.shown.id === chosen);
  if (isSeen) grid.setAttribute("aria-activedescendant", `row-${chosen}`);
  else grid.removeAttribute("aria-activedescendant");
  runDown();
}

// What moves by itself between two updates.
function runDown() {
  say();
  for (const { shown, track, left, next } of pool) {
    run(track, shown);
    pair(left, lifeOf(shown));
    pair(next, nextOf(shown));
  }
  const row = told === null ? null : rows.get(told);
  if (row) {
    run($("story").querySelector(".track"), row);
    const [left, until] = lifeOf(row);
    const full = row.life && row.until !== null && row.basis !== "endless" ? `${left} of ${duration(row.life)}` : left;
    pair($("story-life"), [full, until]);
    pair($("story-next"), nextOf(row));
  }
}

// Short lives are seen to run; for long ones a step a second is as fine as a pixel.
function pace() {
  const quick = pool.some(({ shown }) => shown.life !== null && shown.life < 2 * MINUTE);
  setTimeout(() => {
    if (!document.hidden && staleAt === null) runDown();
    pace();
  }, quick && !calm.matches ? 100 : 1000);
}

let planned = false, sorting = false;
function later(sort) {
  sorting ||= sort;
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    if (sorting) arrange();
    sorting = false;
    draw();
  });
}

function arrange() {
  const words = $("search").value.trim().toLowerCase();
  const order = $("order").value;
  const isFiltered = wanted.size > 0 || words !== "";
  const cards = rows.size <= CARDS && !isFiltered;
  document.body.dataset.layout = cards ? "cards" : "table";
  document.body.toggleAttribute("data-few", cards && rows.size <= 3);
  $("tokens").hidden = rows.size === 0;
  write();
  $("overview").hidden = cards;
  view = [];
  for (const row of rows.values()) {
    if (wanted.size && !wanted.has(row.state)) continue;
    if (words && !row.text.includes(words) && !serverOf(row).toLowerCase().includes(words)) continue;
    view.push(row);
  }
  const byName = (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id - b.id);
  const end = (row) => row.until ?? -Infinity;
  view.sort({
    worst: (a, b) => RANK[a.state] - RANK[b.state] || byName(a, b),
    ends: (a, b) => (end(a) === end(b) ? byName(a, b) : end(a) - end(b)),
    name: byName,
  }[cards ? "worst" : order]);
  body.style.setProperty("--columns", COLUMNS[view.length] ?? 1);
  body.style.height = `${view.length * height}px`;
  grid.setAttribute("aria-rowcount", String(view.length + 1));
  $("rest").hidden = rest === 0;
  tell($("rest"), `${plural(rest, "more token")}, none in a worse state, ${rest === 1 ? "is" : "are"} not listed here.`);
}

// Announced after a search or a filter, not each second.
let announcing = 0;
function found() {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    const filtered = wanted.size || $("search").value.trim();
    tell($("found"), filtered
      ? `${grouped(view.length)} of ${plural(rows.size, "token")}` : "");
  }, 300);
}
