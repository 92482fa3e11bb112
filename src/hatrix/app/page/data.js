// The data that the model was trained on.
import { html } from "./vendor/htm-preact.module.js";
import { useReply } from "./api.js";
import { Figure } from "./charts.js";
import { Facts, Reply, many, useTitle } from "./parts.js";

export function DataScreen({ card }) {
  useTitle("Data");
  const data = useReply("v1/data");
  return html`<h1>The data</h1>
    <p class="lead"><bdi>${card.data}</bdi>: what the model was trained on.</p>
    <${Reply} of=${data} lines=${8}>${(told) => html`
      <p>${told.words}</p>
      <${Facts} facts=${told.facts} />
      <div class="figures pair">${told.figures.map((figure) => html`<${Figure} key=${figure.key} figure=${figure} />`)}</div>
      <section><h2>How it was read</h2>${told.read ? html`<${Read} read=${told.read} counts=${!card.scale} />` : html`<p class="hint">${told.unread}</p>`}</section>`}
    </${Reply}>`;
}

function Read({ read, counts }) {
  const kinds = [["records", "Records"], ["accepted", "Accepted"], ["rejected", "Rejected"], ["blank", "Blank lines"],
    ["header", "Header lines"], ["duplicates", counts ? "Repeated, and added up" : "Repeated, of which the latest counts"]];
  return html`<p>${read.rejected
      ? `${many(read.rejected, "record")} of ${read.records.toLocaleString("en")} could not be read and were left out.`
      : `All ${read.records.toLocaleString("en")} records could be read.`}</p>
    <${Facts} facts=${kinds.map(([key, label]) => [label, read[key].toLocaleString("en")])} />
    ${read.errors.length > 0 && html`<div class="scroll" role="region" tabindex="0" aria-label="Rejected records"><table class="wide">
      <caption>The first that were rejected</caption><thead><tr><th scope="col">file</th><th scope="col" class="number">line</th><th scope="col">reason</th></tr></thead>
      <tbody>${read.errors.map(([file, line, reason]) => html`<tr key=${`${file} ${line}`}><th scope="row"><bdi>${file}</bdi></th><td class="number">${line}</td><td><bdi>${reason}</bdi></td></tr>`)}</tbody></table></div>`}`;
}
