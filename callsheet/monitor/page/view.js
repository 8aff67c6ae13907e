// Everything on the page but the table of runs, the schedules and the drawer: state of the link, totals, tree, queues, results.

import { STATUSES, age, byId, count, el, label, number, reconcile, setAttr, setText, short } from "/dom.js";
import { Drawer } from "/drawer.js";
import { Schedules } from "/schedules.js";
import { Table } from "/table.js";

const RENDER_MS = 200; // between two renderings: faster than this nobody reads
const TOAST_MS = 12_000;
const LOUD = new Set(["parked", "zombie", "down"]); // states that somebody should look at

export class View {
  constructor(model, actions) {
    this.model = model;
    this.actions = actions;
    this.tiles = new Map();
    this.nodes = new Map();
    this.queues = new Map();
    this.closed = new Set(); // paths of branches that are folded
    this.renderedMs = 0;
    const changed = () => this.schedule();
    const steer = {
      changed,
      maySteer: (run) => actions.isLive() && model.welcome.jobs.includes(run.jobs),
      open: (id) => this.drawer.open(id),
      show: actions.show,
      cancel: (run) => this.steer(run, "cancel"),
      replay: (run) => this.steer(run, "replay"),
    };
    this.table = new Table(model, steer);
    this.drawer = new Drawer(model, steer);
    this.schedules = new Schedules(model, {
      changed,
      isLive: actions.isLive,
      open: steer.open,
      schedule: actions.schedule,
      toast: (...said) => this.toast(...said),
    });
    byId("retry").addEventListener("click", () => actions.retry());
    byId("login").addEventListener("submit", (event) => {
      event.preventDefault();
      actions.login(byId("login-token").value);
    });
    document.addEventListener("visibilitychange", changed);
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !["INPUT", "TEXTAREA"].includes(event.target.tagName)) {
        event.preventDefault();
        byId("search").focus();
      }
    });
    setInterval(changed, 1_000); // ages
  }

  schedule() {
    if (this.timer || document.hidden) return;
    const wait = Math.max(0, RENDER_MS - (performance.now() - this.renderedMs));
    this.timer = setTimeout(() => {
      this.timer = null;
      this.renderedMs = performance.now();
      this.render();
    }, wait);
  }

  render() {
    if (!this.model.stats) return;
    this.renderHeader();
    this.renderStats();
    this.renderTree();
    this.renderQueues();
    this.schedules.render();
    this.table.render();
    this.drawer.render();
  }

  // -- the link

  showLink(state) {
    const { heardUs, nowUs } = this.model;
    const old = heardUs === null ? "" : `, this is ${age(nowUs - heardUs)} old`;
    const seconds = Math.ceil(((state.untilMs ?? 0) - performance.now()) / 1_000);
    const texts = {
      connecting: "Connecting",
      live: "Live",
      stale: `No news${old}`,
      waiting: `Not connected${old}; next try ${seconds > 0 ? `in ${seconds} s` : "now"}`,
      refused: "Not signed in",
    };
    setAttr(byId("link"), "data-state", state.name);
    setText(byId("link-text"), texts[state.name]);
    byId("retry").hidden = state.name !== "waiting";
    byId("login").hidden = state.name !== "refused";
    byId("main").hidden = !this.model.stats;
    document.body.classList.toggle("old", state.name !== "live" && this.model.stats !== null);
    if (state.why) setText(document.querySelector("#login h1"), state.why);
    this.schedule();
  }

  renderHeader() {
    const { welcome, stats } = this.model;
    byId("main").hidden = false;
    setText(byId("jobs"), welcome.jobs.join(", "));
    const up = age(this.model.nowUs - welcome.started_us);
    const facts = [`boot ${welcome.boot}`, `pid ${welcome.pid} on ${welcome.host}`, `up ${up}`, welcome.store];
    setText(byId("runtime"), facts.join(" · "));
    setAttr(byId("runtime"), "title", `callsheet ${welcome.version}, ${facts.join(", ")}`);
    document.title = [`${stats.running} running`, ...welcome.jobs.slice(0, 1), "callsheet"].join(" · ");
  }

  renderStats() {
    const make = (status) => {
      const n = el("b");
      const filter = () => this.table.filter(this.table.status === status ? null : status);
      const node = el("button", { class: `stat ${status}`, type: "button", onclick: filter }, n, el("span", { text: label(status) }));
      return { node, n };
    };
    reconcile(byId("stats"), this.tiles, STATUSES, make, (tile, status) => {
      setText(tile.n, number(this.model.stats[status]));
      setAttr(tile.node, "aria-pressed", String(this.table.status === status));
      tile.node.classList.toggle("zero", this.model.stats[status] === 0);
    });
  }

  // -- the tree

  renderTree() {
    const rows = [];
    const walk = (node, path, depth) => {
      rows.push({ node, path, depth });
      if (!this.closed.has(path)) for (const each of node.children) walk(each, `${path}/${each.name}`, depth + 1);
      if (!this.closed.has(path) && node.hidden) rows.push({ hidden: node.hidden, path: `${path}/ more`, depth: depth + 1 });
    };
    walk(this.model.tree, "", 0);
    const byPath = new Map(rows.map((row) => [row.path, row]));
    reconcile(byId("tree"), this.nodes, [...byPath.keys()], (path) => this.makeNode(path), (entry, path) =>
      this.updateNode(entry, byPath.get(path)),
    );
    const loud = rows.filter(({ node }) => node && LOUD.has(node.state)).length;
    setText(byId("tree-note"), loud ? `${loud} need${loud === 1 ? "s" : ""} attention` : "");
  }

  makeNode(path) {
    const toggle = () => {
      if (!this.closed.delete(path)) this.closed.add(path);
      this.schedule();
    };
    const entry = {
      fold: el("button", { class: "fold", type: "button", onclick: toggle }),
      lamp: el("i", { class: "lamp", role: "img" }),
      name: el("span", { class: "name" }),
      kind: el("span", { class: "kind" }),
      facts: el("span", { class: "facts" }),
      why: el("div", { class: "why" }),
    };
    entry.node = el("li", {}, el("div", { class: "line" }, entry.fold, entry.lamp, entry.name, entry.kind, entry.facts), entry.why);
    return entry;
  }

  updateNode(entry, { node, hidden, path, depth }) {
    entry.node.style.setProperty("--depth", depth);
    if (hidden) {
      setText(entry.name, `${number(hidden)} more`);
      entry.fold.hidden = true;
      return;
    }
    const isOpen = !this.closed.has(path);
    entry.fold.hidden = node.children.length === 0;
    setAttr(entry.fold, "aria-expanded", String(isOpen));
    setAttr(entry.fold, "aria-label", `${isOpen ? "Fold" : "Unfold"} ${node.name}`);
    setAttr(entry.lamp, "data-state", node.state);
    setAttr(entry.lamp, "title", node.state);
    setAttr(entry.lamp, "aria-label", node.state);
    setText(entry.name, node.name);
    setAttr(entry.name, "title", path || "/");
    setText(entry.kind, node.kind === node.name ? "" : node.kind);
    const isLoud = LOUD.has(node.state);
    const restarts = node.restarts ? count(node.restarts, "restart") : "";
    const facts = [];
    if (node.on_stage) facts.push(`${number(node.on_stage)} on stage`);
    if (node.waiting) facts.push(`${number(node.waiting)} msg`);
    if (restarts && !isLoud) facts.push(restarts);
    if (node.state !== "running") facts.unshift(node.state);
    setText(entry.facts, facts.join(" · "));
    setText(entry.why, isLoud ? [restarts && `after ${restarts}`, node.why].filter(Boolean).join(": ") : "");
    setAttr(entry.node, "class", isLoud ? "loud" : "");
  }

  // -- the queues

  renderQueues() {
    const byName = new Map(this.model.queues.map((queue) => [queue.queue, queue]));
    const make = () => {
      const entry = {
        name: el("span", { class: "name" }),
        slots: el("span", { class: "facts" }),
        bar: el("div", { class: "slots", role: "meter", "aria-valuemin": "0" }, el("i")),
        waits: el("div", { class: "muted" }),
      };
      entry.node = el("li", {}, el("div", { class: "line" }, entry.name, entry.slots), entry.bar, entry.waits);
      return entry;
    };
    reconcile(byId("queues"), this.queues, [...byName.keys()], make, (entry, name) => {
      const queue = byName.get(name);
      setText(entry.name, name);
      setText(entry.slots, `${queue.paused ? "paused · " : ""}${number(queue.on_stage)} of ${number(queue.limit)} slots`);
      setAttr(entry.bar, "aria-label", `slots of ${name} in use`);
      setAttr(entry.bar, "aria-valuemax", String(queue.limit));
      setAttr(entry.bar, "aria-valuenow", String(queue.on_stage));
      entry.bar.style.setProperty("--used", Math.min(1, queue.on_stage / queue.limit));
      entry.bar.style.setProperty("--slots", queue.limit);
      entry.bar.classList.toggle("fine", queue.limit > 40);
      entry.bar.classList.toggle("full", queue.on_stage >= queue.limit);
      const waits = ["queued", "retrying", "scheduled"].filter((status) => queue[status]);
      setText(entry.waits, waits.map((status) => `${number(queue[status])} ${status}`).join(" · ") || "nothing waits");
    });
  }

  // -- steering

  async steer(run, what) {
    try {
      const result = await this.actions[what](run.id);
      if (what === "replay") this.toast("good", `Replayed ${short(run.id)} as `, result.run_id);
      else if (result.canceled) this.toast("good", "Canceled ", run.id);
      else this.toast("", `It had ended as ${label(result.status)} already: `, run.id);
    } catch (error) {
      this.toast("bad", `${what === "replay" ? "Not replayed" : "Not canceled"}: ${error.message}. `, run.id);
    }
  }

  toast(mood, text, runId = null) {
    const show = () => this.drawer.open(runId);
    const open = runId && el("button", { class: "id", type: "button", text: short(runId), title: runId, onclick: show });
    const node = el("div", { class: `toast ${mood}` }, el("span", { text }), open);
    byId("toasts").append(node);
    while (byId("toasts").children.length > 4) byId("toasts").firstElementChild.remove();
    setTimeout(() => node.remove(), TOAST_MS);
  }
}
