// The page: the view that the user has chosen, its content, and the times at which it is read again.

import * as api from "./api.js";
import { detail } from "./detail.js";
import { element, inUse } from "./dom.js";
import { list } from "./list.js";
import { overview } from "./overview.js";
import { kindOf, listOf, parts, readNamespaces } from "./place.js";

// A list takes about 20 ms of an emulated node's processor.
const EVERY = 4000;
const KINDS_EVERY = 30000;

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
// The latest read: the result of an earlier one is outdated.
let turn = 0;

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
  const open = nav.querySelector("details")?.open;
  nav.replaceChildren(element("a", { href: "#/" }, "Overview"), ...groups,
    element("details", { open }, element("summary", {}, "More"), others.map(link)));
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

/** Shows that the view is up to date, or the error that keeps it from being so. */
function showState(error) {
  state.textContent = error ? "not up to date" : `as of ${new Date().toLocaleTimeString()}`;
  state.className = error ? "bad" : "";
  const notice = main.querySelector(".notice");
  if (!error) notice?.remove();
  else if (notice) notice.textContent = error.message;
  else main.prepend(element("p", { className: "notice", role: "alert" }, error.message));
}

/** Reads the view once, and again after a while as long as it is visible. */
async function read() {
  clearTimeout(timer);
  if (!view) return;
  const mine = ++turn;
  let error;
  try {
    const draw = await view.read();
    if (mine === turn) draw();
  } catch (caught) {
    error = caught;
  }
  if (mine !== turn) return;
  showState(error);
  timer = setTimeout(again, EVERY);
}

function again() {
  clearTimeout(timer);
  if (!view) return;
  if (document.hidden || inUse(view.place)) timer = setTimeout(again, EVERY);
  else read();
}

function show() {
  clearTimeout(timer);
  turn += 1;
  view = undefined;
  try {
    markNav();
    view = viewHere();
  } catch (error) {
    main.replaceChildren();
    showState(error);
    return;
  }
  document.title = `${view.title} · ${subject.profile}`;
  main.replaceChildren(...view.fixed, view.place);
  main.focus({ preventScroll: true });
  read();
  readNamespaces().catch(() => {});
}

/** Reads the cluster's name and its kinds of objects: users may have installed further kinds. */
async function readSubject() {
  const read = await api.subject();
  if (JSON.stringify(read) === JSON.stringify(subject)) return;
  subject = read;
  document.getElementById("subject").textContent =
    `${subject.profile} · Kubernetes ${subject.version}${subject.readOnly ? " · read only" : ""}`;
  drawNav();
  markNav();
}

async function begin() {
  await api.shareToken();
  try {
    await readSubject();
    await readNamespaces();
  } catch (error) {
    showState(error);
    setTimeout(begin, EVERY);
    return;
  }
  document.getElementById("namespace").addEventListener("change", show);
  window.addEventListener("hashchange", () => {
    // The address of another run of kubby on the same port.
    if (api.takeToken()) location.reload();
    else show();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
  setInterval(() => { if (!document.hidden) readSubject().catch(() => {}); }, KINDS_EVERY);
  show();
}

api.takeToken();
begin();
