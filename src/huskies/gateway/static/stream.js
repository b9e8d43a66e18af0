// The event stream, resumed for as long as it takes, without missing or doubling an event.

import { position } from "./board.js";
import { EVENTS } from "./client.js";

// How long the stream may take to bring what the log already holds, before it counts as dead.
const LAG_LIMIT_MS = 3_000;

export class Stream {
  /** `on`: {opened(), event(shown), reset(reason), gap({from, to}), broken(reason or "")}. */
  constructor(on) {
    this.on = on;
    this.source = null;
    this.cursor = "0"; // The newest event that the page has; "0": before the first.
    this.streaming = false;
    this.resting = false;
    this.retryMs = 1_000;
  }

  get head() {
    return this.cursor === "0" ? 0 : position(this.cursor);
  }

  close() {
    this.source?.close();
    this.source = null;
    this.streaming = false;
  }

  /** Nothing is streamed until `wake`. */
  rest() {
    this.resting = true;
    this.close();
    this.on.broken("");
  }

  wake() {
    if (!this.resting) return;
    this.resting = false;
    this.listen();
  }

  /** Begin behind this cursor. */
  from(cursor) {
    this.cursor = cursor;
    if (!this.resting) this.listen();
  }

  listen() {
    this.source?.close();
    const source = (this.source = new EventSource(`${EVENTS}?after=${encodeURIComponent(this.cursor)}`));
    const hear = (name, action) => source.addEventListener(name, (message) => source === this.source && action(message));
    hear("open", () => {
      this.streaming = true;
      this.retryMs = 1_000;
      this.on.opened();
    });
    hear("status", ({ data }) => this.take(JSON.parse(data)));
    hear("reset", ({ data }) => this.on.reset(JSON.parse(data).reason));
    hear("gap", ({ data }) => this.on.gap(JSON.parse(data)));
    hear("error", ({ data }) => {
      this.streaming = false;
      // The gateway's own `event: error` has data; the browser's word that the connection broke has none.
      this.on.broken(data === undefined ? "" : JSON.parse(data).reason);
      // The browser tries again by itself, except where the answer was no stream at all.
      if (source.readyState === EventSource.CLOSED) this.again(() => source === this.source && this.listen());
    });
  }

  take(shown) {
    // A stream that resumes never repeats an event; that this page shows none twice must not hang on it.
    if (position(shown.cursor) <= this.head) return;
    this.cursor = shown.cursor;
    this.on.event(shown);
  }

  /** A connection that a sleeping laptop or a router forgot still looks open: the log tells. */
  checkLag(latest) {
    const [source, before] = [this.source, this.head];
    if (!this.streaming || latest <= before) return;
    setTimeout(() => source === this.source && this.head === before && this.listen(), LAG_LIMIT_MS);
  }

  /** Try that later, and each time later than before. */
  again(action) {
    setTimeout(action, this.retryMs);
    this.retryMs = Math.min(this.retryMs * 2, 15_000);
  }
}
