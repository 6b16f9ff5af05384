// The chosen view: the part of the address after `#`, and the namespace.

import * as api from "./api.js";

const encode = (parts) => parts.map(encodeURIComponent).join("/");

/** Returns the address of the list of a kind. */
export const listOf = (kind) => `#/list/${encode([kind.group || "-", kind.plural])}`;

/** Returns the address of one object. */
export const pageOf = (kind, namespace, name) =>
  `#/object/${encode([kind.group || "-", kind.plural, namespace || "-", name])}`;

/** Returns the parts of the address. */
export const parts = () => location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);

/** Returns the kind of a group and plural. */
export const kindOf = (kinds, group, plural) =>
  kinds.find((kind) => kind.group === (group === "-" ? "" : group) && kind.plural === plural);

/** Returns a kind's names in the API. */
export const named = ({ group, version, plural }) => ({ group, version, plural });

const select = document.getElementById("namespace");

/** The namespace of the lists; empty for all. */
export const namespace = () => select.value || undefined;

/** Reads the namespaces of the cluster, and keeps the choice. */
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
