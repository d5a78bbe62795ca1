"use strict";
// The page is complete without this script, which sorts tables and filters questions.
(() => {
  const MISSING = new Set(["", "—"]);

  // Text of a table cell without its interval and its note.
  const text = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return "";
    if (cell.dataset.sort !== undefined) return cell.dataset.sort;
    const copy = cell.cloneNode(true);
    copy.querySelectorAll(".interval, .note").forEach((each) => each.remove());
    return copy.textContent.trim();
  };

  // Number at the start of a cell; NaN if there is none.
  const number = (shown) => {
    const plain = shown.replace(/−/g, "-").replace(/,/g, "").replace(/ × 10(?=-?\d)/, "e");
    if (/^-?inf\b/.test(plain)) return plain[0] === "-" ? -Infinity : Infinity;
    const found = /^[-+]?\d*\.?\d+(e-?\d+)?(?=$|[\s%→])/.exec(plain);
    return found ? Number(found[0]) : NaN;
  };

  // Rows by a column: numbers by value, other texts by alphabet, missing ones last in both directions.
  const sorted = (rows, column, sign) => {
    const entries = rows.map((row) => [row, text(row, column)]);
    const present = entries.filter(([, shown]) => !MISSING.has(shown));
    const missing = entries.filter(([, shown]) => MISSING.has(shown));
    const numeric = present.every(([, shown]) => !Number.isNaN(number(shown)));
    const compare = numeric
      ? ([, a], [, b]) => (number(a) === number(b) ? 0 : sign * (number(a) < number(b) ? -1 : 1))
      : ([, a], [, b]) => sign * a.localeCompare(b, "en", { numeric: true });
    return [...present.sort(compare), ...missing].map(([row]) => row);
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const heads = table.tHead ? [...table.tHead.rows[0].cells] : [];
    if (!body || body.rows.length < 2 || !heads.length) {
      table.closest(".wide")?.setAttribute("tabindex", "0"); // to scroll by keyboard
      return;
    }
    const original = [...body.rows];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      if (!button.textContent.trim()) button.setAttribute("aria-label", "row");
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        table.classList.toggle("sorted", Boolean(next)); // without lines between groups of rows
        body.append(...(next ? sorted(original, column, next === "ascending" ? 1 : -1) : original));
      });
    });
  };

  const searchable = (bar) => {
    const search = bar.querySelector("input");
    const count = bar.querySelector("output");
    const buttons = [...bar.querySelectorAll("button")];
    const cards = [...document.querySelectorAll(".question")].map((card) => [card, card.textContent.toLowerCase()]);
    const groups = [...document.querySelectorAll(".group-of-questions, .group-of-questions details")];
    const folds = groups.filter((each) => each.tagName === "DETAILS");
    let state = "";
    const update = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const all = !state && !words.length;
      let shown = 0;
      for (const [card, said] of cards) {
        const fits =
          (!state || card.dataset.states.split(" ").includes(state)) && words.every((word) => said.includes(word));
        card.hidden = !fits;
        shown += fits;
      }
      for (const group of groups) group.hidden = !group.querySelector(".question:not([hidden])");
      for (const fold of folds) fold.open = !all;
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.state === state));
      count.textContent = all ? `${cards.length} questions` : `${shown} of ${cards.length} questions`;
    };
    search.addEventListener("input", update);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        state = button.dataset.state;
        update();
      });
    }
    bar.hidden = false;
    update();
  };

  document.querySelectorAll("table").forEach(sortable);
  document.querySelectorAll(".find").forEach(searchable);
})();
