// Items: search them, and what is known of one.
import { html } from "./vendor/htm-preact.module.js";
import { address, useReply } from "./api.js";
import { Figure } from "./charts.js";
import { Rows } from "./errors.js";
import { Attributes, Bar, Empty, Facts, Reply, Search, UserLink, Walk, many, name, number, plain, signed, useTitle } from "./parts.js";
import { best, write } from "./rate.js";
import { count, replace, to } from "./route.js";

const AT_ONCE = 40;

export function Items({ route, card }) {
  return route.id === null ? html`<${Found} route=${route} card=${card} />` : html`<${Item} id=${route.id} card=${card} />`;
}

function Found({ route, card }) {
  useTitle("Items");
  const q = route.query.get("q") ?? "";
  const n = count(route.query.get("n"), AT_ONCE, 1000);
  const found = useReply(address("v1/items", { q, n }));
  return html`<h1>Items</h1>
    <${Search} label="Search items" value=${q} into="#found" placeholder=${card.has_titles ? "A title, or an id" : "An id"}
      onSearch=${(text) => replace(to("items", null, { q: text }))} />
    ${!card.has_titles && html`<p class="hint">The model has no titles, so items go by their ids.</p>`}
    <${Reply} of=${found} lines=${10}>${(told) => told.items.length === 0
      ? html`<${Empty} title="Nothing found">No ${card.has_titles ? "title" : "id"} has all of “${q}”.</${Empty}>`
      : html`<p class="hint" role="status">${many(told.total, "item")}${q ? "" : ", the most rated first"}</p>
        <${Walk} id="found" class="list" label="Items found">${told.items.map((item) => html`<li key=${item.item}>
          <a href=${to("items", item.item)} data-stop><b><bdi>${name(item)}</bdi></b>
            <small>${card.has_titles && html`<span><bdi>${item.item}</bdi></span>`}${item.attributes?.genres && html`<span><bdi>${item.attributes.genres.replaceAll("|", ", ")}</bdi></span>`}
            <span>${many(item.ratings, !card.predicts_ratings ? "row" : "rating")}</span></small></a></li>`)}</${Walk}>
        ${told.total > told.items.length && n < 1000 && html`<p class="more"><a href=${to("items", null, { q, n: n + 160 })}>Show more</a></p>`}`}
    </${Reply}>`;
}

function Item({ id, card }) {
  const item = useReply(address("v1/item", { item: id }));
  useTitle(item.data ? name(item.data) : "Items");
  const rows = !card.predicts_ratings ? "rows" : "ratings";
  return html`<p class="back"><a href=${to("items")}>Items</a></p>
    <${Reply} of=${item} lines=${8}>${(told) => html`
      <h1><bdi>${name(told)}</bdi></h1>
      <${Attributes} of=${told.attributes} />
      <p class="ways">${card.has_factors && html`<a class="button quiet" href=${to("map", null, { item: told.item })}>On the map</a>`}
        <a class="button quiet" href=${to("rate", null, { r: write(new Map([[told.item, best(card)]])) })}>What goes with it</a></p>
      <div class="columns"><div>
        <h2>What is known of it</h2>
        <${Facts} facts=${[
          ["Id", String(told.item)],
          [`Training ${rows}`, `${told.ratings.toLocaleString("en")}, rank ${told.rank.toLocaleString("en")} of ${card.items.toLocaleString("en")}`],
          ...(told.mean === null || !card.predicts_ratings ? [] : [["Mean rating", number(told.mean)]]),
          ...(told.bias === null ? [] : [["Bias", bias(told.bias, card)]]),
        ]} />
        <${Audience} item=${told.item} card=${card} />
      </div><div>
        <h2>Similar items</h2>
        ${card.has_factors ? html`<${Similar} item=${told.item} />` : html`<p class="hint">A ${card.algorithm} model has no factors, so it knows of no likeness.</p>`}
      </div></div>
      <section><h2>Test rows of it</h2><${Rows} by="item" name=${String(told.item)} ranks=${!card.predicts_ratings} without="item" still /></section>`}
    </${Reply}>`;
}

function bias(value, card) {
  if (!card.predicts_ratings) return signed(value, 3);
  return Math.abs(value) < 0.005 ? "0: rated like the average item" : `${signed(value)}: rated ${value < 0 ? "below" : "above"} the average item`;
}

export function Similar({ item, n = 12, onPick }) {
  const similar = useReply(address("v1/similar-items", { item, n }));
  return html`<${Reply} of=${similar} lines=${6}>${(told) => told.items.length === 0
    ? html`<p class="hint">${told.short ?? "There are none."}</p>`
    : html`<${Walk} ordered class="ranked" label="Similar items">${told.items.map((one) => html`<li key=${one.item}>
      ${onPick ? html`<button type="button" class="plain" data-stop onClick=${() => onPick(one.item)}><bdi>${name(one)}</bdi></button>`
        : html`<a href=${to("items", one.item)} data-stop><bdi>${name(one)}</bdi></a>`}
      <span class="figure" title="cosine of the factors">${number(one.score)}</span><${Bar} value=${one.score} most=${1} /></li>`)}</${Walk}>`}
  </${Reply}>`;
}

function Audience({ item, card }) {
  const audience = useReply(address("v1/audience", { item }));
  return html`<${Reply} of=${audience} lines=${6}>${({ figures, raters, listed }) => html`
    ${figures.map((figure) => html`<${Figure} key=${figure.key} figure=${figure} />`)}
    <h2>Who would get it</h2>
    <p>${listed.count === 0 ? `It is among the first ${listed.length} recommendations of none of ${many(listed.users, "user")}.`
      : `It is among the first ${listed.length} recommendations of ${listed.count.toLocaleString("en")} of ${many(listed.users, "user")}, ${((100 * listed.count) / Math.max(1, listed.users)).toFixed(1)}%.`}</p>
    ${listed.first.length > 0 && html`<${Walk} class="chips" label="Users whose list has it">${listed.first.map((one) => html`<li key=${one.user}>
      <a href=${to("users", one.user)} data-stop>user <bdi>${one.user}</bdi> <small>place ${one.place}</small></a></li>`)}</${Walk}>`}
    ${raters.length > 0 && html`<h3>${!card.predicts_ratings ? "Some who have it" : "Some who rated it"}</h3>
      <ul class="chips">${raters.map((one) => html`<li key=${one.user}><${UserLink} user=${one.user} />
        ${card.predicts_ratings && html` <small>${plain(one.rating)}</small>`}</li>`)}</ul>`}`}
  </${Reply}>`;
}
