// Addresses of screens: #/items/50?q=star. Everything that a screen shows is in its address, so that it can be shared.
import { useLayoutEffect, useState } from "./vendor/htm-preact.module.js";

// Going back leads to where one had scrolled to: each step of the history has a number in its state.
const heights = new Map();
let step = numbered();
history.scrollRestoration = "manual";
addEventListener("hashchange", () => {
  heights.set(step, window.scrollY);
  step = numbered();
});

function numbered() {
  if (!history.state?.step) history.replaceState({ step: Date.now() }, "");
  return history.state.step;
}

/** Where this step of the history had been scrolled to; 0 where it is new. */
export const height = () => heights.get(step) ?? 0;

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").map(decoded);
  return { screen: parts[0] || "overview", id: parts.slice(1).join("/") || null, query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function to(screen, id = null, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, value);
  }
  const text = parameters.toString();
  return `#/${screen}${id === null ? "" : `/${encodeURIComponent(id)}`}${text ? `?${text}` : ""}`;
}

/** A whole number of at least 1 from an address, at most `most`; `otherwise` where there is none. */
export function count(text, otherwise, most) {
  const number = Number(text);
  return Number.isInteger(number) && number > 0 ? Math.min(number, most) : otherwise;
}

/** Change the address without a step in the history, and tell those who look at it. */
export function replace(hash) {
  history.replaceState(history.state, "", hash);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** The address that is shown. It is listened to from the moment it is read: effects that run after painting would miss
 * an address that is opened before. */
export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useLayoutEffect(() => {
    const changed = () => setRoute(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
