// The page: where the user is, what is shown there, and when it is read again.

import * as api from "./api.js";
import { detail } from "./detail.js";
import { element, inUse } from "./dom.js";
import { list } from "./list.js";
import { overview } from "./overview.js";
import { kindOf, listOf, parts, readNamespaces } from "./place.js";

// A list costs an emulated node some 20 ms of its processor.
const EVERY = 4000;

const GROUPS = [
  ["Cluster", [["", "nodes"], ["", "namespaces"], ["", "events"]]],
  ["Workloads", [["", "pods"], ["apps", "deployments"], ["apps", "statefulsets"], ["apps", "daemonsets"],
    ["apps", "replicasets"], ["batch", "jobs"], ["batch", "cronjobs"]]],
  ["Network", [["", "services"], ["networking.k8s.io", "ingresses"], ["discovery.k8s.io", "endpointslices"],
    ["networking.k8s.io", "networkpolicies"]]],
  ["Storage", [["", "persistentvolumeclaims"], ["", "persistentvolumes"], ["storage.k8s.io", "storageclasses"]]],
  ["Configuration", [["", "configmaps"], ["", "secrets"], ["", "serviceaccounts"]]],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const state = document.getElementById("state");

let subject;
let view;
let timer;

function drawNav() {
  const link = (kind) => element("a", { href: listOf(kind) }, kind.kind);
  const known = new Set();
  const groups = GROUPS.flatMap(([title, members]) => {
    const kinds = members.map(([group, plural]) => kindOf(subject.kinds, group, plural)).filter(Boolean);
    kinds.forEach((kind) => known.add(kind));
    return [element("h2", {}, title), ...kinds.map(link)];
  });
  const others = subject.kinds.filter((kind) => !known.has(kind))
    .toSorted((a, b) => a.kind.localeCompare(b.kind));
  nav.replaceChildren(element("a", { href: "#/" }, "Overview"), ...groups,
    element("details", {}, element("summary", {}, "More"), others.map(link)));
}

function markNav() {
  const [what, group, plural] = parts();
  const here = what ? `#/list/${encodeURIComponent(group)}/${encodeURIComponent(plural)}` : "#/";
  for (const link of nav.querySelectorAll("a")) {
    if (link.getAttribute("href") === here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function viewHere() {
  const [what, group, plural, namespace, name] = parts();
  if (!what) return overview(subject.kinds);
  const kind = kindOf(subject.kinds, group, plural);
  if (!kind) throw new Error(`There is no kind ${plural} in this cluster.`);
  if (what === "list") return list(kind);
  const refresh = () => { read(); };
  return detail(kind, namespace === "-" ? undefined : namespace, name, { readOnly: subject.readOnly, refresh });
}

function told(error) {
  state.textContent = error ? "not up to date" : `as of ${new Date().toLocaleTimeString()}`;
  state.className = error ? "bad" : "";
}

/** Reads the view once, and again after a while as long as it is looked at. */
async function read() {
  clearTimeout(timer);
  const mine = view;
  try {
    await mine.read();
    if (mine !== view) return;
    told();
    main.querySelector(".notice")?.remove();
  } catch (error) {
    if (mine !== view) return;
    told(error);
    main.querySelector(".notice")?.remove();
    main.prepend(element("p", { className: "notice", role: "alert" }, error.message));
  }
  clearTimeout(timer);
  timer = setTimeout(again, EVERY);
}

function again() {
  if (document.hidden || inUse(view.place)) timer = setTimeout(again, EVERY);
  else read();
}

function show() {
  markNav();
  try {
    view = viewHere();
  } catch (error) {
    clearTimeout(timer);
    main.replaceChildren(element("p", { className: "notice", role: "alert" }, error.message));
    return;
  }
  document.title = `${view.title} · ${subject.profile}`;
  main.replaceChildren(...view.fixed, view.place);
  main.focus({ preventScroll: true });
  read();
  readNamespaces().catch(told);
}

async function begin() {
  api.takeToken();
  subject = await api.subject();
  document.getElementById("subject").textContent =
    `${subject.profile} · Kubernetes ${subject.version}${subject.readOnly ? " · read only" : ""}`;
  await readNamespaces();
  drawNav();
  document.getElementById("namespace").addEventListener("change", show);
  window.addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
  show();
}

begin().catch((error) => {
  main.replaceChildren(element("p", { className: "notice", role: "alert" }, error.message));
});
