// The connection: opens, greets, acknowledges, notices silence, reconnects.
//
// Rule: it says what it knows of itself and no more; "live" means that a frame came a moment ago.
// Not here: what frames mean (app.js), what is shown (view.js).

const KEY = "callsheet.token";
const SILENT_MS = 12_000; // the server gives a sign of life every 5 s
const DEAD_MS = 30_000;
const BACKOFF_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
const UNAUTHORIZED = 4401;

/** The secret out of the address bar, or of this tab's earlier visit. It leaves the address bar at once. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    keepToken(given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

/** Out of what somebody pasted: a whole link, or the token alone. */
export function tokenIn(text) {
  const found = /#token=([^&\s]+)/.exec(text);
  return found ? decodeURIComponent(found[1]) : text.trim();
}

export class Feed {
  /** onFrame(frame): welcome, snapshot, delta. onState({name, ...}): connecting, live, stale, waiting, refused. */
  constructor(onFrame, onState) {
    this.onFrame = onFrame;
    this.onState = onState;
    this.failures = 0;
    this.heardMs = 0;
    this.orders = new Map();
    this.nextOrder = 1;
    setInterval(() => this.watch(), 1_000);
  }

  get isLive() {
    return this.state?.name === "live";
  }

  start() {
    const token = takeToken();
    clearTimeout(this.timer);
    if (!token) {
      this.become({ name: "refused", why: "Open the link that the program printed" });
      return;
    }
    if (!this.heardMs) this.become({ name: "connecting" });
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/feed`);
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", token }));
    socket.onmessage = (event) => this.receive(socket, JSON.parse(event.data));
    socket.onclose = (event) => this.closed(socket, event.code);
  }

  /** Asks for something; resolves with the result, rejects with a sentence. */
  order(type, fields) {
    return new Promise((resolve, reject) => {
      if (this.socket?.readyState !== WebSocket.OPEN) {
        reject(new Error("not connected: nothing was asked"));
        return;
      }
      const id = this.nextOrder++;
      this.orders.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ type, id, ...fields }));
    });
  }

  receive(socket, frame) {
    if (socket !== this.socket) return;
    const order = this.orders.get(frame.id);
    if (frame.type === "done" || frame.type === "error") {
      this.orders.delete(frame.id);
      if (frame.type === "done") order?.resolve(frame.result);
      else if (order) order.reject(new Error(frame.message));
      else console.warn("callsheet:", frame.code, frame.message);
      return;
    }
    this.heardMs = performance.now();
    this.onFrame(frame);
    if (frame.rev !== undefined) {
      socket.send(JSON.stringify({ type: "ack", rev: frame.rev }));
      this.failures = 0;
      this.become({ name: "live" });
    }
  }

  closed(socket, code) {
    if (socket !== this.socket) return;
    this.socket = null;
    for (const { reject } of this.orders.values()) {
      reject(new Error("the connection was lost before the answer: look whether it was done"));
    }
    this.orders.clear();
    if (code === UNAUTHORIZED) {
      sessionStorage.removeItem(KEY);
      this.become({ name: "refused", why: "This secret is not valid (any more)" });
      return;
    }
    const wait = BACKOFF_MS[Math.min(this.failures++, BACKOFF_MS.length - 1)] * (0.8 + 0.4 * Math.random());
    this.become({ name: "waiting", untilMs: performance.now() + wait });
    this.timer = setTimeout(() => this.start(), wait);
  }

  watch() {
    const silentMs = performance.now() - this.heardMs;
    if (this.socket?.readyState === WebSocket.OPEN && this.heardMs) {
      if (silentMs > DEAD_MS) {
        const dead = this.socket;
        this.closed(dead, 0);
        dead.close();
      } else if (silentMs > SILENT_MS) {
        this.become({ name: "stale" });
      }
    }
    if (this.state) this.onState(this.state); // its age has changed
  }

  become(state) {
    this.state = state;
    this.onState(state);
  }
}
