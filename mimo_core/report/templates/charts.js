"use strict";
(() => {
  const NAMED = /^\$(ink|muted|input|restored|good|bad|s[0-7])$/;
  const charts = JSON.parse(document.getElementById("chart-data").textContent);
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  // Custom properties that depend on the theme have a value only where they are used.
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const coloured = (value) => {
    if (typeof value === "string") return NAMED.test(value) ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
    }
    return value;
  };
  const config = () => {
    const [ink, muted, line] = ["ink", "muted", "line"].map(colour);
    const font = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif";
    return {
      background: null,
      font,
      view: { stroke: null },
      axis: {
        labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 160,
      },
      axisX: { grid: false },
      legend: { labelColor: ink, labelFontSize: 12, labelLimit: 220, symbolType: "square" },
      text: { fill: ink, fontSize: 12 },
    };
  };
  // A click on a bar or a point asks the table of all images for those that it shows.
  const lead = (element, view) => {
    const { rows, columns } = charts[element.dataset.chart];
    if (!Object.keys(columns).length) return;
    element.classList.add("leads");
    view.addEventListener("click", (event, item) => {
      const datum = item && item.datum;
      if (!datum) return;
      const column = columns[datum.series];
      let filter = "";
      if (columns.key && datum.key !== undefined) filter = datum.key.includes('"') ? datum.key : `"${datum.key}"`;
      else if (column && datum.count !== undefined) {
        const last = Math.max(...rows.map((row) => (row.high === undefined ? -Infinity : row.high)));
        filter = `${column}>=${datum.low} ${column}${datum.high === last ? "<=" : "<"}${datum.high}`;
      }
      if (filter) document.dispatchEvent(new CustomEvent("imagefilter", { detail: filter }));
    });
  };
  const drawn = new Map();
  const draw = async (element) => {
    const { spec, rows } = charts[element.dataset.chart];
    const full = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      width: "container",
      autosize: { type: "fit-x", contains: "padding" },
      ...coloured(spec),
      data: { values: rows },
    };
    const options = {
      actions: false,
      // An interpreter instead of compiled expressions: the page's policy allows no evaluation.
      ast: true,
      config: config(),
      defaultStyle: false,
      renderer: rows.length > 1500 ? "canvas" : "svg",
      tooltip: { disableDefaultStyle: true },
    };
    drawn.get(element)?.finalize();
    const made = await vegaEmbed(element, full, options);
    drawn.set(element, made);
    lead(element, made.view);
    element.dataset.drawn = String(Number(element.dataset.drawn || 0) + 1);
  };
  const drawAll = () => Promise.all([...document.querySelectorAll("[data-chart]")].map(draw));
  document.addEventListener("themechange", drawAll);
  drawAll();
})();
