// One run in full: its facts, attempts and history. Asked for when it is opened, and again when its row changes.

import { FINAL, badge, byId, clock, count, el, span, why } from "/dom.js";

export class Drawer {
  constructor(model, actions) {
    this.model = model;
    this.actions = actions;
    this.node = byId("drawer");
    this.node.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  open(id) {
    this.id = id;
    this.seen = null;
    this.from = document.activeElement;
    this.node.hidden = false;
    this.node.replaceChildren(this.head(id, null), el("p", { class: "empty", text: "Loading" }));
    this.node.querySelector(".close").focus({ preventScroll: true });
    this.render();
  }

  close() {
    this.id = null;
    this.node.hidden = true;
    this.from?.focus?.({ preventScroll: true });
  }

  render() {
    const row = this.id && this.model.runs.get(this.id);
    if (!this.id || this.asking || (this.seen && (!row || row === this.seen))) return;
    this.seen = row ?? {};
    this.load(this.id);
  }

  async load(id) {
    this.asking = true;
    try {
      const details = await this.actions.show(id);
      if (id === this.id) this.fill(details);
    } catch (error) {
      if (id === this.id) this.node.replaceChildren(this.head(id, null), el("p", { class: "empty", text: error.message }));
    } finally {
      this.asking = false;
    }
    if (this.id && this.id !== id) this.render();
  }

  fill(run) {
    const focused = this.node.contains(document.activeElement) ? document.activeElement.className : null;
    const top = this.node.scrollTop;
    this.node.replaceChildren(
      this.head(run.id, run),
      this.facts(run),
      el("h3", { text: "Attempts" }),
      run.attempts.length ? attempts(run) : el("p", { class: "none", text: "None yet." }),
      ...(run.traceback ? [el("h3", { text: "Last traceback" }), el("pre", { text: run.traceback, tabindex: "0" })] : []),
      el("h3", { text: "History" }),
      history(run),
    );
    this.node.scrollTop = top;
    if (focused) this.node.querySelector(`button.${focused.split(" ")[0]}`)?.focus({ preventScroll: true });
  }

  head(id, run) {
    const final = run && FINAL.has(run.status);
    const act = async () => {
      await (final ? this.actions.replay(run) : this.actions.cancel(run));
    };
    const button = run && el("button", { class: "steer", type: "button", text: final ? "Replay" : "Cancel", onclick: act });
    if (button) button.disabled = !this.actions.maySteer(run);
    return el(
      "div", { class: "head" },
      el("div", { class: "title" }, el("h2", { id: "drawer-title", text: run ? run.task : "Run" }), run && badge(run.status)),
      button,
      el("button", { class: "close", type: "button", text: "Close", onclick: () => this.close() }),
      el("code", { class: "full", text: id }),
    );
  }

  facts(run) {
    const facts = [
      ["Queue", run.queue],
      ["Jobs", run.jobs],
      ["Enqueued", clock(run.created_us)],
      ["Ended", run.ended_us === null ? null : `${clock(run.ended_us)}, after ${span(run.ended_us - run.created_us)}`],
      ["Next due", run.due_us === null || FINAL.has(run.status) ? null : clock(run.due_us)],
      ["Tries", `${run.spent} of ${run.max} spent, ${count(run.attempt, "attempt")}`],
      ["Cause", why(run)],
      ["Timeout", run.timeout_us === null ? null : span(run.timeout_us)],
      ["Priority", run.priority === 5 ? null : run.priority],
      ["Replay of", run.replay_of],
      ["Replayed by", run.replays.join(", ") || null],
      ["Reason", run.reason],
      ["Trace id", run.trace_id],
      ["Progress", run.progress],
      ["Payload", run.payload_bytes === null ? null : `${count(run.payload_bytes, "byte")}, not shown`],
      ["Result", run.result_bytes === null ? run.result_error : `${count(run.result_bytes, "byte")}, not shown`],
    ];
    const list = el("dl");
    for (const [name, value] of facts) {
      if (value !== null && value !== "") list.append(el("dt", { text: name }), el("dd", { text: String(value) }));
    }
    return list;
  }
}

function attempts(run) {
  const list = el("ol", { class: "attempts" });
  for (const each of [...run.attempts].reverse()) {
    const took = each.ended_us === null ? "running" : `took ${span(each.ended_us - each.started_us)}`;
    list.append(
      el(
        "li", {},
        el("span", { class: "n", text: String(each.n) }),
        badge(each.outcome ?? "running"),
        el("span", { class: "muted", text: `${clock(each.started_us)}, ${took}` }),
        each.error ? el("div", { class: "error", text: each.error }) : null,
        each.late ? el("div", { class: "muted", text: `after it was told to stop: ${each.late}` }) : null,
      ),
    );
  }
  return list;
}

function history(run) {
  const list = el("ol", { class: "history" });
  for (const each of [...run.transitions].reverse()) {
    list.append(
      el(
        "li", {},
        badge(each.now),
        el("span", { class: "muted", text: clock(each.at_us) }),
        each.cause ? el("span", { class: "error", text: each.cause }) : null,
      ),
    );
  }
  return list;
}

