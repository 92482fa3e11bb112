// Users: search them, and what one rated beside what would be recommended, and why.
import { html, useState } from "./vendor/htm-preact.module.js";
import { address, useReply } from "./api.js";
import { Bar, Empty, Facts, ItemLink, Range, Reply, Search, Walk, many, name, number, plain, signed, useTitle } from "./parts.js";
import { count, replace, to } from "./route.js";

const AT_ONCE = 60;
const LENGTHS = [10, 20, 50];

export function Users({ route, card }) {
  return route.id === null ? html`<${Found} route=${route} />` : html`<${User} id=${route.id} route=${route} card=${card} />`;
}

function Found({ route }) {
  useTitle("Users");
  const q = route.query.get("q") ?? "";
  const n = count(route.query.get("n"), AT_ONCE, 1000);
  const found = useReply(address("v1/users", { q, n }));
  return html`<h1>Users</h1>
    <${Search} label="Search users" value=${q} into="#found" placeholder="An id"
      onSearch=${(text) => replace(to("users", null, { q: text }))} />
    <${Reply} of=${found} lines=${10}>${(told) => told.users.length === 0
      ? html`<${Empty} title="Nobody found">No user’s id has “${q}”.</${Empty}>`
      : html`<p class="hint" role="status">${many(told.total, "user")}, the most active first</p>
        <${Walk} id="found" class="list narrow" label="Users found">${told.users.map((one) => html`<li key=${one.user}>
          <a href=${to("users", one.user)} data-stop><b>user <bdi>${one.user}</bdi></b><small><span>${many(one.ratings, "training row")}</span></small></a></li>`)}</${Walk}>
        ${told.total > told.users.length && n < 1000 && html`<p class="more"><a href=${to("users", null, { q, n: n + 240 })}>Show more</a></p>`}`}
    </${Reply}>`;
}

function User({ id, route, card }) {
  const n = LENGTHS.includes(Number(route.query.get("n"))) ? Number(route.query.get("n")) : 10;
  const user = useReply(address("v1/user", { user: id, n: 1000 }));
  const held = useReply(address("v1/errors/rows", { slice: "user", key: id, n: 1000 }));
  useTitle(`User ${id}`);
  return html`<p class="back"><a href=${to("users")}>Users</a></p>
    <h1>User <bdi>${id}</bdi></h1>
    <${Reply} of=${user} lines=${8}>${(told) => html`
      <${Facts} facts=${[
        ...(told.ratings === null ? [] : [["Rated", many(told.ratings, "item")]]),
        ...(told.mean === null || !card.predicts_ratings ? [] : [["Mean rating", number(told.mean)]]),
        ...(told.bias === null || !card.predicts_ratings ? [] : [["Bias", bias(told.bias)]]),
        ["Lists come from", BASIS[told.basis] ?? told.basis],
        ...Object.entries(told.attributes ?? {}).filter(([, value]) => value !== null).map(([key, value]) => [key, String(value)]),
      ]} />
      ${told.warnings.map((words) => html`<p class="note" key=${words}>${words}</p>`)}
      <div class="columns wide"><div>
        <h2>Recommended</h2>
        <${List} user=${id} n=${n} card=${card} rated=${card.predicts_ratings ? new Map(told.history.map((one) => [String(one.item), one.rating])) : null}
          held=${held.data && !held.data.untested ? held.data : null} why=${route.query.get("why")} />
      </div><div>
        <h2>${card.predicts_ratings ? "Rated" : "History"}</h2>
        <${History} told=${told} card=${card} />
      </div></div>`}
    </${Reply}>`;
}

const BASIS = {
  model: "what training learned of this user",
  "fold-in": "training rows and feedback since",
  bias: "item biases: nothing is known of this user",
  popularity: "popularity: nothing is known of this user",
  prior: "the prior of the model: nothing is known of this user",
};

function History({ told, card }) {
  const [all, setAll] = useState(false);
  if (!told.history.length) {
    return html`<p class="hint">${card.has_seen ? "Nothing yet." : "The model file was saved without training rows."}</p>`;
  }
  const shown = all ? told.history : told.history.slice(0, 25);
  return html`<${Walk} class="history" label="What the user rated">${shown.map((one) => html`<li key=${one.item}>
      <a href=${to("items", one.item)} data-stop><bdi>${name(one)}</bdi></a>
      ${one.source === "feedback" && html`<span class="mark">new</span>`}
      <span class="figure">${card.scale ? plain(one.rating) : one.rating === 1 ? "" : `${plain(one.rating)} ×`}</span></li>`)}</${Walk}>
    ${told.history.length > shown.length && html`<p><button type="button" class="link" onClick=${() => setAll(true)}>Show all ${told.history.length.toLocaleString("en")}</button></p>`}
    ${told.total > told.history.length && all && html`<p class="hint">${many(told.total - told.history.length, "more")} left out.</p>`}`;
}

/** What the numbers of a list mean. */
export const meaning = (card) =>
  card.predicts_ratings ? `${card.task === "ranking" ? "First comes what people of the same taste choose. " : ""}The figures are predicted ratings${card.scale ? `, from ${plain(card.scale[0])} to ${plain(card.scale[1])}` : ""}.`
    : "The figures are scores: only their order has a meaning.";

const bias = (value) =>
  Math.abs(value) < 0.005 ? "0: rates like the average user" : `${signed(value)}: rates ${value < 0 ? "below" : "above"} the average user`;

function List({ user, n, card, rated, held, why }) {
  const go = (changed) => replace(to("users", user, { n: n === 10 ? null : n, why, ...changed }));
  const exclude = card.has_seen ? null : "false";
  const interval = card.has_intervals ? 0.8 : null;
  const list = useReply(address("v1/recommendations", { user, n, explain: "true", exclude_seen: exclude, interval }));
  const hits = new Map((held?.rows ?? []).map((row) => [String(row.item), row]));
  return html`<p class="switch" role="group" aria-label="Length of the list">${LENGTHS.map((length) => html`<button type="button" key=${length}
      aria-pressed=${length === n} onClick=${() => go({ n: length === 10 ? null : length })}>${length}</button>`)}</p>
    <${Reply} of=${list} lines=${8}>${(told) => html`
      <p class="hint">${meaning(card)}${held && ` ${hitWords(told.items, hits, held.count)}`}</p>
      ${!card.has_seen && html`<p class="hint">What the user has rated may be among these: the model file was saved without training rows.</p>`}
      ${told.short && html`<p class="hint">${told.short}</p>`}
      <${Walk} ordered class="recommended" label="Recommendations">${told.items.map((one) => {
        const hit = hits.get(String(one.item));
        const isOpen = why === String(one.item);
        return html`<li key=${one.item} class=${hit ? "hit" : ""}>
          <div class="row"><${ItemLink} of=${one} />
            ${hit && html`<span class="mark">held out${hit.rating === undefined ? "" : `: ${plain(hit.rating)}`}</span>`}
            <span class="figure">${card.predicts_ratings && one.rating !== undefined ? number(one.rating) : number(one.score, 3)}</span>
            <button type="button" class="why" data-stop aria-expanded=${isOpen} aria-label=${`Why ${name(one)}`} onClick=${() => go({ why: isOpen ? null : one.item })}>Why</button></div>
          ${one.low !== undefined && one.low !== null && html`<p class="sure"><${Range} low=${one.low} high=${one.high} at=${one.rating} scale=${card.scale} />
            <span>80% sure: ${number(one.low, 1)} to ${number(one.high, 1)}</span></p>`}
          <${Because} of=${one} rated=${rated} />
          ${isOpen && html`<${Why} user=${user} item=${one.item} rated=${rated} />`}</li>`;
      })}</${Walk}>`}
    </${Reply}>`;
}

function hitWords(items, hits, total) {
  if (!total) return "Nothing of this user was held out for testing.";
  const found = items.filter((one) => hits.has(String(one.item))).length;
  return `${found === 0 ? "None" : found} of ${many(total, "held-out item")} ${found === 1 ? "is" : "are"} among these ${items.length}.`;
}

/** The ratings that raised an item in the list; `rated` has the user's ratings, where they are known. */
export function Because({ of, rated }) {
  const reasons = of.because ?? [];
  if (of.because && !reasons.length) return html`<p class="because">popular with everyone</p>`;
  if (!reasons.length) return null;
  return html`<p class="because">because of ${reasons.map((one, at) => html`${at > 0 && (at === reasons.length - 1 ? " and " : ", ")}<bdi>${name(one)}</bdi>${rated?.has(String(one.item)) && html` <small>rated ${plain(rated.get(String(one.item)))}</small>`}`)}</p>`;
}

const PARTS = {
  mean: "mean of all ratings", "item bias": "how the item is rated", "user bias": "how the user rates",
  "average user": "what an average user likes", rest: "what ratings do not account for", "other ratings": "all other ratings",
};
const AT_MOST = 8;

/** The parts of a score, which add up to it. `rated` has the user's ratings, where they are known. */
export function Why({ user, item, rated }) {
  const why = useReply(address("v1/explanation", { user, item }));
  return html`<div class="parts"><${Reply} of=${why} lines=${4}>${(told) => html`<${Parts} told=${told} rated=${rated} />`}</${Reply}></div>`;
}

export function Parts({ told, rated }) {
  const ratings = told.parts.filter((one) => one.part === "rating");
  const kept = new Set(ratings.slice(0, AT_MOST));
  const others = told.parts.filter((one) => (one.part === "rating" && !kept.has(one)) || one.part === "other ratings");
  const rest = others.reduce((sum, one) => sum + one.contribution, 0);
  const shown = told.parts.filter((one) => kept.has(one) || !["rating", "other ratings"].includes(one.part));
  if (others.length) shown.push({ part: "other ratings", contribution: rest });
  const most = Math.max(...shown.map((one) => Math.abs(one.contribution)), 1e-9);
  const isRated = told.seen;
  return html`<table><caption>Parts that add up to the score of ${number(told.score, 3)}${isRated
      ? `. The user has rated this item; if it were new, it would have rank ${rank(told)} among what is new to the user`
      : `, rank ${rank(told)} of what is new to the user`}</caption>
    <tbody>${shown.map((one) => html`<tr key=${one.part + (one.item ?? "")}>
      <th scope="row">${one.part === "rating" ? html`<bdi>${name(one)}</bdi> <small>rated ${plain(one.rating)}</small>` : PARTS[one.part] ?? one.part}</th>
      <td class="number">${signed(one.contribution, 3)}</td><td class="bars"><${Bar} value=${one.contribution} most=${most} both /></td></tr>`)}</tbody></table>
    ${told.without && html`<p class="hint"><${Without} told=${told} /></p>`}`;
}

const rank = ({ rank }) => rank.toLocaleString("en");

/** What taking away the ratings that carry an item would do to its rank. */
function Without({ told }) {
  const { items, leaves } = told.without;
  if (!items.length) return "No rating of this user speaks for the item.";
  const named = items.map((item, at) => html`${at > 0 && ", "}<bdi>${titleIn(told, item)}</bdi>`);
  const ratings = html`${items.length === 1 ? "one rating" : `${items.length} ratings`} (${named})`;
  if (told.without.rank === told.rank) return html`Even without ${ratings} it would keep rank ${rank(told)}.`;
  return html`Without ${ratings} it would have rank ${rank(told.without)} and ${leaves ? "leave" : "stay in"} the list.`;
}

const titleIn = (told, item) => name(told.parts.find((one) => String(one.item) === String(item)) ?? { item });
