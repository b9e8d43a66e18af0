// Times in words, and nodes that keep saying how long ago something was.

import { h, plural, say } from "./dom.js";

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 && hours < 10 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 && days < 4 ? `${plural(days, "day", "days")} ${hours % 24} h` : plural(days, "day", "days");
}

export function clock(ms) {
  const today = new Date().setHours(0, 0, 0, 0);
  return ms >= today && ms < today + 86_400_000 ? CLOCK.format(ms) : `${DAY.format(ms)}, ${CLOCK.format(ms)}`;
}

export const fullTime = (ms) => FULL.format(ms);

export const fixedTime = (ms) => h("time", { dateTime: new Date(ms).toISOString() }, clock(ms));

// Said in full to who points at it: a burst makes thousands that no one points at.
document.addEventListener("pointerover", ({ target }) => {
  if (target instanceof HTMLTimeElement) target.title ||= FULL.format(Date.parse(target.dateTime));
});

/** How long ago that is, kept true by `ages`. */
export function ageNode(ms, ago = "") {
  const node = h("time", { dateTime: new Date(ms).toISOString() }, age(Date.now() - ms) + ago);
  Object.assign(node.dataset, { ms, ago });
  return node;
}

/** Keep every relative age on the page true. */
export function ages(now) {
  for (const node of document.querySelectorAll("time[data-ms]"))
    say(node, age(now - Number(node.dataset.ms)) + node.dataset.ago);
}
