"use strict";
// Every table can be taken along: as CSV for programs, as Markdown and LaTeX for texts.
const takeAlong = (() => {
  const plain = (text) => text.replace(/−/g, "-");
  // Programs read numbers without thousands separators, units and dashes for nothing.
  const bare = (text) => {
    const value = plain(text);
    if (value === "–") return "";
    const number = /^([+-]?\d{1,3}(?:,\d{3})*(?:\.\d+)?|[+-]?\d+(?:\.\d+)?)(?: dB)?$/.exec(value);
    return number ? number[1].replace(/,/g, "") : value;
  };
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  const SPECIAL = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "−": "$-$", "–": "--", "∞": "$\\infty$",
    "<": "$<$", ">": "$>$",
  };
  const tex = (text) => text.replace(/[\\{}~^&%$#_−–∞<>]/g, (one) => SPECIAL[one]).replace(/\s+/g, " ");
  const cell = (text) => text.replace(/\|/g, "\\|").replace(/\s+/g, " ");
  const FORMS = {
    CSV: ({ head, rows }) => [...(head.some(Boolean) ? [head] : []), ...rows]
      .map((row) => row.map(bare).map(quoted).join(",")).join("\n"),
    Markdown: ({ head, rows, numbers }) => [head, numbers.map((number) => (number ? "---:" : "---")), ...rows]
      .map((row) => `| ${row.map(cell).join(" | ")} |`).join("\n"),
    LaTeX: ({ head, rows, numbers }) => {
      const lines = rows.map((row) => `${row.map(tex).join(" & ")} \\\\`);
      const title = head.some(Boolean) ? [`${head.map(tex).join(" & ")} \\\\`, "\\midrule"] : [];
      const columns = numbers.map((number) => (number ? "r" : "l")).join("");
      return ["% needs \\usepackage{booktabs}", `\\begin{tabular}{${columns}}`, "\\toprule", ...title, ...lines,
        "\\bottomrule", "\\end{tabular}"].join("\n");
    },
  };
  const ENDINGS = { CSV: ["csv", "text/csv"], Markdown: ["md", "text/markdown"], LaTeX: ["tex", "text/x-tex"] };
  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // A page that did not come over https may not use the clipboard but by this older way.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
    return true;
  };
  const saved = (text, name, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: `${type};charset=utf-8` }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const button = (text, label, work) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", async () => {
      made.textContent = (await work()) === false ? "not allowed" : "done";
      setTimeout(() => { made.textContent = text; }, 1500);
    });
    return made;
  };
  const menu = (name, read) => {
    const details = document.createElement("details");
    details.className = "save";
    const summary = document.createElement("summary");
    summary.textContent = "Copy or save";
    const list = document.createElement("div");
    for (const [form, write] of Object.entries(FORMS)) {
      const [ending, type] = ENDINGS[form];
      const title = document.createElement("span");
      title.textContent = form;
      list.append(
        title,
        button("copy", `Copy ${name} as ${form}`, () => copied(write(read()))),
        button("save", `Save ${name} as ${form}`, () => saved(write(read()), `${name}.${ending}`, type)),
      );
    }
    details.append(summary, list);
    details.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      details.open = false;
      summary.focus();
    });
    document.addEventListener("click", (event) => {
      if (!details.contains(event.target)) details.open = false;
    });
    return details;
  };
  for (const table of document.querySelectorAll("table[data-save]")) {
    const read = () => {
      const texts = (row) => [...row.cells].map((one) => one.textContent.trim());
      const rows = [...table.tBodies[0].rows].map(texts);
      const numbers = [...(table.tBodies[0].rows[0] || { cells: [] }).cells].map((one) => one.classList.contains("number"));
      const head = table.tHead ? texts(table.tHead.rows[0]) : numbers.map(() => "");
      return { head, rows, numbers };
    };
    table.parentElement.after(menu(table.dataset.save, read));
  }
  for (const one of document.querySelectorAll(".command .copy")) {
    one.addEventListener("click", async () => {
      const done = await copied(one.parentElement.querySelector("code").textContent);
      one.textContent = done ? "Copied" : "Not allowed";
      setTimeout(() => { one.textContent = "Copy"; }, 1500);
    });
  }
  return menu;
})();
