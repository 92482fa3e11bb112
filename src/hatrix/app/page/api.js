// Asking the service: replies that are still being worked out, errors as problems, and what was asked before.
import { useCallback, useEffect, useState } from "./vendor/htm-preact.module.js";

const kept = new Map();
const MOST_KEPT = 200;
let version = null;

export class Failure extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
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

/** What the service replies; waits for what is still being worked out. */
export async function ask(path, { body, signal } = {}) {
  for (;;) {
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
      throw new Failure(0, "unreachable", "It may have been stopped, or the connection is down.");
    }
    if (response.status === 202) {
      await pause(Number(response.headers.get("Retry-After")) || 1, signal);
      continue;
    }
    let reply = null;
    try {
      reply = parse(text);
    } catch {
      // told below
    }
    if (!response.ok) {
      throw new Failure(response.status, reply?.code ?? "unknown", reply?.detail ?? response.statusText);
    }
    if (reply === null) throw new Failure(response.status, "unreadable", "The service replied with something else.");
    notice(reply.model);
    return reply;
  }
}

function notice(model) {
  if (!model || model === version) return;
  if (version !== null) {
    kept.clear();
    dispatchEvent(new CustomEvent("hatrix-model", { detail: model }));
  }
  version = model;
}

/** A reply as it is asked for: `{ data, error, loading, retry }`. The last data stay while others are on their way. */
export function useReply(path) {
  const [state, setState] = useState({ path: null, data: null, error: null });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (path === null) return undefined;
    if (kept.has(path)) {
      setState({ path, data: kept.get(path), error: null });
      return undefined;
    }
    const control = new AbortController();
    ask(path, { signal: control.signal }).then(
      (data) => {
        if (kept.size >= MOST_KEPT) kept.delete(kept.keys().next().value);
        kept.set(path, data);
        setState({ path, data, error: null });
      },
      (error) => {
        if (!control.signal.aborted) setState({ path, data: null, error });
      },
    );
    return () => control.abort();
  }, [path, attempt]);
  const retry = useCallback(() => {
    setState({ path: null, data: null, error: null });
    setAttempt((number) => number + 1);
  }, []);
  return { data: state.data, error: state.path === path ? state.error : null, loading: state.path !== path, retry };
}
