// Where the model is wrong: slices of the test rows, and the rows behind each.
import { html, useEffect, useRef } from "./vendor/htm-preact.module.js";
import { address, useReply } from "./api.js";
import { Empty, ItemLink, Loading, Reply, Sections, Trouble, many, number, plain, signed, useTitle } from "./parts.js";
import { count as counted, to } from "./route.js";

const BY = { "by-users": "activity", "by-items": "popularity" };
const SHOWN = 12;
const WORDS = {
  rating: (key, unit) => `ratings of ${key} ${unit}`,
  activity: (key) => `users with ${key} training rows`,
  popularity: (key) => `items with ${key} training rows`,
  genre: (key) => key,
  decade: (key) => `items of ${key}`,
  period: (key) => `ratings of ${key}`,
  user: (key) => `user ${key}`,
  item: (key) => `item ${key}`,
  all: () => "all test rows",
};

const sliceOf = (key) => BY[key] ?? (key.startsWith("by_") ? key.slice(3).split("-")[0] : null);

export function Errors({ route, card }) {
  useTitle("Errors");
  const errors = useReply("v1/errors");
  const by = route.query.get("slice");
  const key = route.query.get("key") ?? "";
  const n = counted(route.query.get("n"), SHOWN, 200);
  const unit = card.scale?.[1] === 5 ? "stars" : "points";
  return html`<h1>Errors</h1>
    <${Reply} of=${errors} lines=${8}>${(told) => {
      if (told.untested) return html`<${Empty} title="There is nothing to measure on">${told.untested}</${Empty}>`;
      const shown = told.sections.flatMap((section) => section.parts.flatMap((part) => part.figures.map((figure) => sliceOf(figure.key))));
      const rows = html`<${Rows} by=${by} name=${key} n=${n} unit=${unit} ranks=${told.task === "ranking"} />`;
      return html`<p class="lead">${told.lead}</p>
        ${by && !shown.includes(by) && rows}
        <${Sections} sections=${told.sections} slice=${sliceOf}
          onSlice=${(slice, label) => { location.hash = to("errors", null, { slice, key: label }); }}
          after=${(slice) => slice === by && rows} />
        <section id="worst"><h2>${told.task === "ranking" ? "Missed" : "Worst cases"}</h2>
          ${told.costly.length > 0 && html`<${Costly} rows=${told.costly} />`}
          ${by !== "all" && html`<h3>${told.task === "ranking" ? "What the lists missed, the most popular first" : "The predictions furthest off"}</h3>
            <${Rows} by="all" name="" n=${SHOWN} unit=${unit} ranks=${told.task === "ranking"} still />`}
        </section>`;
    }}</${Reply}>`;
}

function Costly({ rows }) {
  return html`<h3>The ${rows.length} items that cost most</h3>
    <div class="scroll" role="region" tabindex="0" aria-label="Items that cost most">
    <table class="wide"><caption>Ordered by their part in the squared error</caption><thead><tr><th scope="col">item</th><th scope="col" class="number">test ratings</th>
      <th scope="col" class="number">RMSE</th><th scope="col" class="number">bias</th><th scope="col" class="number">of the squared error</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.item}><th scope="row"><${ItemLink} of=${row} /></th><td class="number">${row.count}</td>
      <td class="number">${number(row.rmse)}</td><td class="number">${signed(row.bias)}</td>
      <td class="number">${(100 * row.share).toFixed(2)} %</td></tr>`)}</tbody></table></div>`;
}

/** The test rows of a slice. `still` rows do not come into view by themselves. */
export function Rows({ by, name, n = SHOWN, unit = "", ranks = false, still = false, without = null }) {
  const found = useReply(address("v1/errors/rows", { slice: by, key: name, n }));
  const root = useRef(null);
  useEffect(() => {
    if (!still) root.current?.scrollIntoView({ block: "nearest" });
  }, [by, name, still, found.data]);
  const inner = () => {
    if (found.error) return html`<${Trouble} error=${found.error} retry=${found.retry} />`;
    if (!found.data || found.loading) return html`<${Loading} lines=${5} />`;
    const { rows, count, untested } = found.data;
    if (untested) return html`<p class="hint">${untested}</p>`;
    if (!rows.length) return html`<p class="hint">There are no such test rows.</p>`;
    return html`<div class="scroll" role="region" tabindex="0" aria-label="Test rows"><table class="wide">
      <caption>${count > rows.length ? `${rows.length} of ` : ""}${many(count, "test row")}${ranks ? ", the missed first" : ", the furthest off first"}</caption>
      <thead><tr>${without !== "item" && html`<th scope="col">item</th>`}${without !== "user" && html`<th scope="col">user</th>`}
        ${ranks ? html`<th scope="col" class="number">place in the list</th>`
          : html`<th scope="col" class="number">actual</th><th scope="col" class="number">predicted</th><th scope="col" class="number">error</th>`}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${`${row.user} ${row.item}`}>
        ${without !== "item" && html`<td class="name">${row.known_item ? html`<${ItemLink} of=${row} />` : html`<bdi>${row.item}</bdi> (unknown)`}</td>`}
        ${without !== "user" && html`<td>${row.known_user ? html`<a href=${to("users", row.user)}><bdi>${row.user}</bdi></a>` : html`<bdi>${row.user}</bdi> (unknown)`}</td>`}
        ${ranks ? html`<td class="number">${row.place ?? "missed"}</td>`
          : html`<td class="number">${plain(row.rating)}</td><td class="number">${number(row.predicted)}</td>
            <td class=${`number ${row.error > 0 ? "high" : "low"}`}>${signed(row.error)}</td>`}</tr>`)}</tbody></table></div>
      ${count > rows.length && rows.length < 200 && html`<p class="more"><a href=${to("errors", null, { slice: by, key: name, n: Math.min(200, n + 60) })}>More of them</a></p>`}`;
  };
  return html`<div class=${still ? "" : "rows"} ref=${root} data-rows=${`${by}=${name}`}>
    ${!still && html`<h3>Rows: <bdi>${WORDS[by]?.(name, unit) ?? name}</bdi> <a class="close" href=${to("errors")} aria-label="Close the rows">×</a></h3>`}
    ${inner()}</div>`;
}
