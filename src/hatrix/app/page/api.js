// Requests to the service. A reply may have to be waited for, the service may be away for a while, and it may begin to
// serve another model.
import { useCallback, useEffect, useState } from "./vendor/htm-preact.module.js";

const kept = new Map();
const MOST_KEPT = 200;
/** Replies that change while one model is served: feedback comes in, and users are deleted. */
const CHANGING = /^v1\/(users?|recommendations|explanation|audience|errors\/rows)(\?|$)/;
/** Those of them that are cheap enough to be asked for every few seconds. */
const FOLLOWED = /^v1\/(users?|recommendations|explanation)(\?|$)/;
const AWAY = [502, 504];
const MOST_REFUSALS = 3;
let version = null;

export class Failure extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
    /** Whether no service answered: what failed is asked for again once one does. */
    this.away = status === 0 || (AWAY.includes(status) && code === "unknown");
  }
}

/** A path with parameters; those that are null or empty are left out, lists are repeated. */
export function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** JSON in which integers beyond 2^53, as ids may be, are kept as text. */
function parse(text) {
  if (!/[:[,]-?\d{16,}[,}\]]/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? context.source
      : value);
}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** Return what the service replies. This waits for a reply that is being worked out, and for a busy service. */
export async function ask(path, { body, signal } = {}) {
  for (let refusals = 0; ;) {
    let response;
    let text;
    try {
      response = await fetch(path, {
        signal,
        method: body ? "POST" : "GET",
        headers: body ? { "Content-Type": "application/json" } : {},
        body: body && JSON.stringify(body),
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw error;
      lost();
      throw new Failure(0, "unreachable", "It may have been stopped, or the connection is down.");
    }
    const later = Number(response.headers.get("Retry-After")) || 1;
    if (response.status === 202) {
      await pause(later, signal);
      continue;
    }
    let reply = null;
    try {
      reply = parse(text);
    } catch {
      // reported below
    }
    if (reply?.code === "overloaded" && refusals < MOST_REFUSALS) {
      refusals += 1;
      await pause(later, signal);
      continue;
    }
    if (!response.ok) {
      const failure = new Failure(response.status, reply?.code ?? "unknown", reply?.detail ?? response.statusText);
      if (failure.away) lost();
      throw failure;
    }
    if (reply === null) throw new Failure(response.status, "unreadable", "The service replied with something else.");
    notice(reply.model);
    return reply;
  }
}

/** Replies of two models are never kept together. */
function notice(model) {
  if (!model || model === version) return;
  const changed = version !== null;
  version = model;
  kept.clear();
  if (changed) dispatchEvent(new CustomEvent("hatrix-model", { detail: model }));
}

// While the service is away, its health is asked for at growing intervals: 1, 2, 4, 8 and then every 15 seconds.
const PAUSES = [1, 2, 4, 8, 15];
const PATIENCE = 5000;
let tries = 0;
let timer = null;
let down = false;

/** Whether the service was away when it was asked last. */
export const isDown = () => down;

/** Say that no service answered; it is looked for from now on. */
export function lost() {
  if (down) return;
  down = true;
  tries = 0;
  dispatchEvent(new Event("hatrix-connection"));
  later();
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(probe, 1000 * PAUSES[Math.min(tries, PAUSES.length - 1)]);
  tries += 1;
}

/** Ask whether the service is there again; if it is, all that failed meanwhile is asked for again. */
export async function probe() {
  clearTimeout(timer);
  let reply = null;
  try {
    const response = await fetch("health/ready", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (response.ok) reply = await response.json();
  } catch {
    // still away
  }
  if (!down) return;
  if (reply?.model === undefined) {
    later();
    return;
  }
  down = false;
  notice(reply.model);
  dispatchEvent(new Event("hatrix-connection"));
}

addEventListener("online", () => down && probe());
document.addEventListener("visibilitychange", () => down && document.visibilityState === "visible" && probe());

/** Call this where feedback may have come in: what can have changed is asked for again. */
export const follow = () => dispatchEvent(new Event("hatrix-follow"));

/**
 * Return the state of a request: `{ data, error, loading, retry }`. The last data stay until new data arrive.
 *
 * Data that cannot change while a model is served are fetched once. Other data are shown as they were and fetched again.
 */
export function useReply(path) {
  const [state, setState] = useState({ path: null, data: null, error: null });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    const known = kept.get(path);
    if (known) setState((now) => (now.path === path && now.data === known ? now : { path, data: known, error: null }));
    if (known && !CHANGING.test(path)) return undefined;
    const control = new AbortController();
    ask(path, { signal: control.signal }).then(
      (data) => {
        const before = kept.get(path);
        const shown = before && JSON.stringify(before) === JSON.stringify(data) ? before : data;
        if (!before && kept.size >= MOST_KEPT) kept.delete(kept.keys().next().value);
        kept.set(path, shown);
        setState((now) => (now.path === path && now.data === shown ? now : { path, data: shown, error: null }));
      },
      (error) => {
        if (control.signal.aborted) return;
        // Old data stay where the service is away: the banner tells of it.
        setState((now) => (error.away && now.path === path && now.data ? now : { path, data: null, error }));
      },
    );
    return () => control.abort();
  }, [path, attempt]);
  useAgain(state.path === path ? state.error : null, () => setAttempt((number) => number + 1));
  useEffect(() => {
    if (path === null || !FOLLOWED.test(path)) return undefined;
    const again = () => setAttempt((number) => number + 1);
    addEventListener("hatrix-follow", again);
    return () => removeEventListener("hatrix-follow", again);
  }, [path]);
  const retry = useCallback(() => {
    setState({ path: null, data: null, error: null });
    setAttempt((number) => number + 1);
  }, []);
  return { data: state.data, error: state.path === path ? state.error : null, loading: state.path !== path, retry };
}

/** Call `retry` when the service is back, if `error` came from its being away. */
export function useAgain(error, retry) {
  useEffect(() => {
    if (!error?.away) return undefined;
    const back = () => !down && retry();
    addEventListener("hatrix-connection", back);
    if (!down) retry(); // it came back before this effect ran
    return () => removeEventListener("hatrix-connection", back);
  }, [error]);
}
