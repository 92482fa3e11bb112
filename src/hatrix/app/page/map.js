// Items in two dimensions, on a canvas: zoomed and dragged, coloured by genre, sized by popularity.
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.module.js";
import { address, useReply } from "./api.js";
import { Similar } from "./items.js";
import { Empty, Reply, Trouble, many, useTitle } from "./parts.js";
import { replace, to } from "./route.js";

const COLOURS = ["#3b82c4", "#d9730d", "#2f9e6e", "#b5507f", "#8367c7", "#a98a1b", "#2a9fb0", "#c2504a", "#6b8e3d", "#9a6a4a"];
const OTHER = "#8b949e";
const OTHERS = "*";
const MOST_FOUND = 8;
const FURTHEST = 40;

export function MapScreen({ route, card }) {
  useTitle("Map");
  const atlas = useReply("v1/map");
  return html`<h1>The map</h1>
    ${!atlas.data && !atlas.error && html`<p class="lead">The map is drawn once for a model. This may take a minute.</p>`}
    <${Reply} of=${atlas} lines=${8}>${(told) => told.missing
      ? html`<${Empty} title="There is no map">${told.missing}</${Empty}>`
      : html`<${Atlas} told=${told} route=${route} card=${card} />`}</${Reply}>`;
}

/** The genres that are told apart, most frequent first, and for each item those it has, the rarest first. */
function coloured(told) {
  if (!told.genres) return { legend: [], of: told.item.map(() => []) };
  const split = told.genres.map((text) => (text ?? "").split("|").map((genre) => genre.trim()).filter(Boolean));
  const count = new Map();
  for (const genre of split.flat()) count.set(genre, (count.get(genre) ?? 0) + 1);
  const legend = [...count].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1)).slice(0, COLOURS.length).map(([genre]) => genre);
  const place = new Map(legend.map((genre, at) => [genre, at]));
  return { legend, of: split.map((genres) => genres.map((genre) => place.get(genre)).filter((at) => at !== undefined).sort((one, other) => other - one)) };
}

function Atlas({ told, route, card }) {
  const { legend, of } = useMemo(() => coloured(told), [told]);
  const at = useMemo(() => new Map(told.item.map((item, row) => [String(item), row])), [told]);
  const titles = told.titles ?? told.item.map((item) => `item ${item}`);
  const title = (row) => titles[row] ?? `item ${told.item[row]}`;
  const q = route.query.get("q") ?? "";
  const chosen = at.get(route.query.get("item") ?? "") ?? null;
  const asked = route.query.get("item");
  const near = useReply(chosen === null || !card.has_factors ? null : address("v1/similar-items", { item: told.item[chosen], n: 12 }));
  const neighbours = chosen === null || !near.data ? [] : near.data.items.map((one) => at.get(String(one.item))).filter((row) => row !== undefined);
  const found = useMemo(() => {
    const words = folded(q).split(/\s+/).filter(Boolean);
    return words.length ? told.item.map((_, row) => row).filter((row) => words.every((word) => folded(`${title(row)} ${told.item[row]}`).includes(word))) : [];
  }, [q, told]);
  const names = useMemo(() => [...legend.entries(), [-1, OTHERS]], [legend]);
  const hide = route.query.get("hide") ?? "";
  const hidden = useMemo(() => new Set(names.filter(([, genre]) => hide.split("|").includes(genre)).map(([place]) => place)), [names, hide]);
  const go = (changed) => replace(to("map", null, { q, item: asked, hide, ...changed }));
  const choose = (row) => go({ item: row === null ? null : told.item[row] });
  const conceal = (places) => go({ hide: names.filter(([place]) => places.has(place)).map(([, genre]) => genre).join("|") });
  const toggle = (place) => {
    const after = new Set(hidden);
    if (!after.delete(place)) after.add(place);
    conceal(after);
  };
  const only = (place) => conceal(new Set(names.map(([one]) => one).filter((one) => one !== place)));
  return html`<p class="lead">${many(told.item.length, "item")}, placed by ${told.method}: what pleases the same people lies close together. The larger a dot, the more ${!card.predicts_ratings ? "training rows" : "ratings"}.
      ${told.left_out > 0 && ` ${many(told.left_out, "less rated item")} left out.`}</p>
    <div class="map-tools"><label class="search"><span class="hidden">Search the map</span>
      <input type="search" data-search value=${q} placeholder=${told.titles ? "A title, or an id" : "An id"} autocomplete="off" spellcheck="false"
        onInput=${(event) => go({ q: event.target.value })}
        onKeyDown=${(event) => event.key === "Enter" && found.length && choose(found[0])} /><kbd aria-hidden="true">/</kbd></label>
      ${q && html`<p class="hint" role="status">${many(found.length, "item")} found</p>`}</div>
    ${legend.length > 0 && html`<ul class="legend" aria-label="Genres">${names.map(([place, genre]) => html`<li key=${genre}>
      <button type="button" aria-pressed=${!hidden.has(place)} onClick=${() => toggle(place)} onDblClick=${() => only(place)}>
        <svg viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="4.5" fill=${place < 0 ? OTHER : COLOURS[place]} /></svg><bdi>${place < 0 ? "others" : genre}</bdi></button></li>`)}
      ${hidden.size > 0 && html`<li><button type="button" class="link" onClick=${() => go({ hide: null })}>All</button></li>`}</ul>`}
    <div class="map">
      <${Plane} told=${told} of=${of} hidden=${hidden} found=${q ? found : null} chosen=${chosen} neighbours=${neighbours} title=${title} onChoose=${choose} />
      <aside aria-live="polite">
        ${q && found.length > 0 && html`<h2>Found</h2><ul class="ranked">${found.slice(0, MOST_FOUND).map((row) => html`<li key=${row}>
          <button type="button" class="plain" onClick=${() => choose(row)}><bdi>${title(row)}</bdi></button></li>`)}</ul>`}
        ${asked && chosen === null && html`<p class="hint">Item <bdi>${asked}</bdi> is not on the map.</p>`}
        ${chosen === null ? !q && html`<p class="hint">Press an item for its neighbours. Drag to move, turn the wheel or pinch to zoom; with the keyboard, arrows move and + and − zoom.</p>`
          : html`<h2><a href=${to("items", told.item[chosen])}><bdi>${title(chosen)}</bdi></a></h2>
            <p class="hint">${told.genres?.[chosen] && html`<bdi>${told.genres[chosen].replaceAll("|", ", ")}</bdi> · `}${many(told.count[chosen], !card.predicts_ratings ? "row" : "rating")} · <button type="button" class="link" onClick=${() => choose(null)}>Close</button></p>
            <h3>Nearest in all ${card.factors} factors</h3>
            ${near.error ? html`<${Trouble} error=${near.error} retry=${near.retry} />`
              : html`<${Similar} item=${told.item[chosen]} onPick=${(item) => (at.has(String(item)) ? choose(at.get(String(item))) : (location.hash = to("items", item)))} />`}`}
      </aside></div>`;
}

const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** The canvas. What it shows is redrawn on the next frame after anything changed. */
function Plane({ told, of, hidden, found, chosen, neighbours, title, onChoose }) {
  const canvas = useRef(null);
  const view = useRef({ x: 0, y: 0, zoom: 1, width: 0, height: 0, touched: false });
  const [hover, setHover] = useState(null);
  const most = useMemo(() => Math.max(...told.count, 1), [told]);
  const order = useMemo(() => told.item.map((_, row) => row).sort((one, other) => told.count[other] - told.count[one]), [told]);
  const marked = useMemo(() => (found ? new Set(found) : null), [found]);
  const frame = useRef(0);

  const colour = (row) => {
    const shown = of[row].filter((place) => !hidden.has(place));
    if (shown.length) return COLOURS[shown[0]];
    return of[row].length || hidden.has(-1) ? null : OTHER;
  };
  // A map has no directions, so that it may fill its room in both.
  const unit = () => [view.current.width, view.current.height].map((size) => (size / 2 - 18) * view.current.zoom);
  const placed = (row) => {
    const [across, up] = unit();
    return [view.current.width / 2 + (told.x[row] - view.current.x) * across, view.current.height / 2 - (told.y[row] - view.current.y) * up];
  };
  const crowded = Math.max(0.5, Math.min(1, Math.sqrt(1600 / told.item.length)));
  const radius = (row) => crowded * (1.6 + 6 * Math.sqrt(told.count[row] / most)) * Math.min(3, view.current.zoom ** 0.4);

  const draw = () => {
    const { width, height } = view.current;
    const context = canvas.current.getContext("2d");
    const style = getComputedStyle(canvas.current);
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const quiet = chosen !== null || (marked !== null && marked.size > 0);
    const loud = new Set(chosen === null ? marked ?? [] : [chosen, ...neighbours, ...(marked ?? [])]);
    if (chosen !== null) {
      const [x, y] = placed(chosen);
      context.strokeStyle = style.color;
      context.globalAlpha = 0.45;
      context.lineWidth = 1;
      for (const row of neighbours) {
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(...placed(row));
        context.stroke();
      }
    }
    const dot = (row, alpha) => {
      const fill = loud.has(row) ? colour(row) ?? OTHER : colour(row);
      if (!fill) return;
      const [x, y] = placed(row);
      const r = radius(row);
      if (x < -r || y < -r || x > width + r || y > height + r) return;
      context.globalAlpha = alpha;
      context.fillStyle = fill;
      context.beginPath();
      context.arc(x, y, loud.has(row) ? Math.max(4, r) : r, 0, 2 * Math.PI);
      context.fill();
    };
    for (const row of order) if (!loud.has(row)) dot(row, quiet ? 0.2 : 0.72);
    for (const row of order) if (loud.has(row)) dot(row, 0.95);
    context.globalAlpha = 1;
    if (chosen !== null) {
      const [x, y] = placed(chosen);
      context.strokeStyle = style.color;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, Math.max(4, radius(chosen)) + 3, 0, 2 * Math.PI);
      context.stroke();
    }
    labels(context, style, loud, quiet);
  };

  /** Titles of what stands out, or of the most rated, as far as they do not overlap. */
  const labels = (context, style, loud, quiet) => {
    const { width, height, zoom } = view.current;
    context.font = `12px ${style.fontFamily}`;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const rows = quiet ? [...(chosen === null ? [] : [chosen]), ...order.filter((row) => loud.has(row) && row !== chosen)] : order;
    const limit = quiet ? 40 : Math.min(60, Math.round((width / 70) * zoom));
    const taken = [];
    let written = 0;
    for (const row of rows) {
      if (written >= limit) break;
      if (!loud.has(row) && !colour(row)) continue;
      const [x, y] = placed(row);
      if (x < 0 || y < 8 || x > width || y > height - 8) continue;
      const text = title(row).length > 30 ? `${title(row).slice(0, 29)}…` : title(row);
      const length = context.measureText(text).width;
      const away = Math.max(4, radius(row)) + 4;
      const left = x + away + length > width ? x - away - length : x + away;
      const box = [left - 2, y - 8, left + length + 2, y + 8];
      if (left < 0 || taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) continue;
      taken.push(box);
      context.strokeStyle = style.backgroundColor;
      context.lineWidth = 3;
      context.globalAlpha = 0.85;
      context.strokeText(text, left, y);
      context.globalAlpha = 1;
      context.fillStyle = style.color;
      context.fillText(text, left, y);
      written += 1;
    }
  };

  const painter = useRef(draw);
  painter.current = draw;
  const soon = () => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      painter.current();
      if (canvas.current) canvas.current.dataset.drawn = String(Number(canvas.current.dataset.drawn ?? 0) + 1);
    });
  };
  useEffect(soon);

  const zoomAt = (x, y, by) => {
    const now = view.current;
    const before = unit();
    now.zoom = Math.max(1, Math.min(FURTHEST, now.zoom * by));
    const dx = x - now.width / 2;
    const dy = y - now.height / 2;
    const after = unit();
    now.x += dx / before[0] - dx / after[0];
    now.y -= dy / before[1] - dy / after[1];
    keep();
    soon();
  };
  const keep = () => {
    view.current.x = Math.max(-1, Math.min(1, view.current.x));
    view.current.y = Math.max(-1, Math.min(1, view.current.y));
    if (view.current.zoom === 1) Object.assign(view.current, { x: 0, y: 0 });
  };
  const nearest = (x, y) => {
    let best = null;
    let least = Infinity;
    for (const row of order) {
      if (!colour(row) && row !== chosen) continue;
      const [px, py] = placed(row);
      const distance = Math.hypot(px - x, py - y) - radius(row);
      if (distance < least) [least, best] = [distance, row];
    }
    return least < 9 ? best : null;
  };
  const tools = useRef({});
  tools.current = { zoomAt, nearest, keep, unit, onChoose };

  useEffect(() => {
    const element = canvas.current;
    const size = () => {
      const box = element.getBoundingClientRect();
      const ratio = devicePixelRatio || 1;
      Object.assign(view.current, { width: box.width, height: box.height });
      element.width = Math.round(box.width * ratio);
      element.height = Math.round(box.height * ratio);
      painter.current();
    };
    const watch = new ResizeObserver(size);
    watch.observe(element);
    const touches = new Map();
    let moved = 0;
    const spot = (event) => {
      const box = element.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const down = (event) => {
      element.setPointerCapture(event.pointerId);
      touches.set(event.pointerId, spot(event));
      if (touches.size === 1) moved = 0;
    };
    const move = (event) => {
      const [x, y] = spot(event);
      if (!touches.has(event.pointerId)) {
        const row = tools.current.nearest(x, y);
        setHover(row === null ? null : { row, x, y });
        return;
      }
      const before = touches.get(event.pointerId);
      if (touches.size === 2) {
        const other = [...touches].find(([id]) => id !== event.pointerId)[1];
        const grown = Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1]));
        tools.current.zoomAt((x + other[0]) / 2, (y + other[1]) / 2, grown);
        moved = 99;
      } else {
        moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
        const [across, up] = tools.current.unit();
        view.current.x -= (x - before[0]) / across;
        view.current.y += (y - before[1]) / up;
        tools.current.keep();
        setHover(null);
        soon();
      }
      touches.set(event.pointerId, [x, y]);
    };
    const up = (event) => {
      if (touches.delete(event.pointerId) && event.type === "pointerup" && moved < 6 && !touches.size) {
        tools.current.onChoose(tools.current.nearest(...spot(event)));
      }
    };
    const wheel = (event) => {
      event.preventDefault();
      tools.current.zoomAt(...spot(event), Math.exp(-event.deltaY * 0.0016));
    };
    const leave = () => setHover(null);
    const handlers = { pointerdown: down, pointermove: move, pointerup: up, pointercancel: up, pointerleave: leave };
    for (const [kind, handler] of Object.entries(handlers)) element.addEventListener(kind, handler);
    element.addEventListener("wheel", wheel, { passive: false });
    const now = () => painter.current();
    addEventListener("hatrix-look", soon);
    addEventListener("hatrix-print", now);
    return () => {
      watch.disconnect();
      cancelAnimationFrame(frame.current);
      removeEventListener("hatrix-look", soon);
      removeEventListener("hatrix-print", now);
    };
  }, []);

  const middle = (by) => zoomAt(view.current.width / 2, view.current.height / 2, by);
  const key = (event) => {
    const pan = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (pan) {
      const [across, up] = unit();
      view.current.x += (pan[0] * 60) / across;
      view.current.y += (pan[1] * 60) / up;
      keep();
      soon();
    } else if (event.key === "+" || event.key === "=") middle(1.5);
    else if (event.key === "-") middle(1 / 1.5);
    else if (event.key === "0") middle(1e-9);
    else if (event.key === "Escape") onChoose(null);
    else return;
    event.preventDefault();
  };
  return html`<div class="plane">
    <canvas ref=${canvas} tabindex="0" role="img" onKeyDown=${key} class=${hover ? "over" : ""}
      aria-label=${`Map of ${told.item.length} items. Search above, or use the lists beside it, to reach an item.`}></canvas>
    <div class="zoom"><button type="button" aria-label="Zoom in" onClick=${() => middle(1.6)}>+</button>
      <button type="button" aria-label="Zoom out" onClick=${() => middle(1 / 1.6)}>−</button>
      <button type="button" aria-label="Show all" onClick=${() => middle(1e-9)}>⤢</button></div>
    ${hover && html`<div class="tip" aria-hidden="true" style=${{ left: `${Math.min(hover.x + 14, Math.max(0, view.current.width - 210))}px`, top: `${hover.y + 14}px` }}>
      <b><bdi>${title(hover.row)}</bdi></b><span>${many(told.count[hover.row], "training row")}</span></div>`}
  </div>`;
}
