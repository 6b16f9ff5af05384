// The page's requests to kubby, with the token that only the page has.

const KEPT = "kubby-token";

/**
 * Removes the token from the address, where a bookmark or another person would find it. The part
 * behind it is the view to begin with.
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

/** Shares the token with tabs of the same page: sends it to those without one, and asks the others. */
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
    throw new Error("kubby no longer serves this page: run `kubby dashboard` again");
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
export const log = async (which) => (await ask(query("/api/log", which))).text();

export async function change(what) {
  const headers = { "Content-Type": "application/json" };
  await ask("/api/change", { method: "POST", headers, body: JSON.stringify(what) });
}
