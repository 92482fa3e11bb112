// The frame around the screens: navigation, the look, keys, and what to say when the service changed.
import { Component, html, render, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { ask, useReply } from "./api.js";
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

/** Ask now and then which model is served: what is on the screen may be long read. */
function useVersion() {
  useEffect(() => {
    const look = () => {
      if (document.visibilityState === "visible") ask("health/ready").catch(() => {});
    };
    const timer = setInterval(look, ASKED_EVERY);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
}

function Changed() {
  const [model, setModel] = useState(null);
  useEffect(() => {
    const changed = (event) => setModel(event.detail);
    addEventListener("hatrix-model", changed);
    return () => removeEventListener("hatrix-model", changed);
  }, []);
  if (!model) return null;
  return html`<p class="changed" role="status">Another version of the model is being served now (<code>${model}</code>).
    <button type="button" onClick=${() => location.reload()}>Show it</button></p>`;
}

function App() {
  const route = useRoute();
  const card = useReply("v1/model");
  useVersion();
  useEffect(() => {
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);
  const place = `${route.screen}/${route.id ?? ""}`;
  const first = useRef(true);
  useEffect(() => {
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (!first.current && document.activeElement === document.body) document.getElementById("main").focus({ preventScroll: true });
    first.current = false;
    return reach(height());
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
    <${Changed} />
    <main id="main" tabindex="-1"><${Guard} key=${route.screen}>
      ${!Screen && html`<${Empty} title="There is no such screen">Choose one above.</${Empty}>`}
      ${Screen && card.error && html`<${Trouble} error=${card.error} retry=${card.retry} />`}
      ${Screen && !card.error && !card.data && html`<${Loading} lines=${6} />`}
      ${Screen && card.data && html`<${Screen} route=${route} card=${card.data} />`}
    </${Guard}></main>
    <footer>${card.data && html`<p>Model <code>${card.data.model}</code>, ${card.data.algorithm} on <bdi>${card.data.data}</bdi>, served
      by hatrix ${card.data.hatrix}. <a href="page/vendor/LICENSES.txt">Licences</a> and <a href="page/vendor/vega/LICENSES.txt">those of the
      charts</a>. Press <kbd>/</kbd> to search.</p>`}</footer>`;
}

render(html`<${App} />`, document.getElementById("app"));
