// The output of a run: it follows the end until the reader scrolls up, and again once the reader asks.

const log = document.getElementById("log");
const follow = document.querySelector("[data-action=follow]");
const times = document.querySelector("[data-action=log-times]");

const toEnd = () => {
  log.scrollTop = log.scrollHeight;
};
const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;

if (log && follow) {
  follow.addEventListener("change", () => follow.checked && toEnd());
  log.addEventListener("scroll", () => {
    follow.checked = isAtEnd();
  });
  document.addEventListener("htmx:after:swap", () => follow.checked && toEnd());
  if (follow.checked) toEnd();
}

if (log && times) {
  times.addEventListener("change", () => log.classList.toggle("no-times", !times.checked));
}
