// Where the user is: the part of the address after `#`, and the namespace.

import * as api from "./api.js";

const encode = (parts) => parts.map(encodeURIComponent).join("/");

/** The address of a list of all of a kind. */
export const listOf = (kind) => `#/list/${encode([kind.group || "-", kind.plural])}`;

/** The address of one object. */
export const pageOf = (kind, namespace, name) =>
  `#/object/${encode([kind.group || "-", kind.plural, namespace || "-", name])}`;

/** What the address names, as a list of words. */
export const parts = () => location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);

/** The kind of a group and plural. */
export const kindOf = (kinds, group, plural) =>
  kinds.find((kind) => kind.group === (group === "-" ? "" : group) && kind.plural === plural);

/** What the API calls a kind. */
export const named = ({ group, version, plural }) => ({ group, version, plural });

const select = document.getElementById("namespace");

/** The namespace that lists are of; nothing for all. */
export const namespace = () => select.value || undefined;

/** Reads the namespaces that there are, and keeps the choice. */
export async function readNamespaces() {
  const chosen = select.value;
  const { rows } = await api.table({ version: "v1", plural: "namespaces" });
  const names = rows.map((row) => row.name);
  if (select.options.length === names.length + 1 && names.every((n, i) => select.options[i + 1].value === n)) {
    return;
  }
  select.replaceChildren(new Option("all", ""), ...names.map((name) => new Option(name, name)));
  select.value = names.includes(chosen) ? chosen : "";
}
