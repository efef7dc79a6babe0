"use strict";
// The table of all images: only the rows that are in sight are in the page.
(async () => {
  const host = document.getElementById("all-images");
  const [filter, state, told] = ["all-filter", "all-state", "all-count"].map((id) => document.getElementById(id));
  if (!("DecompressionStream" in window)) {
    told.textContent = "This browser is too old for the table; the records hold all of it.";
    return;
  }
  const bytes = Uint8Array.from(atob(document.getElementById("image-data").textContent), (one) => one.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { keys, states, columns, reasons, links, sort } = JSON.parse(await new Response(unpacked).text());

  for (const column of columns) {
    if (column.values) column.values = Float64Array.from(column.values, (one) => (one === null ? NaN : one === "inf" ? Infinity : one / 10 ** column.scale));
  }
  const byName = new Map(columns.map((column) => [column.name, column]));
  for (const column of columns.filter((one) => one.less)) {
    const [after, before] = column.less.map((name) => byName.get(name).values);
    column.values = after.map((value, row) => (Number.isFinite(value - before[row]) ? value - before[row] : NaN));
  }
  const shownAs = (column, row) => {
    const value = column.values[row];
    if (Number.isNaN(value)) return "–";
    if (value === Infinity) return "∞";
    // What rounds to nothing has no sign that would mean something.
    const text = value.toFixed(column.digits).replace(/^-(0(?:\.0*)?)$/, "$1");
    return (column.less && value > 0 ? `+${text}` : text).replace("-", "−");
  };
  const stateOf = (row) => states.names[states.rows[row]];
  const fileOf = (link, row) => (row in link.others ? link.others[row] : link.prefix + keys[row]);
  const address = (path) => path.split("/").map(encodeURIComponent).join("/");

  // The columns as they stand: the key, the state and its reason, scores, links, sizes.
  const numbered = (column) => ({ name: column.name, title: column.title, kind: "number", text: (row) => shownAs(column, row), values: column.values });
  const cells = [
    { name: "key", title: "Image", kind: "key", text: (row) => keys[row], order: (one, two) => (keys[one] < keys[two] ? -1 : keys[one] > keys[two] ? 1 : 0) },
    ...(states.names.length > 1 ? [{ name: "state", title: "State", kind: "word", text: stateOf, order: (one, two) => states.rows[one] - states.rows[two] }] : []),
    ...(Object.keys(reasons).length ? [{ name: "reason", title: "Reason", kind: "reason", text: (row) => reasons[row] || "" }] : []),
    ...columns.filter((column) => column.digits).map(numbered),
    ...(links.length ? [{ name: "files", title: "Files", kind: "files" }] : []),
    ...columns.filter((column) => !column.digits).map(numbered),
  ];

  const counts = states.names.map((_, number) => states.rows.reduce((sum, one) => sum + (one === number), 0));
  state.append(new Option(`all (${keys.length.toLocaleString("en")})`, ""));
  states.names.forEach((name, number) => state.append(new Option(`${name} (${counts[number].toLocaleString("en")})`, name)));

  const view = host.querySelector(".rows");
  const head = view.querySelector("thead tr");
  const body = view.querySelector("tbody");
  view.querySelector("table").setAttribute("aria-colcount", cells.length);
  let order = { name: sort || "key", down: false };
  let shown = [];

  for (const cell of cells) {
    const th = document.createElement("th");
    th.scope = "col";
    th.className = cell.kind;
    th.dataset.name = cell.name;
    if (cell.order || cell.values) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.title;
      button.title = cell.kind === "number" ? `${cell.title}; in a filter ${cell.name}` : cell.title;
      button.addEventListener("click", () => {
        order = { name: cell.name, down: order.name === cell.name ? !order.down : false };
        arrange();
      });
      th.append(button);
    } else th.textContent = cell.title;
    head.append(th);
  }

  const COMPARE = {
    "<": (one, two) => one < two, "<=": (one, two) => one <= two, ">": (one, two) => one > two,
    ">=": (one, two) => one >= two, "=": (one, two) => Math.abs(one - two) < 1e-9,
  };
  // Words in quotes stay together and are a whole key; `name<value` compares; all else is looked for.
  const tests = (text) => (text.match(/"[^"]*"|\S+/g) || []).map((word) => {
    const found = /^(\w+)(<=|>=|<|>|=)([+-]?[\d.]+(?:e[+-]?\d+)?)$/i.exec(word.replace("−", "-"));
    const column = found && byName.get(found[1].toLowerCase());
    if (column) {
      const [compare, value] = [COMPARE[found[2]], Number(found[3])];
      return (row) => compare(column.values[row], value);
    }
    if (/^".*"$/.test(word)) return (row) => keys[row] === word.slice(1, -1);
    const wanted = word.toLowerCase();
    return (row) => keys[row].toLowerCase().includes(wanted) || (row in reasons && reasons[row].toLowerCase().includes(wanted));
  });

  const arrange = () => {
    const passed = tests(filter.value);
    const wanted = state.value ? states.names.indexOf(state.value) : -1;
    shown = [];
    for (let row = 0; row < keys.length; row += 1) {
      if ((wanted < 0 || states.rows[row] === wanted) && passed.every((test) => test(row))) shown.push(row);
    }
    const cell = cells.find((one) => one.name === order.name) || cells[0];
    const sign = order.down ? -1 : 1;
    const failed = states.names.map((name) => (name === "failed" ? 0 : name === "skipped" ? 1 : 2));
    shown.sort((one, two) => {
      if (cell.order) return sign * cell.order(one, two) || one - two;
      const [first, second] = [cell.values[one], cell.values[two]];
      const [none, nothing] = [Number.isNaN(first), Number.isNaN(second)];
      // Worst first: what failed has no value, and stands before all that has.
      if (none && nothing) return failed[states.rows[one]] - failed[states.rows[two]] || one - two;
      if (none || nothing) return none === !order.down ? -1 : 1;
      return first === second ? one - two : sign * (first < second ? -1 : 1);
    });
    for (const th of head.cells) {
      const its = th.dataset.name === order.name;
      if (its) th.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    const all = shown.length === keys.length;
    told.textContent = `${all ? "" : `${shown.length.toLocaleString("en")} of `}${keys.length.toLocaleString("en")} images`;
    view.querySelector("table").setAttribute("aria-rowcount", shown.length + 1);
    view.scrollTop = 0;
    draw();
  };

  const td = (cell, row) => {
    const made = document.createElement(cell.kind === "key" ? "th" : "td");
    made.className = cell.kind;
    if (cell.kind === "key") made.scope = "row";
    if (cell.kind === "files") {
      for (const link of links) {
        const path = fileOf(link, row);
        if (path === null) continue;
        const anchor = document.createElement("a");
        anchor.href = address(path);
        anchor.textContent = link.label;
        anchor.target = "_blank";
        anchor.setAttribute("aria-label", `${link.label} of ${keys[row]}`);
        made.append(anchor, " ");
      }
      return made;
    }
    const text = cell.text(row);
    if (cell.kind === "key") {
      // Too long a key loses its beginning: names differ at their end.
      const inner = document.createElement("bdi");
      inner.textContent = text;
      made.append(inner);
    } else made.textContent = text;
    if (cell.kind === "key" || cell.kind === "reason") made.title = text;
    if (cell.kind === "word") made.dataset.state = text;
    return made;
  };
  const spacer = (height) => {
    const tr = document.createElement("tr");
    tr.className = "spacer";
    tr.setAttribute("aria-hidden", "true");
    const made = document.createElement("td");
    made.colSpan = cells.length;
    made.style.height = `${height}px`;
    tr.append(made);
    return tr;
  };
  const MORE = 12;
  let height = 34;
  const draw = (again = true) => {
    const first = Math.max(0, Math.floor(view.scrollTop / height) - MORE);
    const last = Math.min(shown.length, Math.ceil((view.scrollTop + view.clientHeight) / height) + MORE);
    const rows = [];
    for (let place = first; place < last; place += 1) {
      const tr = document.createElement("tr");
      tr.setAttribute("aria-rowindex", place + 2);
      tr.append(...cells.map((cell) => td(cell, shown[place])));
      rows.push(tr);
    }
    body.replaceChildren(spacer(first * height), ...rows, spacer((shown.length - last) * height));
    const real = rows.length ? rows[0].getBoundingClientRect().height : height;
    if (again && real && Math.abs(real - height) > 0.01) {
      height = real;
      draw(false);
    }
  };
  let waiting = false;
  view.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  });
  new ResizeObserver(() => draw()).observe(view);

  let timer = 0;
  filter.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(arrange, 120);
  });
  state.addEventListener("change", arrange);
  const ask = (text) => {
    filter.value = text;
    state.value = "";
    arrange();
    document.getElementById("all").scrollIntoView();
  };
  document.addEventListener("imagefilter", (event) => ask(event.detail));
  for (const link of document.querySelectorAll("a[data-filter]")) {
    link.addEventListener("click", () => ask(link.dataset.filter));
  }
  const read = () => {
    const taken = cells.filter((cell) => cell.kind !== "files");
    return {
      head: taken.map((cell) => cell.title),
      rows: shown.map((row) => taken.map((cell) => cell.text(row))),
      numbers: taken.map((cell) => cell.kind === "number"),
    };
  };
  view.after(takeAlong("images", read));
  arrange();
  host.dataset.ready = "true";
})();
