// What the model is and how good it is.
import { html } from "./vendor/htm-preact.module.js";
import { useReply } from "./api.js";
import { Reply, Sections, Tiles, useTitle } from "./parts.js";
import { to } from "./route.js";

export function Overview({ card }) {
  const overview = useReply("v1/overview");
  useTitle(overview.data?.title);
  return html`<${Reply} of=${overview} lines=${8}>${(told) => html`
    <h1><bdi>${told.title}</bdi></h1>
    <p class="lead">${told.lead}</p>
    <${Tiles} tiles=${told.tiles} />
    ${told.findings.length > 0 && html`<ul class="findings">${told.findings.map((words) => html`<li key=${words}>${words}</li>`)}</ul>`}
    ${told.untested && html`<div class="note"><h3>No figures of test ratings</h3><p>${told.untested}</p></div>`}
    ${told.warnings.length > 0 && html`<div class="warnings" role="note"><h3>To be aware of</h3>
      <ul>${told.warnings.map((words) => html`<li key=${words}>${words}</li>`)}</ul></div>`}
    <p class="ways"><a class="button" href=${to("rate")}>Rate a few and get recommendations</a>
      ${!told.untested && html`<a class="button quiet" href=${to("errors")}>See where it is wrong</a>`}
      ${card.has_factors && html`<a class="button quiet" href=${to("map")}>Look at the map</a>`}</p>
    <${Sections} sections=${[...told.sections].sort((one, other) => rank(one) - rank(other))} />
    <p class="hint">hatrix ${told.version}; model version ${told.model}, loaded ${told.loaded}.</p>`}
  </${Reply}>`;
}

/** Curves before the long lists of facts. */
const rank = (section) => ["training", "sure", "run"].indexOf(section.key);
