// The table of runs.
//
// Rule: newest first, and nothing moves under a pointer: while it is over the rows, or the keyboard in them, rows are
// neither added nor removed, only their contents follow; paused, nothing changes at all.

import { FINAL, age, badge, byId, clock, count, el, label, number, reconcile, setAttr, setBadge, setText, short, why } from "/dom.js";

const WAITING = new Set(["queued", "scheduled", "retrying"]);
const MAX_ROWS = 300; // in the document at once; the filter finds the rest

export class Table {
  constructor(model, actions) {
    this.model = model;
    this.actions = actions;
    this.status = null;
    this.text = "";
    this.paused = false;
    this.hovered = false;
    this.shown = [];
    this.entries = new Map();
    this.busy = new Map(); // run id → what was asked of it
    this.body = byId("rows");
    this.body.addEventListener("pointerenter", () => this.hover(true));
    this.body.addEventListener("pointerleave", () => this.hover(false));
    this.body.addEventListener("focusout", () => this.actions.changed());
    byId("search").addEventListener("input", (event) => this.filter(this.status, event.target.value));
    byId("pause").addEventListener("click", () => this.pause(!this.paused));
  }

  hover(on) {
    this.hovered = on;
    this.actions.changed();
  }

  pause(on) {
    this.paused = on;
    this.pausedAt = this.model.changes;
    byId("pause").setAttribute("aria-pressed", String(on));
    setText(byId("pause"), on ? "Resume" : "Pause");
    this.actions.changed();
  }

  filter(status, text = this.text) {
    this.status = status;
    this.text = text;
    this.fresh = true; // whoever filters wants to see it, wherever the pointer is
    this.actions.changed();
  }

  get isHeld() {
    return this.hovered || this.body.querySelector(":focus-visible") !== null;
  }

  wanted() {
    const text = this.text.trim().toLowerCase();
    const matches = (run) =>
      (!this.status || run.status === this.status) &&
      (!text || [run.id, run.task, run.queue, run.status, why(run)].some((each) => each.toLowerCase().includes(text)));
    const found = [...this.model.runs.values()].filter(matches);
    return found.sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, MAX_ROWS).map((run) => run.id);
  }

  render() {
    const wanted = this.wanted();
    const frozen = !this.fresh && (this.paused || this.isHeld);
    let news = 0;
    if (frozen) {
      const shown = new Set(this.shown);
      news = wanted.filter((id) => !shown.has(id)).length;
    } else {
      this.shown = wanted;
    }
    this.showHeld(news);
    if (this.paused && !this.fresh) {
      this.entries.forEach((entry) => this.tick(entry));
    } else {
      reconcile(this.body, this.entries, this.shown, (id) => this.make(id), (entry, id) => this.update(entry, id));
    }
    this.fresh = false;
    this.showNote();
  }

  showHeld(news) {
    const bar = byId("held");
    const changes = this.model.changes - this.pausedAt;
    if (this.paused) setText(bar, `${count(changes, "change")} since`);
    else setText(bar, `${number(news)} new when you leave the table`);
    bar.hidden = !(this.paused || (this.hovered && news > 0));
  }

  showNote() {
    const { stats } = this.model;
    if (!stats) return;
    const stored = this.status ? stats[this.status] : Object.values(stats).reduce((a, b) => a + b, 0);
    const what = this.status ? label(this.status) : "stored";
    const rate = this.model.perSecond;
    const ended = !rate ? "" : ` · ${rate < 10 ? rate.toFixed(1) : number(Math.round(rate))} ended/s`;
    setText(byId("runs-note"), `${number(this.shown.length)} of ${number(stored)} ${what}${ended}`);
    const empty = byId("empty");
    empty.hidden = this.shown.length > 0;
    if (this.model.runs.size === 0) setText(empty, "No runs yet. They appear here as soon as one is enqueued.");
    else if (this.status && stored > 0 && !this.text) setText(empty, `None of the ${label(this.status)} runs is recent.`);
    else setText(empty, "None of the recent runs matches.");
  }

  make(id) {
    const entry = {
      id: el("button", { class: "id", type: "button", text: short(id), title: id, onclick: () => this.actions.open(id) }),
      task: el("span"),
      badge: badge("queued"),
      attempt: el("td", { class: "num" }),
      age: el("td", { class: "num" }),
      due: el("td", { class: "num due" }),
      cause: el("span"),
      act: el("button", { class: "act", type: "button", onclick: () => this.act(id) }),
    };
    entry.node = el(
      "tr", { "data-run": id },
      el("td", {}, entry.id), el("td", { class: "task" }, entry.task), el("td", {}, entry.badge), entry.attempt, entry.age,
      entry.due, el("td", { class: "cause" }, entry.cause), el("td", { class: "acts" }, entry.act),
    );
    return entry;
  }

  update(entry, id) {
    const run = this.model.runs.get(id) ?? entry.run; // one that left the model while its row is held
    if (run !== entry.run) {
      entry.run = run;
      setText(entry.task, run.task);
      setAttr(entry.task, "title", `${run.task}, of ${run.jobs}, on queue ${run.queue}`);
      setBadge(entry.badge, run.status);
      setText(entry.attempt, run.attempt ? `${run.attempt}/${run.max}` : `–/${run.max}`);
      setAttr(entry.attempt, "title", `${count(run.attempt, "attempt")}, ${run.spent} of ${run.max} tries spent`);
      setAttr(entry.age, "title", `enqueued ${clock(run.created_us)}`);
      setText(entry.cause, why(run));
      setAttr(entry.cause, "title", why(run));
      setAttr(entry.node, "class", FINAL.has(run.status) ? "ended" : "");
    }
    const asked = this.busy.get(id);
    setText(entry.act, asked ?? (FINAL.has(run.status) ? "Replay" : "Cancel"));
    setAttr(entry.act, "aria-label", `${asked ?? (FINAL.has(run.status) ? "Replay" : "Cancel")} run ${id}`);
    entry.act.disabled = asked !== undefined || !this.actions.maySteer(run);
    this.tick(entry);
  }

  tick(entry) {
    const { run } = entry;
    const now = this.model.nowUs;
    setText(entry.age, age(now - run.created_us));
    setText(entry.due, this.model.parked.has(`${run.jobs}/${run.task}`) && WAITING.has(run.status) ? "parked" : due(run, now));
    setAttr(entry.due, "title", run.due_us === null ? "" : clock(run.due_us));
  }

  async act(id) {
    const { run } = this.entries.get(id);
    const replay = FINAL.has(run.status);
    this.busy.set(id, replay ? "Replaying…" : "Canceling…");
    this.actions.changed();
    try {
      await (replay ? this.actions.replay(run) : this.actions.cancel(run));
    } finally {
      this.busy.delete(id);
      this.actions.changed();
    }
  }
}

function due(run, now) {
  if (run.status === "queued") return "next slot";
  if (run.due_us === null || FINAL.has(run.status) || run.status === "running") return "–";
  return run.due_us > now ? `in ${age(run.due_us - now + 999_999)}` : "due";
}
