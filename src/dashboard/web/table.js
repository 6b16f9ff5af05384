// Tables as kubectl shows them.

import { element } from "./dom.js";

const GOOD = /^(Running|Ready|Active|Bound|Available|Complete|Completed|Succeeded|True|Normal)$/;
const SLOW = /^(Pending|ContainerCreating|PodInitializing|Terminating|Released|Suspended|Init:)/;
const BAD = /(Err|BackOff|Failed|Evicted|Unknown|OOMKilled|NotReady|Lost|Warning|Invalid)/;

/** Returns the class of a state in words, or of a count such as `1/2`. */
export function mood(column, text) {
  if (column === "Ready" && /^\d+\/\d+$/.test(text)) {
    const [there, all] = text.split("/");
    return there === all ? "good" : "slow";
  }
  if (!/^(Status|Phase|Type|Reason|Conditions)$/.test(column)) return "";
  if (GOOD.test(text)) return "good";
  if (BAD.test(text)) return "bad";
  return SLOW.test(text) ? "slow" : "";
}

/** Compares in the order that people expect: `pod-10` after `pod-9`, and ages by their length. */
const AGE = /^(?:(\d+)y)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/;
function seconds(text) {
  const found = text.match(AGE);
  if (!text || !found) return undefined;
  const [years, days, hours, minutes, rest] = found.slice(1).map((part) => Number(part ?? 0));
  return (((years * 365 + days) * 24 + hours) * 60 + minutes) * 60 + rest;
}

export function compare(a, b) {
  const [ages, words] = [[seconds(a), seconds(b)], [String(a), String(b)]];
  if (ages[0] !== undefined && ages[1] !== undefined) return ages[0] - ages[1];
  return words[0].localeCompare(words[1], undefined, { numeric: true });
}

/**
 * Makes a table. `view` keeps the user's choices: { sort, down, filter, wide }; `link(row)` is the
 * address of a row's object, if it has one; `places` shows the namespaces.
 */
export function tableOf(data, view, { link = () => undefined, places = false, again = () => {} } = {}) {
  const shown = data.columns.map((column, index) => ({ ...column, index }))
    .filter((column) => column.priority === 0 || view.wide);
  const columns = places ? [{ name: "Namespace", index: -1 }, ...shown] : shown;
  const text = (row, column) => String((column.index < 0 ? row.namespace : row.cells[column.index]) ?? "");
  const words = (view.filter ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  let rows = data.rows.filter((row) => {
    const all = columns.map((column) => text(row, column)).join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  });
  const by = columns.find((column) => column.name === view.sort);
  if (by) rows = rows.toSorted((a, b) => compare(text(a, by), text(b, by)) * (view.down ? -1 : 1));
  const head = columns.map((column) => element("th", {
    scope: "col",
    title: column.about,
    "aria-sort": column === by ? (view.down ? "descending" : "ascending") : undefined,
  }, element("button", {
    key: `by ${column.name}`,
    onclick: () => {
      view.down = view.sort === column.name && !view.down;
      view.sort = column.name;
      again();
    },
  }, column.name, column === by ? (view.down ? " ↓" : " ↑") : "")));
  const body = rows.map((row) => element("tr", {}, columns.map((column) => {
    const words = text(row, column);
    const address = column.name === "Name" ? link(row) : undefined;
    const content = address ? element("a", { href: address }, words) : words;
    return element("td", { className: mood(column.name, words) }, content);
  })));
  if (!rows.length) {
    body.push(element("tr", {}, element("td", { colSpan: columns.length, className: "faint" }, "None.")));
  }
  const more = data.cut
    ? element("p", { className: "faint" }, data.more ? `And ${data.more} more.` : "And more that are not shown.")
    : undefined;
  return element("div", { className: "scroll" },
    element("table", {}, element("thead", {}, element("tr", {}, head)), element("tbody", {}, body)), more);
}
