"use strict";
(async () => {
  const look = JSON.parse(document.getElementById("look").textContent);
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, config: look,
    ast: true, // interpreted expressions: the policy forbids compiling them
    defaultStyle: false, tooltip: { disableDefaultStyle: true },
  };
  for (const script of document.querySelectorAll("script[data-chart]")) {
    const place = document.getElementById(script.dataset.chart);
    try {
      await vegaEmbed(place, JSON.parse(script.textContent), options);
    } catch (error) {
      place.textContent = "This chart could not be drawn: " + error.message;
      console.error(error);
    }
  }
  document.documentElement.dataset.charts = "drawn";
})();
