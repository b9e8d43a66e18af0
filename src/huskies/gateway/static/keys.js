// The keyboard: where keys lead, and how one walks through what is shown.

import { $ } from "./dom.js";
import { to } from "./routes.js";

const GO = { o: "overview", a: "attention", b: "board", t: "timeline", p: "pictures" };
const GO_WITHIN_MS = 1_200;
// What `j` and `k` walk through, in the order in which it stands.
const STOPS = ".need .title, .row h3 a, .card a, .line .title";

let goUntil = 0;

/** `go(route)` leads to a view. */
export function wireKeys(go) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape") return escape(typing);
    if (typing || $("help").open) return;
    const action = chosen(event, go);
    if (!action) return;
    event.preventDefault();
    action();
  });
  $("keys").addEventListener("click", () => $("help").showModal());
  $("help-close").addEventListener("click", () => $("help").close());
  $("help").addEventListener("click", ({ target }) => target === $("help") && $("help").close());
}

function chosen({ key }, go) {
  const second = performance.now() < goUntil;
  goUntil = 0;
  if (second && Object.hasOwn(GO, key)) return () => go(to(GO[key]));
  if (key === "g") return () => (goUntil = performance.now() + GO_WITHIN_MS);
  if (key === "j") return () => step(1);
  if (key === "k") return () => step(-1);
  if (key === "/") return search;
  if (key === "?") return () => $("help").showModal();
  return null;
}

// A dialog closes itself.
function escape(field) {
  if ($("help").open) return;
  if (field?.type === "search" && field.value) {
    field.value = "";
    field.dispatchEvent(new Event("input", { bubbles: true }));
  } else document.activeElement?.blur();
}

/** The search of what is shown: of the board where that stands alone, else of the timeline. */
function search() {
  const field = [$("filter-text"), $("find")].find((some) => some.offsetParent !== null);
  field?.focus();
  field?.select();
}

function step(by) {
  const stops = [...document.querySelectorAll(STOPS)].filter((node) => node.offsetParent !== null);
  if (!stops.length) return;
  const at = stops.indexOf(document.activeElement);
  const next = at === -1 ? stops[by > 0 ? 0 : stops.length - 1] : stops[Math.min(stops.length - 1, Math.max(0, at + by))];
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}
