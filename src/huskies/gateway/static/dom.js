// The few tools with which all views draw. Text from outside enters the page as text nodes only, never as markup.

import { format } from "./routes.js";

export const $ = (id) => document.getElementById(id);

export function h(tag, props, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return node;
}

const DRAWN = new Set(["class", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "rx", "role", "data-stage", "data-hue"]);

/** A node of a picture. Only what a picture is drawn with can be set: nothing that runs, loads or styles. */
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (!DRAWN.has(name)) throw new Error(`a picture has no ${name}`);
    node.setAttribute(name, value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

/** Text from outside, isolated so that its writing direction stays its own. */
export const outside = (className, text) => h("bdi", { className }, text);

/** A link to one of this page's own views. */
export const link = (route, props, ...children) => h("a", { ...props, href: format(route) }, ...children);

/** A link to an address that someone wrote into a file: only ever to a page, whatever stands there. */
export function linkOut(url, props, ...children) {
  const safe = URL.canParse(url ?? "") && /^https?:$/.test(new URL(url).protocol);
  return safe ? h("a", { ...props, href: url, rel: "noopener noreferrer" }, ...children) : null;
}

/** Make these the children, touching only what differs: what stays keeps its focus and its scrolling. */
export function place(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
}

/** The nodes for these items, made once for each key and kept in `known`. */
export function keyed(known, items, keyOf, make) {
  const keys = new Set(items.map(keyOf));
  for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
  return items.map((item) => {
    const key = keyOf(item);
    if (!known.has(key)) known.set(key, make(item));
    return known.get(key);
  });
}

// Setting the same text again would make screen readers and the browser's layout work for nothing.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// An attribute that is set again, as it was, has the browser look at all that a style could follow from it.

/** Say it to the style sheet. */
export function mark(node, name, value) {
  if (node.dataset[name] !== String(value)) node.dataset[name] = value;
}

export function hide(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

export const plural = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** Whether movement is wanted at all. */
export const calm = matchMedia("(prefers-reduced-motion: reduce)");
