// Notifications: of what needs someone, as it happens, once for each event, and only where they were asked for.

import { storyTitle } from "./board.js";
import { $, say } from "./dom.js";
import { format, storyRoute } from "./routes.js";

const WANTED = "huskies-notify";
const TITLES = { story_blocked: "Blocked", merge_failure: "Merge failed", rate_limit_hard_block: "Rate-limited" };

const can = () => typeof Notification === "function";

// Asked of the browser when it may have changed: to ask it for each frame of a burst takes as long as to draw it.
let wanted = false;

export function wireAlerts() {
  $("notify").addEventListener("click", async () => {
    if (wanted) localStorage.setItem(WANTED, "no");
    else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(WANTED, "yes");
    drawButton();
  });
  document.addEventListener("visibilitychange", drawButton);
  drawButton();
}

function drawButton() {
  wanted = can() && Notification.permission === "granted" && localStorage.getItem(WANTED) === "yes";
  $("notify").hidden = !can();
  const denied = can() && Notification.permission === "denied";
  $("notify").disabled = denied;
  $("notify").ariaPressed = String(wanted);
  $("notify").title = denied ? "The browser does not allow this page to notify" : "Notify me of what needs attention, as it happens";
  say($("notify-text"), denied ? "Notifications not allowed" : wanted ? "Notifying" : "Notify me");
}

/** Tell of these events, which the stream brought; `holds(shown)`: it is still so after all of them. */
export function tell(events, holds) {
  if (!wanted) return;
  for (const shown of events) {
    const { project, event, replayed, cursor } = shown;
    const title = TITLES[event.type];
    // Replayed is history, and what is over needs no one.
    if (!title || replayed || !holds(shown)) continue;
    // The tag makes one of what several tabs tell.
    const shownOne = new Notification(`${title}: ${storyTitle(event)}`, {
      body: `${project}\n${event.reason ?? `agent ${event.agent_name}`}`, tag: cursor, icon: "/static/icon-attention.svg",
    });
    shownOne.addEventListener("click", () => {
      focus();
      location.hash = format(storyRoute(project, event.story_id));
      shownOne.close();
    });
  }
}
