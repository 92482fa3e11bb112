"""Charts in notebooks: each output holds the chart and the libraries that draw it, so that no network is needed.

Altair's own display asks a content-delivery network for Vega. Charts of this project bring the copy of Vega that the
report uses, compressed, in a frame of their own. The frame works in Jupyter, VS Code and Colab, and in pages that
nbconvert makes. An output takes about 370 kB.

If you choose another of Altair's renderers, such as ``alt.renderers.enable("png")``, it is used. Importing this module
registers the renderer ``"hatrix"``, so that ``alt.renderers.enable("hatrix")`` shows any Altair chart without a network.

Examples
--------
>>> import pandas as pd
>>> from hatrix.evaluation import charts
>>> chart = charts.rounded_errors(pd.DataFrame({"error": [0, 1], "count": [7, 3]}))
>>> shown = chart._repr_mimebundle_()
>>> sorted(shown), "http" in shown["text/html"].split("<iframe")[0]
(['text/html', 'text/plain'], False)
"""

from __future__ import annotations

import gzip
import html
from base64 import b64encode
from functools import cache
from typing import TYPE_CHECKING, Any

import altair as alt

from hatrix.evaluation import report

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RENDERER", "HConcatChart", "LayerChart", "offline", "render"]

RENDERER = "hatrix"
LEAST = 120
"""Height of a frame in pixels before its chart is drawn."""

STYLE = """
body { margin: 0; padding: 4px 0; font: 14px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
#vg-tooltip-element {
  visibility: hidden; position: fixed; z-index: 1000; padding: 6px 9px; border: 1px solid #dde2e8; border-radius: 6px;
  background: #ffffff; color: #18212c; font-size: 12px; line-height: 1.4; pointer-events: none;
}
#vg-tooltip-element.visible { visibility: visible; }
#vg-tooltip-element td { padding: 1px 8px 1px 0; }
#vg-tooltip-element td.key { color: #55606e; }
"""
SCRIPT = """
"use strict";
(async () => {
  const place = document.getElementById("chart");
  const fit = () => {
    try {
      frameElement.style.height = `${document.documentElement.offsetHeight}px`;
    } catch {
      // the frame is of another origin, and keeps its height
    }
  };
  try {
    const packed = Uint8Array.from(atob(document.getElementById("libraries").textContent), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    for (const text of JSON.parse(await new Response(stream).text())) {
      const script = document.createElement("script");
      script.textContent = text;
      document.head.append(script);
    }
    const spec = JSON.parse(document.getElementById("spec").textContent);
    await vegaEmbed(place, spec, {
      mode: "vega-lite", renderer: "svg", actions: false,
      ast: true, // interpreted expressions: the policy forbids compiling them
      defaultStyle: false, tooltip: { disableDefaultStyle: true },
    });
    document.documentElement.dataset.chart = "drawn";
  } catch (error) {
    place.textContent = `This chart could not be drawn: ${error.message}`;
    console.error(error);
  }
  fit();
})();
"""


@cache
def _libraries() -> tuple[list[str], str]:
    """Return the scripts that draw a chart, as a list and as one compressed text."""
    from pydantic_core import to_json

    scripts = [report.library(name) for name in report.LIBRARIES]
    return scripts, b64encode(gzip.compress(to_json(scripts), 9, mtime=0)).decode()


def page(spec: Mapping[str, Any]) -> str:
    """Return a whole HTML page that draws one chart, loads nothing and runs no script but its own."""
    from jinja2.utils import htmlsafe_json_dumps

    scripts, packed = _libraries()
    policy = report.policy(STYLE, [SCRIPT, *scripts])
    data = htmlsafe_json_dumps(spec, allow_nan=False, separators=(",", ":"))
    return (
        '<!doctype html><html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}"><style>{STYLE}</style></head>'
        f'<body><div id="chart"></div><script type="application/json" id="spec">{data}</script>'
        f'<script type="text/plain" id="libraries">{packed}</script><script>{SCRIPT}</script></body></html>'
    )


def render(spec: Mapping[str, Any], **_: Any) -> dict[str, str]:
    """Return what a notebook shows for a chart: a frame with all that it needs, and a line of text for a terminal.

    Parameters
    ----------
    spec
        The chart as Vega-Lite.

    Returns
    -------
    dict
        ``text/html`` and ``text/plain``.
    """
    words = str(spec.get("description") or "A chart")
    return {
        "text/html": f'<iframe srcdoc="{html.escape(page(spec))}" title="{html.escape(words)}" '
        f'style="width: 100%; height: {LEAST}px; border: 0;"></iframe>',
        "text/plain": f"<chart: {words}>",
    }


alt.renderers.register(RENDERER, render)


class _Offline:
    """A mixin for charts that notebooks show without a network, unless another renderer was chosen."""

    def _repr_mimebundle_(self, *args: Any, **options: Any) -> Any:
        chosen = alt.renderers.active
        with alt.renderers.enable(RENDERER if chosen == "default" else chosen):
            return super()._repr_mimebundle_(*args, **options)  # type: ignore[misc]


class LayerChart(_Offline, alt.LayerChart):
    """A layered chart that needs no network."""


class HConcatChart(_Offline, alt.HConcatChart):
    """A chart of charts side by side that needs no network."""


OFFLINE = {alt.LayerChart: LayerChart, alt.HConcatChart: HConcatChart}


def offline(chart: Any) -> Any:
    """Return the chart as one that notebooks show without a network."""
    # Altair's functions build charts of Altair's classes, and a chart treats each attribute that is set as a part of it.
    object.__setattr__(chart, "__class__", OFFLINE[type(chart)])
    return chart
