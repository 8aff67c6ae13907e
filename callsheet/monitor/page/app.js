// What the page knows, and how frames change it.
//
// Rule: a frame replaces values, it never adds to them, so frames may be skipped; the clock is the server's.
// Not here: the connection (feed.js), the elements (view.js).

import { Feed, keepToken, tokenIn } from "/feed.js";
import { View } from "/view.js";

const MAX_RUNS = 1_000; // kept; those that ended longest ago go first
const RATE_WINDOW_US = 10_000_000;

const model = {
  welcome: null,
  stats: null,
  tree: null,
  parked: new Set(), // tasks whose supervisor gave up: "jobs/task"
  queues: [],
  schedules: { ahead_us: 0, more: 0, rows: [] },
  runs: new Map(),
  changes: 0, // counts run rows that changed
  offsetUs: 0, // the server's clock minus ours
  heardUs: null,
  ended: [], // [server time, runs ended] for the rate
  get nowUs() {
    return Date.now() * 1_000 + this.offsetUs;
  },
  get perSecond() {
    const [first, last] = [this.ended[0], this.ended.at(-1)];
    return first && last[0] - first[0] > 1_000_000 ? ((last[1] - first[1]) * 1e6) / (last[0] - first[0]) : null;
  },
};

function apply(frame) {
  if (frame.now_us) {
    model.offsetUs = frame.now_us - Date.now() * 1_000;
    model.heardUs = frame.now_us;
  }
  if (frame.type === "welcome") {
    if (model.welcome?.boot !== frame.boot) model.ended = [];
    model.welcome = frame;
  }
  if (frame.type === "snapshot") model.runs = new Map();
  if (frame.stats) {
    model.stats = frame.stats;
    const { succeeded, dead_lettered, canceled } = frame.stats;
    model.ended.push([frame.now_us, succeeded + dead_lettered + canceled]);
  } else if (frame.now_us && model.ended.length) {
    model.ended.push([frame.now_us, model.ended.at(-1)[1]]);
  }
  while (model.ended.length > 2 && model.ended[1][0] < frame.now_us - RATE_WINDOW_US) model.ended.shift();
  if (frame.tree) {
    model.tree = frame.tree;
    model.parked = new Set(parkedIn(frame.tree, ""));
  }
  if (frame.queues) model.queues = frame.queues;
  if (frame.schedules) model.schedules = frame.schedules;
  for (const run of frame.runs ?? []) {
    model.runs.set(run.id, run);
    model.changes++;
  }
  if (model.runs.size > MAX_RUNS) forgetSome();
  view.schedule();
}

function* parkedIn(node, above) {
  if (node.kind === "task" && node.state === "parked") yield `${above}/${node.name}`;
  for (const each of node.children) yield* parkedIn(each, node.name);
}

function forgetSome() {
  const age = (run) => (run.ended_us === null ? Infinity : run.ended_us);
  const oldest = [...model.runs.values()].sort((a, b) => age(a) - age(b));
  for (const run of oldest.slice(0, model.runs.size - MAX_RUNS)) model.runs.delete(run.id);
}

const feed = new Feed(apply, (state) => view.showLink(state));

const view = new View(model, {
  isLive: () => feed.isLive,
  retry: () => feed.start(),
  login: (text) => {
    keepToken(tokenIn(text));
    feed.start();
  },
  show: (runId) => feed.order("show", { run_id: runId }),
  cancel: (runId) => feed.order("cancel", { run_id: runId }),
  replay: (runId) => feed.order("replay", { run_id: runId }),
  schedule: (order, { jobs, key }) => feed.order(order, { jobs, key }),
});

addEventListener("hashchange", () => location.hash.includes("token=") && location.reload());
feed.start();
