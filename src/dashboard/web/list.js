// The list of all objects of a kind.

import * as api from "./api.js";
import { element, update } from "./dom.js";
import { named, namespace, pageOf } from "./place.js";
import { tableOf } from "./table.js";

/** Makes the view of a list: its fixed part, and the part that is read again; a read returns its drawing. */
export function list(kind) {
  const view = { filter: "", wide: false };
  const place = element("div");
  let data;
  const draw = () => {
    if (!data) return;
    const link = (row) => pageOf(kind, row.namespace, row.name);
    update(place, tableOf(data, view, { link, again: draw, places: kind.namespaced && !namespace() }));
  };
  const filter = element("input", {
    type: "search", placeholder: "Filter", "aria-label": "Filter",
    oninput: () => { view.filter = filter.value; draw(); },
  });
  const wide = element("input", {
    type: "checkbox", onchange: () => { view.wide = wide.checked; draw(); },
  });
  return {
    title: kind.kind,
    fixed: [
      element("h1", {}, kind.kind, " ", element("small", {}, kind.group || "")),
      element("div", { className: "bar" }, filter, element("label", {}, wide, " wide")),
    ],
    place,
    async read() {
      const where = kind.namespaced ? namespace() : undefined;
      const read = await api.table({ ...named(kind), namespace: where });
      return () => { data = read; draw(); };
    },
  };
}
