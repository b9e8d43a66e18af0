// Plain pictures of numbers. Each says in words what it shows, and stands beside a table of the same numbers.
//
// Widths are in percent, so that a picture fits wherever it stands without being drawn again.

import { h, outside, svg } from "./dom.js";

const HIGH = 150;
const AXIS = 18; // Room for the dates below.

/** A round number that is at least `most`, so that the scale says something to a reader. */
export function scaleTo(most) {
  if (most <= 4) return Math.max(1, Math.ceil(most));
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most);
}

/**
 * Bars by day: `up` stands on the axis, `down` hangs below it where there is one.
 *
 * `days`: [{label, up, down, title}].
 */
export function dayBars(days, hues, says) {
  const hasDown = hues.length > 1;
  const top = scaleTo(Math.max(1, ...days.map(({ up, down }) => Math.max(up, down ?? 0))));
  const zero = hasDown ? HIGH / 2 : HIGH;
  const px = (count) => (count / top) * (zero - 4);
  const step = 100 / days.length;
  const bar = (index, count, hue, hangs) =>
    count > 0 &&
    svg("rect", { "data-hue": hue, rx: 2, x: `${(index + 0.14) * step}%`, width: `${0.72 * step}%`,
      y: (hangs ? zero + 1 : zero - px(count)).toFixed(1), height: Math.max(2, px(count)).toFixed(1) });
  // A date for about every seventh of the width, the last one included.
  const every = Math.max(1, Math.ceil(days.length / 6));
  const nodes = days.flatMap(({ label, up, down, title }, index) => {
    const column = svg("g", { class: "day" },
      svg("rect", { class: "whole", x: `${index * step}%`, width: `${step}%`, y: 0, height: HIGH }, words("title", {}, title)),
      bar(index, up, hues[0], false), hasDown && bar(index, down, hues[1], true));
    const named = (days.length - 1 - index) % every === 0;
    return [column, named && words("text", { class: "tick", x: `${(index + 0.5) * step}%`, y: HIGH + AXIS - 4 }, label)];
  });
  const lines = [top, top / 2].filter((value) => !hasDown || value === top).map((value) => svg("line", { class: "grid", x1: 0, x2: "100%", y1: zero - px(value), y2: zero - px(value) }));
  const axis = svg("line", { class: "axis", x1: 0, x2: "100%", y1: zero, y2: zero });
  const scale = words("text", { class: "scale", x: 2, y: zero - px(top) + 12 }, top.toLocaleString());
  const picture = svg("svg", { class: "bars", width: "100%", height: HIGH + AXIS, role: "img" }, ...lines, ...nodes, axis, scale);
  picture.ariaLabel = says;
  return picture;
}

function words(tag, attributes, text) {
  const node = svg(tag, attributes);
  node.textContent = text;
  return node;
}

/** A bar in a cell of a table: `share` of the whole width, and a lighter one up to `further`. */
export function cellBar(hue, share, further = 0) {
  const percent = (part) => `${(Math.min(1, part) * 100).toFixed(2)}%`;
  const picture = svg("svg", { class: "cell-bar", width: "100%", height: 14 },
    further > share && svg("rect", { class: "further", "data-stage": hue, "data-hue": hue, x: 0, y: 4, width: percent(further), height: 6, rx: 3 }),
    svg("rect", { "data-stage": hue, "data-hue": hue, x: 0, y: 1, width: percent(share > 0 ? Math.max(share, 0.006) : 0), height: 12, rx: 3 }));
  picture.ariaHidden = "true";
  return picture;
}

/** A table from its heads and rows; the first cell of each row names it. */
export function table(caption, heads, rows) {
  return h("table", {}, h("caption", { className: "unseen" }, caption),
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, typeof name === "string" ? outside("", name) : name), ...cells.map((cell) => h("td", {}, cell))))));
}
