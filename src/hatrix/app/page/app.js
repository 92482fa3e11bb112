// The frame around the screens: navigation, the look, keys, and what to say when the service changed.
import { Component, html, render, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { ask, follow, isDown, probe, useReply } from "./api.js";
import { DataScreen } from "./data.js";
import { Errors } from "./errors.js";
import { Items } from "./items.js";
import { MapScreen } from "./map.js";
import { Overview } from "./overview.js";
import { Empty, Loading, Trouble } from "./parts.js";
import { Rate } from "./rate.js";
import { height, to, useRoute } from "./route.js";
import { Users } from "./users.js";

const SCREENS = [
  ["overview", "Overview", Overview],
  ["errors", "Errors", Errors],
  ["map", "Map", MapScreen],
  ["items", "Items", Items],
  ["users", "Users", Users],
  ["rate", "Rate", Rate],
  ["data", "Data", DataScreen],
];

class Guard extends Component {
  constructor() {
    super();
    this.state = { error: null };
  }

  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  render({ children }, { error }) {
    return error
      ? html`<${Empty} title="This screen broke">${error.message}. Please report it; the other screens still work.</${Empty}>`
      : children;
  }
}

function Look() {
  const dark = () => {
    const { theme } = document.documentElement.dataset;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const [isDark, setDark] = useState(dark);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setDark(dark());
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  const turn = () => {
    const theme = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("hatrix-theme", theme);
    } catch {
      // it lasts as long as the page
    }
    setDark(theme === "dark");
    dispatchEvent(new CustomEvent("hatrix-look"));
  };
  return html`<button type="button" class="look" onClick=${turn} aria-label=${isDark ? "Light look" : "Dark look"}
    title=${isDark ? "Light look" : "Dark look"}><svg viewBox="0 0 20 20" aria-hidden="true"><path
      d=${isDark
        ? "M10 1v2M10 17v2M1 10h2M17 10h2M3.6 3.6 5 5M15 15l1.4 1.4M3.6 16.4 5 15M15 5l1.4-1.4M10 6a4 4 0 1 0 0 8 4 4 0 0 0 0-8"
        : "M16.5 12.5A7 7 0 0 1 7.5 3.5a7 7 0 1 0 9 9Z"} /></svg></button>`;
}

function slash(event) {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  const field = document.querySelector("[data-search]");
  if (field) {
    field.focus();
    return;
  }
  const come = () => requestAnimationFrame(() => document.querySelector("[data-search]")?.focus());
  addEventListener("hashchange", come, { once: true });
  location.hash = to("items");
}

const BACK_WITHIN = 2000;

/** Scroll to a height as soon as the screen is that long; who scrolls meanwhile is left alone. */
function reach(target) {
  window.scrollTo(0, target);
  if (!target) return undefined;
  const until = performance.now() + BACK_WITHIN;
  let frame = 0;
  const again = () => {
    if (Math.abs(window.scrollY - target) > 1) window.scrollTo(0, target);
    if (performance.now() < until) frame = requestAnimationFrame(again);
  };
  const stop = () => cancelAnimationFrame(frame);
  const kinds = ["wheel", "keydown", "pointerdown"];
  for (const kind of kinds) addEventListener(kind, stop, { once: true, passive: true });
  frame = requestAnimationFrame(again);
  return () => {
    stop();
    for (const kind of kinds) removeEventListener(kind, stop);
  };
}

const ASKED_EVERY = 30_000;
const FOLLOWED_EVERY = 5_000;
const SETTLED = 2_000;

const isSeen = () => document.visibilityState === "visible";

/** Do something now and then while the page is seen, and when somebody comes back to it. */
function useEvery(milliseconds, work) {
  useEffect(() => {
    if (milliseconds === null) return undefined;
    const now = () => isSeen() && !isDown() && work();
    const timer = setInterval(now, milliseconds);
    document.addEventListener("visibilitychange", now);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", now);
    };
  }, [milliseconds]);
}

/**
 * Return how often the service has changed its model, and the present one. Each change rebuilds all screens, so that
 * no facts of one model stand beside those of another. While processes load a new file one after the other, replies
 * may alternate between old and new for a moment: the screens wait until that is over.
 */
function useModel() {
  const [state, setState] = useState({ times: 0, model: null, at: null });
  useLayoutEffect(() => {
    let timer = null;
    let last = -Infinity;
    let told = null;
    const build = () => {
      timer = null;
      last = performance.now();
      setState(({ times }) => ({ times: times + 1, model: told, at: window.scrollY }));
    };
    const changed = (event) => {
      told = event.detail;
      timer ??= setTimeout(build, Math.max(0, last + SETTLED - performance.now()));
    };
    addEventListener("hatrix-model", changed);
    return () => {
      clearTimeout(timer);
      removeEventListener("hatrix-model", changed);
    };
  }, []);
  return state;
}

function Changed({ model }) {
  const [closed, setClosed] = useState(null);
  if (!model || closed === model) return null;
  return html`<p class="changed" role="status">The service has a new version of the model, <code>${model}</code>. Everything on this page
    is from it now. <button type="button" class="link" onClick=${() => setClosed(model)}>Close</button></p>`;
}

function Away() {
  const [down, setDown] = useState(isDown);
  useLayoutEffect(() => {
    const changed = () => {
      setDown(isDown());
      if (!isDown()) follow();
    };
    addEventListener("hatrix-connection", changed);
    return () => removeEventListener("hatrix-connection", changed);
  }, []);
  if (!down) return null;
  return html`<p class="changed away" role="status">The service does not answer. This page goes on by itself when it is back.
    <button type="button" class="link" onClick=${probe}>Try now</button></p>`;
}

/** Print in the light look, whatever look is shown: paper is white. */
function usePrint() {
  useEffect(() => {
    let shown = null;
    const before = () => {
      shown = document.documentElement.dataset.theme ?? "";
      document.documentElement.dataset.theme = "light";
      dispatchEvent(new CustomEvent("hatrix-print"));
    };
    const after = () => {
      if (shown) document.documentElement.dataset.theme = shown;
      else delete document.documentElement.dataset.theme;
      dispatchEvent(new CustomEvent("hatrix-look"));
    };
    addEventListener("beforeprint", before);
    addEventListener("afterprint", after);
    return () => {
      removeEventListener("beforeprint", before);
      removeEventListener("afterprint", after);
    };
  }, []);
}

function App() {
  const { times, model, at } = useModel();
  usePrint();
  return html`<${Frame} key=${times} model=${model} at=${at} />`;
}

let release = null;

function Updated({ hatrix }) {
  release ??= hatrix;
  if (hatrix === release) return null;
  return html`<p class="changed" role="status">The service runs hatrix ${hatrix} now, and this page is of ${release}.
    <button type="button" class="link" onClick=${() => location.reload()}>Load the new page</button></p>`;
}

/** The page around a screen. `at` is how far down it was before it was built anew. */
function Frame({ model, at }) {
  const route = useRoute();
  const card = useReply("v1/model");
  useEvery(ASKED_EVERY, () => ask("health/ready").catch(() => {}));
  useEvery(card.data?.feedback ? FOLLOWED_EVERY : null, follow);
  useEffect(() => {
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);
  const place = `${route.screen}/${route.id ?? ""}`;
  const first = useRef(true);
  useEffect(() => {
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (!first.current && document.activeElement === document.body) document.getElementById("main").focus({ preventScroll: true });
    const target = first.current && at !== null ? at : height();
    first.current = false;
    return reach(target);
  }, [place]);
  const [, , Screen] = SCREENS.find(([key]) => key === route.screen) ?? [];
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    }}>Skip to the content</a>
    <header><p class="brand"><a href=${to("overview")}><span aria-hidden="true">R̂</span> hatrix</a></p>
      <nav aria-label="Screens"><ul>${SCREENS.map(([key, title]) =>
        html`<li key=${key}><a href=${to(key)} aria-current=${key === route.screen ? "page" : null}>${title}</a></li>`)}
        <li><a href="docs">API</a></li></ul></nav>
      <${Look} /></header>
    <${Away} /><${Changed} model=${model} />${card.data && html`<${Updated} hatrix=${card.data.hatrix} />`}
    <main id="main" tabindex="-1"><${Guard} key=${route.screen}>
      ${!Screen && html`<${Empty} title="There is no such screen">Choose one above.</${Empty}>`}
      ${Screen && card.error && html`<${Trouble} error=${card.error} retry=${card.retry} />`}
      ${Screen && !card.error && !card.data && html`<${Loading} lines=${6} />`}
      ${Screen && card.data && html`<${Screen} route=${route} card=${card.data} />`}
    </${Guard}></main>
    <footer>${card.data && html`<p>Model <code>${card.data.model}</code>, ${card.data.algorithm} on <bdi>${card.data.data}</bdi>, served
      by hatrix ${card.data.hatrix}. <a href="page/vendor/LICENSES.txt">Licences</a> and <a href="page/vendor/vega/LICENSES.txt">those of the
      charts</a>. <span class="tip-off">Press <kbd>/</kbd> to search.</span></p>`}</footer>`;
}

render(html`<${App} />`, document.getElementById("app"));
