// Elements and texts.
//
// Rule: whatever came from the server is put in as text, never as markup; there is no other way into the document here.

export const STATUSES = ["running", "queued", "scheduled", "retrying", "succeeded", "dead_lettered", "canceled"];
export const FINAL = new Set(["succeeded", "dead_lettered", "canceled"]);

export const byId = (id) => document.getElementById(id);

/** A new element. `props`: class, title, text, and on… handlers; everything else is an attribute. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Changes the text only when it differs: a selection in it survives. */
export function setText(node, text) {
  const wanted = String(text ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

export function setAttr(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export const label = (status) => status.replace("_", " ");

export function setBadge(node, status) {
  setAttr(node, "class", `badge ${status}`);
  setText(node, label(status));
}

export const badge = (status) => {
  const node = el("span");
  setBadge(node, status);
  return node;
};

/**
 * Makes the children of `parent` those of `keys`, in order, each made once and updated each time. An element that
 * stays where it is is not touched, so it keeps its focus. `cache`: a Map of the caller.
 */
export function reconcile(parent, cache, keys, make, update) {
  const wanted = new Set(keys);
  for (const [key, entry] of cache) {
    if (!wanted.has(key)) {
      entry.node.remove();
      cache.delete(key);
    }
  }
  let next = parent.firstElementChild;
  for (const key of keys) {
    let entry = cache.get(key);
    if (!entry) cache.set(key, (entry = make(key)));
    update(entry, key);
    if (entry.node === next) next = next.nextElementSibling;
    else parent.insertBefore(entry.node, next);
  }
}

const UNITS = [["d", 86_400], ["h", 3_600], ["min", 60]];

/** A span in its two largest units: 840 ms, 1.4 s, 12 s, 3 min 5 s, 2 d 4 h. */
export function span(us) {
  if (us < 1_000_000) return `${Math.max(0, Math.round(us / 1_000))} ms`;
  if (us < 10_000_000) return `${(us / 1_000_000).toFixed(1)} s`;
  let rest = Math.floor(us / 1_000_000);
  const parts = [];
  for (const [unit, seconds] of UNITS) {
    if (rest >= seconds) parts.push(`${Math.floor(rest / seconds)} ${unit}`);
    rest %= seconds;
  }
  if (rest || !parts.length) parts.push(`${rest} s`);
  return parts.slice(0, 2).join(" ");
}

/** As `span`, for what ticks: nothing below a second. */
export const age = (us) => (us < 10_000_000 ? `${Math.max(0, Math.floor(us / 1_000_000))} s` : span(us));

/** A time of day, with its date when that is not today. */
export function clock(us) {
  const at = new Date(us / 1_000);
  const today = at.toDateString() === new Date().toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

export const number = (n) => n.toLocaleString("en");
export const count = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;

/** The end of an id, which differs between neighbours; the whole of a short one. */
export const short = (id) => (id.length <= 12 ? id : `…${id.slice(-8)}`);

/** Why a run is where it is, in one line. */
export function why(run) {
  const parts = [];
  if (run.stuck) parts.push("stuck: it was told to stop, and goes on");
  if (run.error) parts.push(run.error);
  if (run.cause && !(run.error && (run.cause === "failed" || run.error.endsWith(run.cause)))) parts.push(run.cause);
  if (run.replay_of) parts.push(`replay of ${short(run.replay_of)}`);
  return parts.join(" · ");
}
