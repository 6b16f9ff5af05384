// Elements from names in a cluster, which become text whatever they contain.

/** Makes an element with properties, `on…` listeners and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "key") made.dataset.key = value;
    else if (key in made && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return made;
}

/** Returns whether the user has selected text in it, so that it cannot be replaced. */
export function inUse(place) {
  const marked = document.getSelection();
  return Boolean(marked && !marked.isCollapsed && place.contains(marked.anchorNode));
}

/** Returns the key by which an element is found again after it was recreated. */
const keyOf = (node) => node.dataset?.key ?? node.getAttribute?.("href");

const scrolling = (place) => [...place.querySelectorAll("pre, .scroll")];

/** Replaces the children, unless they are the same, and keeps scroll positions and the focus. */
export function update(place, ...children) {
  const next = element("div", {}, ...children);
  const same = (old, index) => old.isEqualNode(next.children[index]);
  if (place.children.length === next.children.length && [...place.children].every(same)) return;
  const focused = place.contains(document.activeElement) ? keyOf(document.activeElement) : undefined;
  const scrolled = scrolling(place).map((node) => {
    const atEnd = node.scrollTop + node.clientHeight >= node.scrollHeight - 4 && node.scrollTop > 0;
    return [node.scrollLeft, node.scrollTop, atEnd];
  });
  place.replaceChildren(...next.children);
  scrolling(place).forEach((node, index) => {
    const [left, top, atEnd] = scrolled[index] ?? [0, 0, node.dataset.follow !== undefined];
    node.scrollLeft = left;
    node.scrollTop = atEnd && node.dataset.follow !== undefined ? node.scrollHeight : top;
  });
  if (focused) [...place.querySelectorAll("a, button")].find((node) => keyOf(node) === focused)?.focus();
}
