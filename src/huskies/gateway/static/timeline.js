// The events that the timeline shows: the newest, as they come, and as much of history as someone scrolled to.

import { mergeEvents } from "./board.js";
import { EVENTS, getJson } from "./client.js";
import { admits, queryOf } from "./routes.js";

const PAGE = 100;
// The most events kept without anyone asking for older ones: bounds a page that stays open for weeks.
const ROOM = 150;
// A search that finds nothing goes this far back by itself; the button goes on.
const PAGES_UNASKED = 10;
// A story's page shows all of it, up to this: no one reads more, and the page says so.
const WHOLE = 5_000;

export class Timeline {
  /** `changed()` is called whenever there is something new to draw. */
  constructor(changed) {
    this.changed = changed;
    this.filter = null;
    this.query = null;
    this.clear();
  }

  clear() {
    this.events = [];
    this.next = null;
    this.room = ROOM;
    this.busy = false;
    this.problem = "";
    this.unasked = PAGES_UNASKED;
    this.asking = null; // Stands for the one answer that is still wanted.
    this.started = false;
  }

  /** Show what a filter admits; `whole`: all of it, not only the newest. */
  show(filter, whole = false) {
    const { text: _, ...rest } = filter;
    const key = JSON.stringify([rest, whole]);
    const same = this.filter !== null && key === this.key;
    this.filter = filter;
    if (same) return;
    this.key = key;
    this.whole = whole;
    this.restart();
  }

  /** Everything once more: what was there is of another log. */
  restart() {
    if (this.filter === null) return;
    this.clear();
    this.query = queryOf(this.filter, Date.now());
    this.load();
  }

  /** Events as they come, oldest first. */
  take(events) {
    if (this.query === null) return;
    const wanted = events.filter((shown) => admits(this.query, shown)).reverse();
    if (!wanted.length) return;
    const all = mergeEvents(this.events, wanted);
    const kept = all.slice(0, this.room);
    if (kept.length < all.length) this.next = kept.at(-1).cursor;
    this.events = kept;
  }

  /** The next page back. */
  async load() {
    const asking = (this.asking = {});
    this.busy = true;
    this.problem = "";
    this.changed();
    try {
      const page = await getJson(EVENTS, { before: this.next ?? "latest", limit: PAGE, ...this.query });
      if (asking !== this.asking) return;
      this.events = mergeEvents(this.events, page.events);
      this.room = Math.max(ROOM, this.events.length);
      this.next = page.next;
      this.started = true;
    } catch (error) {
      if (asking !== this.asking) return;
      this.problem = error.message;
    }
    this.busy = false;
    this.changed();
    if (this.whole && this.next && !this.problem && this.events.length < WHOLE) this.load();
  }

  /** Someone asks for more. */
  older() {
    this.unasked = PAGES_UNASKED;
    if (!this.busy) this.load();
  }

  /** The end of the list has come near. */
  near() {
    if (!this.started || this.busy || this.problem || !this.next || this.unasked === 0) return;
    this.unasked -= 1;
    this.load();
  }

  /** Whoever scrolls or types still looks. */
  looked() {
    this.unasked = PAGES_UNASKED;
  }
}
