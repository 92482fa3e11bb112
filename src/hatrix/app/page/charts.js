// Charts are Vega-Lite specifications that the service makes; Vega is fetched when the first of them is shown.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { lost, useAgain } from "./api.js";

const LIBRARIES = ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"];
const MOST_ATTEMPTS = 8;
let loaded = null;
const heights = new Map();

function script(file) {
  return new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.src = new URL(`vendor/vega/${file}`, import.meta.url).href;
    tag.onload = resolve;
    tag.onerror = () => reject(new Error(`${file} could not be loaded`));
    document.head.append(tag);
  });
}

/** Vega, and the look that all charts have in common. */
function library() {
  loaded ??= (async () => {
    const look = fetch(new URL("look.json", import.meta.url)).then((response) => response.json());
    for (const file of LIBRARIES) await script(file);
    return { embed: window.vegaEmbed, look: await look };
  })().catch((error) => {
    loaded = null;
    lost();
    throw error;
  });
  return loaded;
}

// Charts that are far below are drawn one after the other while the browser has nothing else to do, so that all of them
// are there when the page is printed.
const waiting = new Set();
let isWorking = false;
const soon = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));

function work() {
  if (isWorking || !waiting.size) return;
  isWorking = true;
  soon(async () => {
    const [draw] = waiting;
    if (draw) await draw();
    isWorking = false;
    work();
  });
}

addEventListener("beforeprint", () => [...waiting].forEach((draw) => draw()));

/** Why a chart cannot be drawn. If its libraries could not be fetched, the service is away. */
class Undrawn extends Error {
  constructor(error) {
    super(error.message);
    this.away = loaded === null;
  }
}

/** A chart with its caption; `onPick` is told the slice whose bar is pressed. */
export function Figure({ figure, onPick }) {
  const place = useRef(null);
  const pick = useRef(onPick);
  pick.current = onPick;
  const [state, setState] = useState("drawing");
  const [error, setError] = useState(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let view = null;
    let gone = false;
    setState("drawing");
    setError(null);
    const draw = async () => {
      if (!waiting.delete(draw)) return;
      watch.disconnect();
      try {
        const { embed, look } = await library();
        if (gone) return;
        const drawn = await embed(place.current, figure.spec, {
          mode: "vega-lite", renderer: "svg", actions: false, config: look,
          ast: true, // interpreted expressions: the policy forbids compiling them
          defaultStyle: false, tooltip: { disableDefaultStyle: true },
        });
        if (gone) {
          drawn.finalize();
          return;
        }
        view = drawn;
        view.view.addEventListener("click", (_, mark) => {
          const label = mark?.datum?.slice ?? mark?.datum?.label;
          if (pick.current && label !== undefined) pick.current(String(label));
        });
        heights.set(figure.key, place.current.offsetHeight);
        setState("drawn");
      } catch (problem) {
        if (gone) return;
        setState("failed");
        setError(new Undrawn(problem));
      }
    };
    // Charts that come near are drawn first, so that a long page is quickly there.
    const watch = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) draw();
    }, { rootMargin: "600px" });
    waiting.add(draw);
    watch.observe(place.current);
    work();
    return () => {
      gone = true;
      waiting.delete(draw);
      watch.disconnect();
      view?.finalize();
    };
  }, [figure.spec, attempt]);
  useAgain(attempt < MOST_ATTEMPTS ? error : null, () => setAttempt((number) => number + 1));
  return html`<figure>
    <figcaption>${figure.caption}</figcaption>
    <div class=${`chart${onPick ? " pickable" : ""}`} data-chart=${figure.key} data-state=${state} role="group"
      style=${{ minHeight: state === "drawing" && heights.has(figure.key) ? `${heights.get(figure.key)}px` : null }} aria-label=${figure.caption} ref=${place}></div>
    ${state === "failed" && html`<p class="note">This chart could not be drawn: ${error?.message}.</p>`}
  </figure>`;
}
