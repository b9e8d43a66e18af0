// The head of the page: how many things need someone, whether anything moves, and whether the page is up to date.

import { inFlight } from "./board.js";
import { $, h, hide, mark, plural, say } from "./dom.js";
import { ageNode, clock } from "./times.js";

export function connection({ live, loaded, streaming, since, problem }) {
  mark($("link"), "state", live ? "live" : loaded ? "stale" : "loading");
  say($("link-text"), live ? "Live" : loaded ? `${streaming ? "Out of date" : "Reconnecting"} since ${clock(since)}` : "Connecting…");
  const why = problem ? ` (${problem})` : "";
  const stale =
    loaded && streaming ? `Events arrive, but since ${clock(since)} the gateway does not say how the sleds stand${why}. The page keeps asking.`
    : loaded ? `No connection to the gateway since ${clock(since)}${why}. What you see is how things stood then; the page catches up by itself.`
    : `Nothing could be loaded yet${why}. The page keeps trying; is the gateway running at ${location.origin}?`;
  mark(document.body, "stale", loaded && !live);
  hide($("stale"), live || (!loaded && !problem));
  say($("stale"), $("stale").hidden ? "" : stale);
}

export function notice(text) {
  const close = h("button", { type: "button", className: "plain" }, "Dismiss");
  const item = h("p", { className: "notice" }, h("span", {}, `${clock(Date.now())}: ${text}`), close);
  close.addEventListener("click", () => item.remove());
  $("notices").append(item);
}

/** `count`: how many things need someone; `where`: what the page shows, null for the overview. */
export function summary(board, count, newest, stale, where) {
  const name = where ? `${where} · Huskies` : "Huskies";
  const title = `${count ? `(${count}) ` : ""}${name}${stale ? " · not live" : ""}`;
  if (document.title !== title) document.title = title;
  const icon = count ? "/static/icon-attention.svg" : "/static/icon.svg";
  if ($("icon").getAttribute("href") !== icon) $("icon").setAttribute("href", icon);
  const empty = board.size === 0 && newest === null;
  mark(document.body, "needed", count > 0);
  hide($("verdict"), empty);
  say($("headline"), empty ? "" : count === 0 ? "Nothing needs you" : count === 1 ? "1 thing needs you" : `${count.toLocaleString()} things need you`);
  say($("in-flight"), empty ? "" : `${plural(board.size, "project", "projects")}, ${plural(inFlight(board), "story", "stories")} in flight`);
  drawNewest(newest);
}

let newestDrawn = null;

function drawNewest(newest) {
  if (newest === newestDrawn) return;
  newestDrawn = newest;
  $("last").replaceChildren(...(newest === null ? [] : ["last event ", ageNode(newest.received_ms, " ago")]));
}
