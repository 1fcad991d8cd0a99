"use strict";
// The tables of mistakes: search, filter by label, sort by column. Without this script they stand there whole.
for (const block of document.querySelectorAll(".filtered")) {
  const form = block.querySelector("form");
  const body = block.querySelector("tbody");
  const rows = [...body.rows];
  const search = form.querySelector("input");
  const selects = [...form.querySelectorAll("select")];
  const fold = (text) => text.normalize("NFKC").toLowerCase();
  const texts = new Map(rows.map((row) => [row, fold(row.querySelector(".texts").textContent)]));

  const filter = () => {
    const words = fold(search.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = selects.every(
        // An option's value is "=" and the label, or nothing for any label; a label may be empty.
        (select) =>
          !select.value || `=${row.querySelector(`[data-column=${select.dataset.column}]`).textContent}` === select.value,
      );
      row.hidden = !(fits && words.every((word) => texts.get(row).includes(word)));
      shown += !row.hidden;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length} shown`;
  };

  block.querySelectorAll("th[data-sort]").forEach((header) => {
    const column = header.cellIndex;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[column].textContent;
      const compare =
        header.dataset.sort === "number" ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b));
      for (const other of block.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...rows].sort(down ? (a, b) => compare(b, a) : compare));
    });
  });

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.hidden = false;
  filter();
}
