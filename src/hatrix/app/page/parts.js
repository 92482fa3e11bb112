// What screens are made of: states, links, lists, tables, facts.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { Figure } from "./charts.js";
import { to } from "./route.js";

const whole = new Intl.NumberFormat("en");
export const many = (number, noun) => `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;
export const number = (value, digits = 2) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
export const signed = (value, digits = 2) => (value > 0 ? "+" : "") + number(value, digits);
export const plain = (value) => (value === null || value === undefined ? "–" : String(Math.round(value * 1000) / 1000));

export function Loading({ lines = 4, words = "Loading" }) {
  return html`<div class="loading" role="status"><span class="hidden">${words} …</span>
    ${Array.from({ length: lines }, (_, at) => html`<i key=${at} aria-hidden="true"></i>`)}</div>`;
}

const HEADS = {
  unreachable: "The service does not answer",
  "unknown-item": "There is no such item",
  "unknown-user": "There is no such user",
  overloaded: "The service is busy",
  "no-seen": "The model does not know who rated what",
  unsupported: "This model cannot tell",
  "not-found": "There is nothing here",
};

export function Trouble({ error, retry }) {
  const again = retry && [0, 408, 429, 500, 502, 503, 504].includes(error.status);
  return html`<div class="trouble" role="alert"><h3>${HEADS[error.code] ?? "That did not work"}</h3>
    <p><bdi>${error.message}</bdi></p>
    ${again && html`<button type="button" onClick=${retry}>Try again</button>`}</div>`;
}

/** What came of a reply: a skeleton, an error, or what the children make of the data. */
export function Reply({ of, lines, children }) {
  if (of.error) return html`<${Trouble} error=${of.error} retry=${of.retry} />`;
  if (!of.data) return html`<${Loading} lines=${lines} />`;
  return html`<div class=${of.loading ? "stale" : ""} aria-busy=${of.loading}>${children(of.data)}</div>`;
}

export const Empty = ({ title, children }) => html`<div class="empty"><h3>${title}</h3><p>${children}</p></div>`;

export const name = (one) => one.title || `item ${one.item}`;

export const ItemLink = ({ of, children }) =>
  html`<a class="item" href=${to("items", of.item)}><bdi>${name(of)}</bdi></a>${children}`;

export const UserLink = ({ user }) => html`<a class="user" href=${to("users", user)}>user <bdi>${user}</bdi></a>`;

export function Attributes({ of }) {
  const shown = Object.entries(of ?? {}).filter(([, value]) => value !== null && value !== "");
  if (!shown.length) return null;
  return html`<ul class="tags">${shown.flatMap(([key, value]) =>
    (key === "genres" ? String(value).split("|") : [key === "year" ? value : `${key}: ${value}`])
      .map((text) => html`<li key=${key + text}><bdi>${text}</bdi></li>`))}</ul>`;
}

export const Facts = ({ facts }) =>
  html`<dl class="facts">${facts.map(([term, fact]) =>
    html`<div key=${term}><dt>${term}</dt><dd><bdi>${fact}</bdi></dd></div>`)}</dl>`;

export const Tiles = ({ tiles }) =>
  html`<dl class="tiles">${tiles.map((tile, at) =>
    html`<div key=${tile.name} class=${at === 0 ? "first" : ""}><dt>${tile.name}</dt>
      <dd>${tile.value}${tile.note && html`<small>${tile.note}</small>`}</dd></div>`)}</dl>`;

/** A table as the report has it; `link` makes an address of the first cell of a row. */
export function Table({ table, link }) {
  const cell = (content) =>
    typeof content === "string"
      ? html`<bdi>${content}</bdi>`
      : html`<bdi>${content[0]}</bdi><small><bdi>${content[1]}</bdi></small>`;
  const shown = html`<div class="scroll" role="region" tabindex="0" aria-label=${table.caption}>
    <table class=${table.wide ? "wide" : ""}><caption>${table.caption}</caption>
    <thead><tr>${table.head.map(([label, numeric]) =>
      html`<th key=${label} scope="col" class=${numeric ? "number" : ""}>${label}</th>`)}</tr></thead>
    <tbody>${table.rows.map((row, at) => html`<tr key=${at}>${row.map((content, column) => {
      const inside = column === 0 && link ? html`<a href=${link(content)}>${cell(content)}</a>` : cell(content);
      const kind = table.head[column][1] ? "number" : "";
      return column === 0 ? html`<th scope="row" class=${kind}>${inside}</th>` : html`<td class=${kind}>${inside}</td>`;
    })}</tr>`)}</tbody></table></div>`;
  return table.folded ? html`<details><summary>${table.folded}</summary>${shown}</details>` : shown;
}

/** Sections of the report; `slice` tells which slices a chart shows, `onSlice` what to do with one, `after` what follows. */
export function Sections({ sections, slice, onSlice, after }) {
  return sections.map((section) => html`<section key=${section.key} id=${section.key}>
    <h2>${section.title}</h2>
    ${section.words.map((words) => html`<p key=${words}>${words}</p>`)}
    ${section.parts.map((part, at) => {
      const by = part.figures.map((figure) => slice?.(figure.key)).find(Boolean);
      return html`<div class="part" key=${part.title + at}>
        ${part.title && html`<h3>${part.title}</h3>`}
        ${part.words.map((words) => html`<p key=${words}>${words}</p>`)}
        ${part.facts.length > 0 && html`<${Facts} facts=${part.facts} />`}
        ${part.figures.length > 0 && html`<div class=${`figures${part.figures.length > 1 ? " pair" : ""}`}>
          ${part.figures.map((figure) => html`<${Figure} key=${figure.key} figure=${figure}
            onPick=${by && ((label) => onSlice(by, label))} />`)}</div>`}
        ${by && html`<p class="hint press">Press a part of the chart, or its name in the numbers, to see its rows.</p>`}
        ${part.tables.map((table, place) => html`<${Table} key=${place} table=${table}
          link=${by && ((label) => to("errors", null, { slice: by, key: label }))} />`)}
        ${by && after?.(by)}</div>`;
    })}</section>`);
}

/** A list whose links are walked by the arrow keys. */
export function Walk({ children, label, ordered = false, ...rest }) {
  const root = useRef(null);
  const walk = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || event.target.matches("input, select, textarea")) return;
    const stops = [...root.current.querySelectorAll("[data-stop], :scope > li > a, :scope > li > button")];
    const at = stops.findIndex((stop) => stop.contains(document.activeElement));
    if (at < 0) return;
    event.preventDefault();
    stops[Math.max(0, Math.min(stops.length - 1, at + step))].focus();
  };
  return ordered
    ? html`<ol ref=${root} onKeyDown=${walk} aria-label=${label} ...${rest}>${children}</ol>`
    : html`<ul ref=${root} onKeyDown=${walk} aria-label=${label} ...${rest}>${children}</ul>`;
}

/** A field to search by; what is typed is told a moment after the last key, and arrow down leads into the list. */
export function Search({ label, value, onSearch, placeholder, into }) {
  const [text, setText] = useState(value);
  const told = useRef(value);
  useEffect(() => {
    if (value !== told.current) {
      told.current = value;
      setText(value);
    }
  }, [value]);
  useEffect(() => {
    if (text === told.current) return undefined;
    const timer = setTimeout(() => {
      told.current = text;
      onSearch(text);
    }, 180);
    return () => clearTimeout(timer);
  }, [text]);
  const down = (event) => {
    const first = document.querySelector(`${into} a, ${into} button`);
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      first.focus();
    }
    if (event.key === "Enter") {
      told.current = text;
      onSearch(text);
    }
  };
  return html`<label class="search"><span class="hidden">${label}</span>
    <input type="search" data-search value=${text} placeholder=${placeholder} autocomplete="off" spellcheck="false"
      onInput=${(event) => setText(event.target.value)} onKeyDown=${down} /><kbd aria-hidden="true">/</kbd></label>`;
}

/** A share of a whole as a bar, from the left or from a middle that stands for nothing. */
export function Bar({ value, most, both = false }) {
  const share = most > 0 ? Math.min(1, Math.abs(value) / most) : 0;
  const width = `${(both ? 50 : 100) * share}%`;
  const left = both ? (value < 0 ? `${50 * (1 - share)}%` : "50%") : "0";
  return html`<span class=${`bar${both ? " both" : ""}${value < 0 ? " less" : ""}`} aria-hidden="true"><i style=${{ width, left }}></i></span>`;
}

/** A predicted rating inside its interval, on the scale. */
export function Range({ low, high, at, scale }) {
  const place = (value) => Math.max(0, Math.min(100, (100 * (value - scale[0])) / (scale[1] - scale[0] || 1)));
  return html`<span class="range" aria-hidden="true"><i style=${{ left: `${place(low)}%`, width: `${place(high) - place(low)}%` }}></i>
    <b style=${{ left: `${place(at)}%` }}></b></span>`;
}

export function useTitle(text) {
  useEffect(() => {
    document.title = text ? `${text} – hatrix` : "hatrix";
  }, [text]);
}
