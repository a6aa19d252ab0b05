// Instants in the reader's own zone, how long ago they were, and durations that are still growing.

const language = document.documentElement.lang || "en";
const drift = Date.parse(document.body.dataset.now) - Date.now() || 0;
const now = () => Date.now() + drift;

const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
let zone = localStorage.getItem("zone") === "UTC" ? "UTC" : here;

const parts = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };
const formatters = new Map();

function fields(instant, timeZone) {
  if (!formatters.has(timeZone)) {
    formatters.set(timeZone, new Intl.DateTimeFormat("en-CA", { ...parts, timeZone, hourCycle: "h23" }));
  }
  const found = Object.fromEntries(formatters.get(timeZone).formatToParts(instant).map(({ type, value }) => [type, value]));
  return { date: `${found.year}-${found.month}-${found.day}`, clock: `${found.hour}:${found.minute}:${found.second}` };
}

function absolute(instant) {
  const at = fields(instant, zone);
  const today = fields(now(), zone);
  if (at.date === today.date) return at.clock;
  const date = at.date.slice(0, 4) === today.date.slice(0, 4) ? at.date.slice(5) : at.date;
  return `${date} ${at.clock.slice(0, 5)}`;
}

const relativeFormat = new Intl.RelativeTimeFormat(language, { style: "short", numeric: "always" });
const UNITS = [["second", 1, 60], ["minute", 60, 3600], ["hour", 3600, 86400], ["day", 86400, Infinity]];

function relative(instant) {
  const seconds = (instant - now()) / 1000;
  const [unit, size] = UNITS.find(([, , limit]) => Math.abs(seconds) < limit);
  return relativeFormat.format(Math.trunc(seconds / size), unit).replace(".", "");
}

const WRITE = {
  full: (instant) => `${absolute(instant)} · ${relative(instant)}`,
  clock: absolute,
  relative,
  log: (instant) => fields(instant, zone).clock,
};

function writeTime(element) {
  const instant = Date.parse(element.dateTime);
  const text = WRITE[element.dataset.when](instant);
  if (element.textContent !== text) element.textContent = text;
  if (element.dataset.zone === zone) return;
  element.dataset.zone = zone;
  const zones = new Set(["UTC", here]);
  element.title = [...zones].map((name) => {
    const at = fields(instant, name);
    return `${at.date} ${at.clock} ${name}`;
  }).join("\n");
}

const two = (number) => String(Math.floor(number)).padStart(2, "0");

function duration(seconds) {
  if (seconds < 60) return `${Math.max(seconds, 0).toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} m`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function writeAll(within = document) {
  within.querySelectorAll("time[data-when]").forEach(writeTime);
}

function writeGrowing() {
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = duration((now() - Date.parse(element.dataset.since)) / 1000);
  }
}

const choice = document.querySelector("select[data-action=zone]");
if (choice) {
  choice.options[0].textContent += ` (${here})`;
  choice.value = zone === "UTC" ? "UTC" : "local";
  choice.addEventListener("change", () => {
    zone = choice.value === "UTC" ? "UTC" : here;
    localStorage.setItem("zone", zone === "UTC" ? "UTC" : "local");
    writeAll();
  });
}

document.addEventListener("htmx:after:swap", () => {
  writeAll();
  writeGrowing();
});
setInterval(() => document.hidden || writeAll(), 5000);
setInterval(() => document.hidden || writeGrowing(), 1000);
writeAll();
writeGrowing();
