// The question before a change.

import { element } from "./dom.js";

/**
 * Asks, with a field for each number in `fields`. Returns the entered numbers, or nothing when the
 * user has cancelled.
 */
export function confirmed(words, fields = {}) {
  const dialog = document.getElementById("dialog");
  const inputs = Object.entries(fields).map(([name, value]) => element("input", {
    type: "number", name, value: String(value), min: "0", max: "1000", required: true, "aria-label": name,
  }));
  const answer = new Promise((resolve) => {
    dialog.onclose = () => {
      const entered = inputs.map((input) => [input.name, Number(input.value)]);
      resolve(dialog.returnValue === "yes" ? Object.fromEntries(entered) : undefined);
    };
  });
  // Of type "button", since Enter presses the first one of another type.
  const cancel = element("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel");
  const form = element("form", { method: "dialog" },
    element("p", {}, words), inputs,
    element("div", { className: "bar" }, cancel, element("button", { value: "yes" }, "OK")));
  dialog.returnValue = "no";
  dialog.replaceChildren(form);
  dialog.showModal();
  (inputs[0] ?? cancel).focus();
  return answer;
}
