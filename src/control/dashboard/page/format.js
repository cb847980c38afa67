// Elements, texts and times.

// The worst first: in this order tokens are listed.
const STATES = ["missing", "rejected", "expired", "unverified", "retrying", "paused", "elsewhere", "alive"];
// Tokens in these states are not alive, as in the sentence: retrying ones are, paused ones may be.
const DEAD = STATES.slice(0, STATES.indexOf("retrying"));
const notAlive = (counts) => DEAD.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
const RANK = Object.fromEntries(STATES.map((state, rank) => [state, rank]));
// Up to this number of tokens each is a card, in as many columns as fill their lines best.
const CARDS = 6;
const COLUMNS = [1, 1, 2, 3, 2, 3, 3];
// Rows that are drawn beyond each edge of what is visible, so that scrolling shows no gap.
const BEYOND = 6;
const NOTES = 100;
// The daemon sends an event each second; without one for this long, what is shown is stale.
const SILENCE_MS = 5000;
const AGAIN_MS = 1000;
const MINUTE = 60000, DAY = 86400000;

const $ = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
// Characters that are invisible or reorder what is read, such as U+202E, are spelled out.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}\u2800]/gu;
const shown = (text) => text.replace(HIDDEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
const tell = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const grouped = (number) => number.toLocaleString("en-GB");
const plural = (number, word) => `${grouped(number)} ${word}${number === 1 ? "" : "s"}`;

const rows = new Map();
let view = [];
let servers = [];
let states = {};
// The cluster of replicas, if there is one.
let cluster = null;
let rest = 0;
let sentence = [];
let chosen = null;
let told = null;
const wanted = new Set();
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// ---- time: the last snapshot runs on until it is stale, and then stands still.
let staleAt = null;
const now = () => staleAt ?? performance.now();
// The daemon's clock, which its events and its log show too.
let wallOffset = Date.now() - performance.now();
const wall = (moment) => moment + wallOffset;

function duration(ms) {
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const two = (value, unit, small, word) =>
    small ? `${value} ${unit} ${small} ${word}` : `${value} ${unit}`;
  const min = Math.floor(s / 60), h = Math.floor(min / 60), d = Math.floor(h / 24);
  if (h < 1) return two(min, "min", Math.floor(s % 60), "s");
  if (d < 1) return two(h, "h", min % 60, "min");
  return two(d, "d", h % 24, "h");
}

// In one unit: what is planned needs no more.
const rough = (ms) => ms < 10000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : duration(ms).split(" ", 2).join(" ");
const ahead = (ms) => ms < 1000 ? "now" : `in ${rough(ms)}`;

const format = (options) => new Intl.DateTimeFormat("en-GB", options);
const MINUTES = format({ hour: "2-digit", minute: "2-digit" });
const SECONDS = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const WEEKDAY = format({ weekday: "short" });
const DATE = format({ day: "numeric", month: "short" });

// The time of day of a Unix time, with the day if it is not today.
function clock(at, exact = Math.abs(at - wall(now())) < 2 * MINUTE) {
  const time = (exact ? SECONDS : MINUTES).format(at);
  const today = wall(now());
  if (new Date(at).toDateString() === new Date(today).toDateString()) return time;
  return `${(Math.abs(at - today) < 6 * DAY ? WEEKDAY : DATE).format(at)} ${time}`;
}
