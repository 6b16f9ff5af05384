// One object: its text, its events, its logs, and its possible changes.

import * as api from "./api.js";
import { confirmed } from "./dialog.js";
import { element, update } from "./dom.js";
import { listOf, named } from "./place.js";
import { tableOf } from "./table.js";

export function detail(kind, namespace, name, { readOnly, refresh }) {
  const object = { ...named(kind), namespace, name };
  const tabs = element("div", { className: "bar tabs", role: "tablist" });
  const buttons = element("div", { className: "bar" });
  const place = element("div");
  let tab = "YAML";
  let seen;
  let container;
  let previous = false;
  const eventView = { sort: "Last Seen" };

  const act = async (what, words, fields) => {
    const here = location.hash;
    const answer = await confirmed(words, fields);
    if (!answer) return;
    await api.change({ ...object, ...what, ...answer });
    // A user who has opened another view meanwhile stays there.
    if (location.hash !== here) return;
    if (what.action === "delete") location.hash = listOf(kind).slice(1);
    else refresh();
  };
  const button = (label, className, todo) => element("button", {
    className,
    onclick: () => todo().catch((error) => confirmed(error.message)),
  }, label);

  function drawFixed() {
    const names = ["YAML", "Events", ...(seen.kind === "Pod" ? ["Logs"] : [])];
    tabs.replaceChildren(...names.map((label) => element("button", {
      role: "tab", "aria-selected": String(label === tab),
      onclick: () => { tab = label; place.replaceChildren(); drawFixed(); refresh(); },
    }, label)));
    if (tab === "Logs") {
      container ??= seen.container;
      const select = element("select", {
        "aria-label": "Container",
        onchange: () => { container = select.value; refresh(); },
      }, seen.containers.map((each) => new Option(each, each)));
      select.value = container;
      const before = element("input", {
        type: "checkbox", checked: previous,
        onchange: () => { previous = before.checked; refresh(); },
      });
      tabs.append(select, element("label", {}, before, " the one before"));
    }
    if (readOnly) return;
    const can = [];
    if (kind.scalable) {
      const now = seen.replicas ?? 1;
      can.push(button("Scale", "", () => act({ action: "scale" }, `How many replicas of ${name}?`, { replicas: now })));
    }
    if (seen.restartable) {
      can.push(button("Restart", "", () => act({ action: "restart" }, `Replace the pods of ${name}, one after the other?`)));
    }
    if (kind.deletable) {
      can.push(button("Delete", "danger", () => act({ action: "delete" }, `Delete ${kind.kind} ${name}?`)));
    }
    buttons.replaceChildren(...can);
  }

  return {
    title: name,
    fixed: [
      element("h1", {}, name, " ", element("small", {}, kind.kind, namespace ? ` in ${namespace}` : "")),
      buttons, tabs,
    ],
    place,
    async read() {
      const at = tab;
      const read = await api.object(object);
      let shown;
      if (at === "YAML") {
        shown = () => update(place, element("pre", {}, read.yaml));
      } else if (at === "Events") {
        const events = await api.events({ namespace, uid: read.uid });
        shown = () => update(place, tableOf(events, eventView, { again: shown }));
      } else {
        const whose = { namespace, pod: name, container, previous };
        const text = await api.log(whose).catch((error) => error.message);
        shown = () => update(place, element("pre", { "data-follow": "" }, text || "(nothing)"));
      }
      return () => {
        const changed = seen?.replicas !== read.replicas || !seen;
        seen = read;
        if (changed) drawFixed();
        shown();
      };
    },
  };
}
