// Mouse, keys, and the stream of the daemon.

// ---- mouse and keys
body.addEventListener("click", (event) => {
  const drawn = pool.find((drawn) => drawn.row.contains(event.target));
  if (!drawn) return;
  chosen = drawn.shown.id;
  later(false);
  tellStory(chosen);
});

function choose(index) {
  if (!view.length) return;
  const at = Math.min(view.length - 1, Math.max(0, index));
  chosen = view[at].id;
  if (isTable()) {
    const top = at * height, bottom = top + height, room = grid.clientHeight - body.offsetTop;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (bottom > grid.scrollTop + room) grid.scrollTop = bottom - room;
  }
  draw();
  if (!isTable()) $(`row-${chosen}`).scrollIntoView({ block: "nearest" });
}

grid.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = view.findIndex((row) => row.id === chosen);
  const page = Math.max(1, Math.floor(grid.clientHeight / height) - 2);
  const aside = isTable() ? {} : { ArrowRight: at + 1, ArrowLeft: at - 1 };
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page,
    Home: 0, End: view.length - 1, ...aside }[event.key];
  if (to !== undefined) choose(to);
  else if (event.key === "Enter" && at >= 0) tellStory(chosen);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing && !story.open && isTable()) {
    event.preventDefault();
    $("search").focus();
    $("search").select();
  }
});

$("search").addEventListener("input", () => { grid.scrollTop = 0; later(true); found(); });
$("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "Enter") {
    event.preventDefault();
    grid.focus();
    choose(0);
  }
});
$("order").addEventListener("change", () => { grid.scrollTop = 0; later(true); });
grid.addEventListener("scroll", () => later(false), { passive: true });
addEventListener("scroll", () => later(false), { passive: true });
grid.addEventListener("focus", () => { if (chosen === null && view.length) choose(first); });
new ResizeObserver(() => {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  height = rem * parseFloat(getComputedStyle(grid).getPropertyValue("--row"));
  later(true);
}).observe(document.body);

// ---- the daemon
let source = null, heard = 0, updated = null, skew = Date.now() - performance.now();
// The next counts begin a new snapshot.
let isNew = false;

function link(state, text) {
  document.body.dataset.link = state;
  tell($("link"), text);
}

function takeCounts(counts) {
  const at = performance.now();
  ({ states, servers, rest, cluster = null } = counts);
  updated = at;
  staleAt = null;
  // The delay of the connection varies; times of day should not vary with it.
  if (Math.abs(counts.now_ms - wall(at)) > 500) wallOffset = counts.now_ms - at;
  if (isNew) {
    isNew = false;
    rows.clear();
    $("recent").replaceChildren();
    later(true);
  }
  link("live", "Live");
  tell($("stale"), "");
  const rejected = counts.config_rejected_at_ms;
  tell($("rejected"), rejected === null ? ""
    : `Configuration on disk rejected at ${clock(rejected)}; the previous one stays active`);
  const { summary } = counts;
  $("summary").hidden = !summary;
  if (summary) {
    $("summary").dataset.level = summary.level;
    sentence = summary.parts.map((part) =>
      part.in_ms === undefined ? part : { until: at + part.in_ms });
    write();
  }
  count();
  showServers();
  showCluster();
  later(rows.size === 0);
}

function take({ rows: changed, gone = [] }) {
  const at = performance.now();
  let sort = gone.length > 0;
  for (const id of gone) rows.delete(id);
  const moment = (ms) => ms === null ? null : at + ms;
  for (const [id, name, server, state, left, life, next, dead, reauth, basis, place] of changed) {
    const old = rows.get(id);
    const row = old ?? { id };
    sort ||= !old || old.state !== state || old.name !== name || $("order").value === "ends";
    if (!old || old.name !== name) {
      row.name = name;
      row.text = (name ?? `token ${id}`).toLowerCase();
      row.key = row.text.replace(/\d+/g, (digits) => digits.padStart(12, "0"));
    }
    Object.assign(row, { server, state, life, dead, basis, until: moment(left), next: moment(next),
      replica: place?.[0] ?? null, claimedBy: place?.[1] ?? null,
      reauth: reauth && { running: reauth[0], left: reauth[1], next: moment(reauth[2]) } });
    rows.set(id, row);
  }
  if (told !== null) refresh();
  later(sort);
}

function lost() {
  if (updated === null) {
    link("waiting", "No connection to the daemon. Connecting…");
  } else if (staleAt === null) {
    staleAt = updated;
    const at = clock(wall(updated), true);
    link("stale", `Stale, last update ${at}`);
    tell($("stale"), `No data from the daemon since ${at}. Everything below is as of then. Reconnecting…`);
    runDown();
  }
  source?.close();
  source = null;
  setTimeout(open, AGAIN_MS);
}

function open() {
  source = new EventSource("page/stream");
  const mine = source;
  heard = performance.now();
  const on = (name, then) => mine.addEventListener(name, (event) => {
    if (source !== mine) return;
    heard = performance.now();
    then(JSON.parse(event.data));
  });
  on("hello", (hello) => {
    isNew = true;
    tell($("version"), hello.version);
  });
  on("counts", takeCounts);
  on("snapshot", take);
  on("change", take);
  on("note", note);
  mine.addEventListener("error", () => { if (source === mine) lost(); });
}

setInterval(() => {
  // A machine that slept lets lives run on while this clock stood still.
  const slept = Date.now() - performance.now() - skew;
  skew += slept;
  if (source && (performance.now() - heard > SILENCE_MS || Math.abs(slept) > 2000)) lost();
}, 1000);

open();
pace();
