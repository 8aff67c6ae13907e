// The schedules: when each comes next, what became of its times, and what can be done with it.
//
// Rule: soonest first, and nothing moves under a pointer: while it is over the list, or the keyboard in it, no schedule
// comes, goes or changes its place; only what is said of them follows.

import { age, byId, clock, count, el, number, reconcile, setAttr, setText, short, span } from "/dom.js";

// {state: [what is said, what it means]}
const STATES = {
  on: ["on", "It requests a run whenever its time comes"],
  paused: ["paused", "It requests nothing until it is resumed"],
  orphaned: ["orphaned", "The code declares it no more: it requests nothing until it is declared again, or deleted"],
  no_task: ["no task here", "The code that works here does not have its task: its times are missed"],
  waits: ["waits for a run", "A time of it has come, and waits for the run before to end"],
  over: ["over", "It has no time to come"],
  unreadable: ["unreadable", "Another release of callsheet said it: it is left alone"],
};
const DONE = { pause: "Paused", resume: "Resumed" };
const DOING = { pause: "Pausing…", resume: "Resuming…", trigger: "Triggering…" };

export class Schedules {
  /** actions: changed, isLive, open(run id), schedule(order, row), toast(mood, text, run id). */
  constructor(model, actions) {
    this.model = model;
    this.actions = actions;
    this.entries = new Map();
    this.shown = [];
    this.made = 0;
    this.busy = new Map(); // key → what was asked of it
    this.hovered = false;
    this.list = byId("schedules");
    this.list.addEventListener("pointerenter", () => this.hover(true));
    this.list.addEventListener("pointerleave", () => this.hover(false));
    this.list.addEventListener("focusout", () => this.actions.changed());
  }

  hover(on) {
    this.hovered = on;
    this.actions.changed();
  }

  /** The wall clock of the server. */
  get nowUs() {
    return this.model.nowUs + this.model.schedules.ahead_us;
  }

  render() {
    const { rows, more } = this.model.schedules;
    const byKey = new Map(rows.map((row) => [`${row.jobs} ${row.key}`, row]));
    byId("schedules-panel").hidden = rows.length + more === 0;
    setText(byId("schedules-note"), more ? `${number(more)} more` : "");
    setAttr(byId("schedules-note"), "title", more ? "Those that come soonest are shown" : "");
    if (!this.hovered && this.list.querySelector(":focus-visible") === null) this.shown = [...byKey.keys()];
    reconcile(this.list, this.entries, this.shown, (id) => this.make(id), (entry, id) => {
      this.update(entry, byKey.get(id), id);
    });
  }

  make(id) {
    const details = `schedule-${++this.made}`;
    const entry = {
      isOpen: false,
      name: el("span", { class: "name" }),
      next: el("span", { class: "facts" }),
      what: el("div", { class: "muted" }),
      past: el("div", { class: "muted" }),
      state: el("span", { class: "badge" }),
      pause: el("button", { class: "act", type: "button", onclick: () => this.act(id, entry.row.paused ? "resume" : "pause") }),
      trigger: el("button", { class: "act", type: "button", onclick: () => this.act(id, "trigger") }),
      toggle: el("button", { class: "plain", type: "button", "aria-controls": details, onclick: () => this.toggle(entry) }),
      details: el("div", { class: "details", id: details, hidden: "" }),
    };
    entry.node = el(
      "li", { "data-schedule": id },
      el("div", { class: "line" }, entry.name, entry.next), entry.what,
      el("div", { class: "line" }, entry.past, entry.toggle),
      el("div", { class: "row" }, entry.state, el("span", { class: "gap" }), entry.trigger, entry.pause),
      entry.details,
    );
    return entry;
  }

  update(entry, row, id) {
    const isGone = row === undefined; // while the list is held
    row ??= entry.row;
    entry.row = row;
    const [text, meaning] = STATES[row.state];
    setText(entry.name, row.key);
    setAttr(entry.name, "title", `${row.key}, of ${row.jobs}`);
    setText(entry.next, row.next_us === null ? "" : this.until(row));
    setAttr(entry.next, "title", row.next_us === null ? "" : exact(row.next_us, row.next_local, row.zone));
    const what = [row.cadence, row.zone && `in ${row.zone}`].filter(Boolean).join(" ");
    setText(entry.what, [what, row.task].filter(Boolean).join(" · "));
    setAttr(entry.what, "title", row.task === null ? "" : `${what}, task ${row.task}`);
    const last = row.last_us === null ? "" : ` · last ${age(Math.max(0, this.nowUs - row.last_us))} ago`;
    setText(entry.past, `${count(row.fired, "run")} · ${number(row.skipped)} skipped${last}`);
    setAttr(entry.past, "title", row.last_us === null ? "" : `last time ${exact(row.last_us, row.last_local, row.zone)}`);
    setText(entry.state, isGone ? "gone" : text);
    setAttr(entry.state, "title", isGone ? "It was deleted, or others come sooner" : meaning);
    setAttr(entry.state, "class", `badge at-${row.state}`);
    this.updateButtons(entry, id, !isGone && this.actions.isLive());
    if (entry.isOpen && !isGone && entry.seen !== row.version) this.load(entry, row);
  }

  updateButtons(entry, id, isLive) {
    const { row } = entry;
    const asked = this.busy.get(id);
    const steer = row.paused ? "resume" : "pause";
    setText(entry.pause, asked === "pause" || asked === "resume" ? DOING[asked] : row.paused ? "Resume" : "Pause");
    setAttr(entry.pause, "aria-label", `${steer === "pause" ? "Pause" : "Resume"} schedule ${row.key}`);
    entry.pause.hidden = !row.may_steer;
    entry.pause.disabled = !isLive;
    setText(entry.trigger, asked === "trigger" ? DOING.trigger : "Trigger now");
    setAttr(entry.trigger, "aria-label", `Trigger schedule ${row.key} now`);
    entry.trigger.hidden = !row.may_trigger || row.state === "no_task";
    entry.trigger.disabled = !isLive;
    setText(entry.toggle, entry.isOpen ? "Less" : "Details");
    setAttr(entry.toggle, "aria-label", `${entry.isOpen ? "Less" : "Details"} of schedule ${row.key}`);
    setAttr(entry.toggle, "aria-expanded", String(entry.isOpen));
    entry.toggle.hidden = row.state === "unreadable";
  }

  until({ next_us, due_us }) {
    if (next_us > this.nowUs) return `in ${age(next_us - this.nowUs + 999_999)}`;
    return due_us > this.nowUs ? `in ${age(due_us - this.nowUs + 999_999)} (jitter)` : "due";
  }

  /** A button that was pressed keeps its focus: it is not switched off, and does nothing until the answer is here. */
  async act(id, what) {
    if (this.busy.has(id)) return;
    const { row } = this.entries.get(id);
    this.busy.set(id, what);
    this.actions.changed();
    try {
      const result = await this.actions.schedule(`${what}_schedule`, row);
      if (what === "trigger") this.actions.toast("good", `Triggered ${row.key}: `, result.run_id);
      else this.actions.toast("good", `${DONE[what]} ${row.key}`);
    } catch (error) {
      this.actions.toast("bad", `${row.key} was not ${what === "trigger" ? "triggered" : `${what}d`}: ${error.message}`);
    } finally {
      this.busy.delete(id);
      this.actions.changed();
    }
  }

  toggle(entry) {
    entry.isOpen = !entry.isOpen;
    entry.seen = null;
    entry.details.hidden = !entry.isOpen;
    if (entry.isOpen) entry.details.replaceChildren(el("p", { class: "none", text: "Loading" }));
    this.actions.changed();
  }

  async load(entry, row) {
    entry.seen = row.version;
    try {
      const found = await this.actions.schedule("show_schedule", row);
      if (entry.seen === row.version) this.fill(entry, found);
    } catch (error) {
      entry.details.replaceChildren(el("p", { class: "none", text: error.message }));
    }
  }

  fill(entry, found) {
    const focused = entry.details.contains(document.activeElement) ? document.activeElement.title : null;
    entry.details.replaceChildren(
      this.facts(found),
      el("h3", { text: `Next times, ${found.zone ?? "UTC"}` }),
      found.coming.length ? coming(found) : el("p", { class: "none", text: "None." }),
      el("h3", { text: `Last times, ${found.zone ?? "UTC"}` }),
      found.gone.length ? gone(found, this.actions.open) : el("p", { class: "none", text: "None yet." }),
    );
    if (focused) [...entry.details.querySelectorAll("button")].find((each) => each.title === focused)?.focus({ preventScroll: true });
  }

  facts(found) {
    const cap = found.misfire === "all" ? `, at most ${number(found.misfire_cap)}` : "";
    const facts = [
      ["Said by", found.origin === "code" ? "the code" : "a call"],
      ["Queue", found.queue],
      ["Cadence", [found.cadence, found.zone].filter(Boolean).join(" ")],
      ["Start", found.start_us === null ? null : utc(found.start_us)],
      ["End", found.end_us === null ? null : utc(found.end_us)],
      ["Jitter", found.jitter_us ? `up to ${span(found.jitter_us)}` : null],
      ["Missed", `${found.misfire}${cap}`],
      ["Overlap", found.overlap],
      ["Waiting", found.waiting_us === null ? null : utc(found.waiting_us)],
      ["Payload", `${count(found.payload_bytes, "byte")}, not shown`],
      ["Changed", clock(found.updated_us)],
    ];
    const list = el("dl");
    for (const [name, value] of facts) {
      if (value !== null) list.append(el("dt", { text: name }), el("dd", { text: value }));
    }
    return list;
  }
}

function coming(found) {
  return el("ol", { class: "times" }, ...found.coming.map((each) => el("li", {}, time(each, found.zone))));
}

function gone(found, open) {
  const list = el("ol", { class: "times" });
  for (const each of found.gone) {
    const run = each.run_id;
    list.append(
      el(
        "li", {},
        time(each, found.zone),
        el("span", { class: "muted", text: each.times > 1 ? `${each.did}, ${number(each.times)} at once` : each.did }),
        run === null ? null : el("button", { class: "id", type: "button", text: short(run), title: run, onclick: () => open(run) }),
      ),
    );
  }
  return list;
}

/** To the second, under a heading that names the zone. */
const time = ({ us, local }, zone) => el("span", { text: (local ?? utc(us)).slice(0, 19), title: exact(us, local, zone) });

const utc = (us) => `${new Date(us / 1_000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** In the zone of the cadence, where it has one, and in UTC. */
const exact = (us, local, zone) => (local === null ? utc(us) : `${local} ${zone}\n${utc(us)}`);
