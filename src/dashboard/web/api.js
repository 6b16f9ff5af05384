// What the page asks kubby, with the token that only it has.

const KEPT = "kubby-token";

/**
 * Takes the token out of the address, where a bookmark or a look over the shoulder would find it.
 * What follows it is where on the page to begin.
 */
export function takeToken() {
  const given = location.hash.match(/^#token=([0-9a-f]+)(\/.*)?$/);
  if (given) {
    sessionStorage.setItem(KEPT, given[1]);
    history.replaceState(null, "", `#${given[2] ?? "/"}`);
  }
  return Boolean(given);
}

const others = new BroadcastChannel(KEPT);

/** Tells it to tabs of the same page that were opened without it, and asks those that have it. */
export function shareToken() {
  const own = () => sessionStorage.getItem(KEPT);
  return new Promise((done) => {
    others.onmessage = ({ data }) => {
      if (data === "?" && own()) others.postMessage(own());
      else if (data !== "?" && !own()) sessionStorage.setItem(KEPT, data);
      if (own()) done();
    };
    if (own()) done();
    else others.postMessage("?");
    setTimeout(done, 500);
  });
}

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEPT) ?? ""}`, ...options.headers };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("kubby does not serve this page any more: run `kubby dashboard` again");
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.message ?? `HTTP ${response.status}`);
  }
  return response;
}

function query(path, fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  return `${path}?${new URLSearchParams(given)}`;
}

export const subject = async () => (await ask("/api/subject")).json();
export const table = async (kinds) => (await ask(query("/api/table", kinds))).json();
export const events = async (asked) => (await ask(query("/api/events", asked))).json();
export const object = async (object) => (await ask(query("/api/object", object))).json();
export const log = async (whose) => (await ask(query("/api/log", whose))).text();

export async function change(what) {
  const headers = { "Content-Type": "application/json" };
  await ask("/api/change", { method: "POST", headers, body: JSON.stringify(what) });
}
