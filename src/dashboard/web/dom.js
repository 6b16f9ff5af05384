// Elements from names in a cluster: whatever they hold, they become text.

/** An element with properties, `on…` listeners and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return made;
}

/** Whether somebody marks text in it or types in it: then it must not be replaced. */
export function inUse(place) {
  const marked = document.getSelection();
  if (marked && !marked.isCollapsed && place.contains(marked.anchorNode)) return true;
  return place.contains(document.activeElement) && document.activeElement.matches("input, select");
}
