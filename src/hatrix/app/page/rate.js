// Rate a few items and see at once what would be recommended. The ratings stand in the address and are kept in the tab's
// session storage, so that they outlast a look at other screens; the service does not store them.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { address, ask, useAgain, useReply } from "./api.js";
import { Empty, ItemLink, Range, Reply, Search, Trouble, Walk, many, name, number, plain, useTitle } from "./parts.js";
import { replace, to } from "./route.js";
import { Because, meaning } from "./users.js";

/** The best rating there is. */
export const best = (card) => card.scale?.[1] ?? 1;

const LENGTH = 10;
const SURE = 0.8;

/** The ratings in an address: `50:4,181:5`; ids are encoded, so that they may hold anything. */
export function read(text) {
  const found = new Map();
  for (const pair of (text ?? "").split(",")) {
    const at = pair.lastIndexOf(":");
    const value = Number(pair.slice(at + 1));
    if (at < 1 || !Number.isFinite(value)) continue;
    try {
      found.set(decodeURIComponent(pair.slice(0, at)), value);
    } catch {
      // no id
    }
  }
  return found;
}

export const write = (ratings) => [...ratings].map(([item, value]) => `${encodeURIComponent(item)}:${value}`).join(",");

/** The ids in an address: `50,181`. */
function listed(text) {
  try {
    return new Set((text ?? "").split(",").filter(Boolean).map(decodeURIComponent));
  } catch {
    return new Set(); // an address that was cut
  }
}

const PLACE = `hatrix-rate ${location.pathname}`;
let inMemory = null;

/** What was rated and skipped in this tab, as the address has it: `{ r, s }`. */
function recall(card) {
  let text = inMemory;
  try {
    text = sessionStorage.getItem(PLACE);
  } catch {
    // storage is forbidden: it lasts as long as the page
  }
  try {
    const found = JSON.parse(text);
    if (found.data === card.data && typeof found.r === "string" && typeof found.s === "string") return found;
  } catch {
    // nothing, or nothing of ours
  }
  return { r: "", s: "" };
}

function keep(card, r, s) {
  inMemory = JSON.stringify({ data: card.data, r, s });
  try {
    sessionStorage.setItem(PLACE, inMemory);
  } catch {
    // see above
  }
}

export function Rate({ route, card }) {
  useTitle("Rate");
  const first = useReply("v1/starters");
  const q = route.query.get("q") ?? "";
  const mine = recall(card);
  const given = route.query.has("r") || route.query.has("s");
  const r = given ? route.query.get("r") ?? "" : mine.r;
  const s = given ? route.query.get("s") ?? "" : mine.s;
  const ratings = read(r);
  const skipped = listed(s);
  // A link may hold other ratings than this tab's own. It does not take their place unless the visitor says so.
  const own = write(read(mine.r));
  const isLink = own !== "" && write(ratings) !== own;
  useEffect(() => {
    if (!given && (mine.r || mine.s)) replace(to("rate", null, { r: mine.r, s: mine.s, q }));
    else if (given && own === "" && (r !== mine.r || s !== mine.s)) keep(card, r, s);
  }, [r, s, given]);
  const go = (changed) => {
    const next = { r: write(ratings), s: [...skipped].map(encodeURIComponent).join(","), ...changed };
    if (!isLink) keep(card, next.r, next.s);
    replace(to("rate", null, { q, ...next }));
  };
  const give = (item, value) => {
    const id = String(item);
    if (value === null) ratings.delete(id);
    else ratings.set(id, value);
    skipped.delete(id);
    go({});
  };
  const skip = (item) => {
    ratings.delete(String(item));
    skipped.add(String(item));
    go({});
  };
  const clear = () => {
    if (!isLink) keep(card, "", "");
    replace(isLink ? to("rate", null, { r: mine.r, s: mine.s }) : to("rate"));
  };
  const likes = !card.predicts_ratings || !card.scale;
  const list = useList(ratings, card);
  const beside = useRef(null);
  return html`<h1>Rate a few</h1>
    <p class="lead">${likes ? "Say what you like" : "Rate what you know"}, skip the rest; the list follows at once. Your
      ${likes ? " choices" : " ratings"} stay in this browser tab until you close it: in its address, which you can share, and in its
      session storage. The service does not store them.</p>
    ${isLink && html`<p class="note" role="status">This address holds other ${likes ? "choices" : "ratings"} than the ${count(read(mine.r).size, likes)} that you gave in this
      tab. <button type="button" class="link" onClick=${clear}>Back to mine</button> or ${" "}
      <button type="button" class="link" onClick=${() => { keep(card, r, s); replace(to("rate", null, { r, s, q })); }}>keep these instead</button></p>`}
    <div class="columns wide"><div>
      <h2>${likes ? "Do you like these?" : "How do you rate these?"}</h2>
      <${Reply} of=${first} lines=${10}>${({ items }) => html`
        <${Cards} items=${items} ratings=${ratings} skipped=${skipped} give=${give} skip=${skip} unskip=${() => go({ s: "" })} card=${card} likes=${likes} />`}</${Reply}>
      <h3>Others</h3>
      <${Search} label="Search items to rate" value=${q} into="#more" placeholder=${card.has_titles ? "A title you know" : "An id"}
        onSearch=${(text) => replace(to("rate", null, { r, s, q: text }))} />
      ${q && html`<${More} q=${q} ratings=${ratings} give=${give} card=${card} likes=${likes} />`}
      ${list.told?.items.length > 0 && html`<button type="button" class="peek" onClick=${() => beside.current.scrollIntoView()}>
        <span>Best for you: <bdi>${name(list.told.items[0])}</bdi></span><b>See all</b></button>`}
    </div><div class="beside" aria-live="polite" ref=${beside}>
      <h2>Recommended to you</h2>
      <${List} list=${list} ratings=${ratings} card=${card} clear=${clear} isLink=${isLink} likes=${likes} />
    </div></div>`;
}

const count = (number, likes) => many(number, likes ? "like" : "rating");

function Cards({ items, ratings, skipped, give, skip, unskip, card, likes }) {
  const known = new Set(items.map((one) => String(one.item)));
  const others = [...ratings.keys()].filter((id) => !known.has(id));
  const shown = items.filter((one) => !skipped.has(String(one.item)));
  return html`<${Walk} class="cards" label="Items to rate">
    ${others.map((id) => html`<${Other} key=${id} id=${id} value=${ratings.get(id)} give=${give} skip=${skip} card=${card} likes=${likes} />`)}
    ${shown.map((one) => html`<${Card} key=${one.item} one=${one} value=${ratings.get(String(one.item))} give=${give} skip=${skip} card=${card} likes=${likes} />`)}
  </${Walk}>
  ${skipped.size > 0 && html`<p class="hint">${many(skipped.size, "item")} skipped. ${" "}<button type="button" class="link" onClick=${unskip}>Show ${skipped.size === 1 ? "it" : "them"} again</button></p>`}`;
}

function Other({ id, ...rest }) {
  const item = useReply(address("v1/item", { item: id }));
  return html`<${Card} one=${item.data ?? { item: id }} ...${rest} />`;
}

function Card({ one, value, give, skip, card, likes }) {
  return html`<li class=${value === undefined ? "" : "given"} data-item=${one.item}><${ItemLink} of=${one} />
    <span class="choose">
      ${likes ? html`<button type="button" class="like" aria-pressed=${value !== undefined} onClick=${() => give(one.item, value === undefined ? best(card) : null)}>Like</button>`
        : html`<${Stars} value=${value} label=${name(one)} card=${card} onGive=${(stars) => give(one.item, stars)} />`}
      ${skip && html`<button type="button" class="skip-it" aria-label=${`Skip ${name(one)}`} onClick=${() => skip(one.item)}>Skip</button>`}</span></li>`;
}

/** The ratings to choose from: those that occur, or five on the scale. */
function levels(card) {
  if (card.levels && card.levels.length <= 12) return card.levels;
  const [low, high] = card.scale;
  return Array.from({ length: 5 }, (_, at) => Math.round((low + ((high - low) * at) / 4) * 100) / 100);
}

function Stars({ value, label, card, onGive }) {
  const root = useRef(null);
  const choice = levels(card);
  const whole = choice.length === 5 && choice.every((one, at) => one === at + 1);
  const halves = choice.length === 10 && choice.every((one, at) => one === (at + 1) / 2);
  const stars = whole || halves;
  const said = (one) => (stars ? `${plain(one)} star${one === 1 ? "" : "s"}` : plain(one));
  const walk = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...root.current.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    buttons[Math.max(0, Math.min(buttons.length - 1, at + step))].focus();
  };
  return html`<span class=${stars ? "stars" : "levels"} role="radiogroup" aria-label=${`Rating of ${label}`} ref=${root} onKeyDown=${walk}>
    ${choice.map((one, at) => html`<button type="button" key=${one} role="radio" aria-checked=${one === value}
      tabindex=${one === value || (at === 0 && !choice.includes(value)) ? 0 : -1}
      class=${value !== undefined && one <= value ? "on" : ""} aria-label=${said(one)} title=${said(one)}
      onClick=${() => onGive(one === value ? null : one)}>${stars ? html`<${Star} part=${whole ? "whole" : at % 2 ? "right" : "left"} />` : plain(one)}</button>`)}</span>`;
}

const PARTS = { whole: "0 0 24 24", left: "0 0 12 24", right: "12 0 12 24" };

const Star = ({ part }) => html`<svg viewBox=${PARTS[part]} class=${part} aria-hidden="true"><path
  d="m12 2.2 3 6.4 6.9.9-5 4.9 1.2 7-6.1-3.4-6.1 3.4 1.2-7-5-4.9 6.9-.9z" /></svg>`;

function More({ q, ratings, give, card, likes }) {
  const found = useReply(address("v1/items", { q, n: 8 }));
  return html`<${Reply} of=${found} lines=${4}>${(told) => told.items.length === 0
    ? html`<${Empty} title="Nothing found">Nothing has all of “${q}”.</${Empty}>`
    : html`<ul id="more" class="cards">${told.items.map((one) => html`<${Card} key=${one.item} one=${one} value=${ratings.get(String(one.item))}
        give=${give} card=${card} likes=${likes} />`)}</ul>`}</${Reply}>`;
}

/** The list for these ratings, and how long it took. */
function useList(ratings, card) {
  const [state, setState] = useState({ told: null, error: null, took: null, from: 0 });
  const text = write(ratings);
  const [attempt, setAttempt] = useState(0);
  const fetchList = (signal) => {
    const started = performance.now();
    const body = {
      ratings: [...ratings].map(([item, rating]) => ({ item, rating })), n: LENGTH, explain: true,
      ...(card.has_intervals ? { interval: SURE } : {}),
    };
    ask("v1/recommendations", { body, signal }).then(
      (told) => setState({ told, error: null, took: performance.now() - started, from: body.ratings.length }),
      (error) => {
        if (!signal.aborted) setState({ told: null, error, took: null, from: 0 });
      },
    );
  };
  useEffect(() => {
    if (!text) {
      setState({ told: null, error: null, took: null, from: 0 });
      return undefined;
    }
    const control = new AbortController();
    fetchList(control.signal);
    return () => control.abort();
  }, [text, attempt]);
  const retry = () => setAttempt((number) => number + 1);
  useAgain(state.error, retry);
  return { ...state, retry };
}

function List({ list, ratings, card, clear, isLink, likes }) {
  if (!ratings.size) {
    return html`<${Empty} title="Nothing yet">${likes ? "Like" : "Rate"} one item to see the first recommendations.</${Empty}>`;
  }
  if (list.error) return html`<${Trouble} error=${list.error} retry=${list.retry} />`;
  if (!list.told) return html`<p class="hint" role="status">…</p>`;
  const { items, short, warnings } = list.told;
  return html`<p class="hint" data-took=${Math.round(list.took)}>From ${many(list.from, likes ? "like" : "rating")}, in ${Math.max(1, Math.round(list.took))} ms. ${" "}<button type="button" class="link" onClick=${clear}>${isLink ? "Back to mine" : "Begin again"}</button></p>
    <p class="hint">${meaning(card)}</p>
    ${[short, ...warnings].filter(Boolean).map((words) => html`<p class="hint" key=${words}>${words}</p>`)}
    <${Walk} ordered class="recommended" label="Recommendations">${items.map((one) => html`<li key=${one.item}>
      <div class="row"><a class="item" href=${to("items", one.item)} data-stop><bdi>${name(one)}</bdi></a>
        <span class="figure">${card.predicts_ratings && one.rating !== undefined && one.rating !== null ? number(one.rating) : number(one.score, 3)}</span></div>
      ${one.low !== undefined && one.low !== null && html`<p class="sure"><${Range} low=${one.low} high=${one.high} at=${one.rating} scale=${card.scale} />
        <span>${100 * SURE}% sure: ${number(one.low, 1)} to ${number(one.high, 1)}</span></p>`}
      <${Because} of=${one} rated=${card.predicts_ratings ? ratings : null} /></li>`)}</${Walk}>`;
}
