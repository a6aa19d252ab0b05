// The console's own behaviour: theme, live or paused, keys, the failing count in title and icon.
// Everything here is a comfort: each page reads and acts without it.

const root = document.documentElement;
root.dataset.script = "on";

const remember = (name, value) => {
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax`;
};

// --- Theme ---------------------------------------------------------------------------------------------------------

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);

function toggleTheme() {
  root.dataset.theme = isDark() ? "light" : "dark";
  remember("theme", root.dataset.theme);
}

// --- Live or paused ------------------------------------------------------------------------------------------------

const liveButton = () => document.querySelector("[data-action=live]");
const isPaused = () => liveButton()?.getAttribute("aria-pressed") === "false";

function setLive(live) {
  const button = liveButton();
  if (!button) return;
  button.setAttribute("aria-pressed", String(live));
  sessionStorage.setItem("paused", live ? "" : "1");
  if (live) pollNow();
}

function pollNow() {
  for (const region of document.querySelectorAll("[data-live]")) htmx.trigger(region, "every", {}, false);
}

const isPoll = (event) => event.detail.ctx.sourceEvent?.type === "every";

function isBeingRead(region) {
  const selection = getSelection();
  const selecting = !selection.isCollapsed && region.contains(selection.anchorNode);
  const choosing = region.contains(document.activeElement) && document.activeElement.matches("select, input, textarea");
  return selecting || choosing;
}

document.addEventListener("htmx:config:request", (event) => {
  if (!isPoll(event)) return;
  if (document.hidden || isPaused() || isBeingRead(event.target)) event.preventDefault();
});

// A failed poll must not put an error page into the region: the old figures stay, marked as old.
document.addEventListener("htmx:before:response", (event) => {
  if (!isPoll(event)) return;
  const failed = event.detail.ctx.response.status >= 400;
  markStale(event.target, failed);
  if (failed && event.detail.ctx.response.status !== 401) event.preventDefault();
});
document.addEventListener("htmx:error", (event) => {
  if (event.detail.ctx && isPoll(event)) markStale(event.target, true);
});

let lastAnswer = Date.now();

function markStale(region, stale) {
  const notice = document.getElementById("stale");
  region.classList.toggle("stale", stale);
  if (!stale) lastAnswer = Date.now();
  if (!notice) return;
  notice.hidden = !stale;
  notice.querySelector("[data-age]").textContent = `${Math.round((Date.now() - lastAnswer) / 1000)} s`;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) pollNow();
});

// --- Failing count in title and icon -------------------------------------------------------------------------------

const plainTitle = document.title;
const icon = document.querySelector("link[rel=icon]");

function showFailing() {
  const failing = Number(document.querySelector("[data-failing]")?.dataset.failing ?? 0);
  document.title = failing ? `(${failing}) ${plainTitle}` : plainTitle;
  const wanted = failing ? icon.dataset.failingIcon : icon.dataset.plainIcon;
  if (icon.getAttribute("href") !== wanted) icon.setAttribute("href", wanted);
}

document.addEventListener("htmx:after:swap", showFailing);

// --- Keys ----------------------------------------------------------------------------------------------------------

const rows = () => [...document.querySelectorAll("main tr[data-href]")];

function moveRow(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("current"));
  const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
  all.forEach((row) => row.classList.toggle("current", row === next));
  next.scrollIntoView({ block: "nearest" });
}

function openRow() {
  const row = document.querySelector("main tr.current[data-href]");
  if (row) location.href = row.dataset.href;
}

const search = () => document.querySelector("main input[type=search]");
const help = () => document.getElementById("help");
const follow = () => document.querySelector("[data-action=follow]");

const KEYS = {
  t: toggleTheme,
  "/": () => search()?.focus(),
  "?": () => help()?.togglePopover(),
  j: () => moveRow(1),
  k: () => moveRow(-1),
  Enter: openRow,
  f: () => follow()?.click(),
};

let awaitingPlace = -Infinity;

function goTo(letter) {
  const link = document.querySelector(`nav a[data-key="${CSS.escape(letter)}"]`);
  if (link) location.href = link.href;
  return Boolean(link);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const onControl = event.target.closest("a, button, summary, dialog");
  if (event.timeStamp - awaitingPlace < 1500 && goTo(event.key)) return event.preventDefault();
  awaitingPlace = event.key === "g" ? event.timeStamp : -Infinity;
  if (event.key === " " && !onControl && liveButton()) {
    event.preventDefault();
    return setLive(isPaused());
  }
  if (event.key === "Enter" && onControl) return;
  if (Object.hasOwn(KEYS, event.key)) {
    if (event.key === "/") event.preventDefault();
    KEYS[event.key]();
  }
});

document.addEventListener("click", (event) => {
  const action = event.target.closest("[data-action]")?.dataset.action;
  if (action === "theme") toggleTheme();
  if (action === "live") setLive(isPaused());
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

if (sessionStorage.getItem("paused")) liveButton()?.setAttribute("aria-pressed", "false");
showFailing();
