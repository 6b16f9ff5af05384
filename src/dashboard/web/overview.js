// The first view: the state of the whole cluster.

import * as api from "./api.js";
import { element, update } from "./dom.js";
import { kindOf, listOf, namespace, pageOf } from "./place.js";
import { mood, tableOf } from "./table.js";

const COUNTED = [
  ["", "pods", "Pods"],
  ["apps", "deployments", "Deployments"],
  ["apps", "statefulsets", "StatefulSets"],
  ["apps", "daemonsets", "DaemonSets"],
  ["batch", "jobs", "Jobs"],
  ["", "services", "Services"],
  ["", "persistentvolumeclaims", "Volume claims"],
];

const cell = (data, row, name) => {
  const index = data.columns.findIndex((column) => column.name === name);
  return index < 0 ? "" : String(row.cells[index]);
};

/** Returns the problem in a row, in a word. */
function wrong(data, row) {
  const status = cell(data, row, "Status");
  if (status === "Completed") return "";
  if (["slow", "bad"].includes(mood("Status", status))) return status;
  const [desired, ready] = [cell(data, row, "Desired"), cell(data, row, "Ready")];
  const behind = desired !== "" && Number(ready) < Number(desired);
  return behind || mood("Ready", ready) === "slow" ? "not ready" : "";
}

/** Counts the rows in each state that is not the good one. */
function summary(data) {
  const odd = new Map();
  for (const row of data.rows) {
    const words = wrong(data, row);
    if (words) odd.set(words, (odd.get(words) ?? 0) + 1);
  }
  return [...odd].map(([words, count]) => `${count} ${words}`).join(", ");
}

export function overview(kinds) {
  const place = element("div");
  const node = kindOf(kinds, "", "nodes");
  const [nodeView, warningView] = [{}, { sort: "Last Seen" }];
  return {
    title: "Overview",
    fixed: [element("h1", {}, "Overview")],
    place,
    async read() {
      const where = namespace();
      const counted = COUNTED.map(([group, plural, title]) => [kindOf(kinds, group, plural), title])
        .filter(([kind]) => kind);
      const [nodes, warnings, ...tables] = await Promise.all([
        api.table({ version: "v1", plural: "nodes" }),
        api.events({ namespace: where }),
        ...counted.map(([{ group, version, plural }]) =>
          api.table({ group, version, plural, namespace: where })),
      ]);
      const cards = tables.map((data, index) => {
        const [kind, title] = counted[index];
        const odd = summary(data);
        const well = data.rows.length ? "all well" : "none";
        return element("a", { className: "card", href: listOf(kind) },
          element("b", {}, `${data.rows.length + (data.more ?? 0)}${data.cut && !data.more ? "+" : ""}`), title,
          element("div", { className: odd ? "slow" : "faint" }, odd || well));
      });
      const draw = () => update(place,
        tableOf(nodes, nodeView, { again: draw, link: (row) => pageOf(node, "", row.name) }),
        element("h3", {}, "Objects"), element("div", { className: "cards" }, cards),
        element("h3", {}, "Warnings"), tableOf(warnings, warningView, { again: draw, places: !where }));
      return draw;
    },
  };
}
