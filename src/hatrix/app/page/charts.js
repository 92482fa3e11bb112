// Charts are Vega-Lite specifications that the service makes; Vega is fetched when the first of them is shown.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";

const LIBRARIES = ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"];
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
    throw error;
  });
  return loaded;
}

/** A chart with its caption; `onPick` is told the slice whose bar is pressed. */
export function Figure({ figure, onPick }) {
  const place = useRef(null);
  const pick = useRef(onPick);
  pick.current = onPick;
  const [state, setState] = useState("drawing");
  useEffect(() => {
    let view = null;
    let gone = false;
    setState("drawing");
    const draw = async () => {
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
      } catch (error) {
        if (!gone) setState(`This chart could not be drawn: ${error.message}`);
      }
    };
    // Charts are drawn when they come near, so that a long page is quickly there.
    const watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      draw();
    }, { rootMargin: "600px" });
    watch.observe(place.current);
    return () => {
      gone = true;
      watch.disconnect();
      view?.finalize();
    };
  }, [figure.spec]);
  return html`<figure>
    <figcaption>${figure.caption}</figcaption>
    <div class=${`chart${onPick ? " pickable" : ""}`} data-chart=${figure.key} data-state=${state} role="group"
      style=${{ minHeight: state === "drawing" && heights.has(figure.key) ? `${heights.get(figure.key)}px` : null }} aria-label=${figure.caption} ref=${place}></div>
    ${state !== "drawing" && state !== "drawn" && html`<p class="note">${state}</p>`}
  </figure>`;
}
