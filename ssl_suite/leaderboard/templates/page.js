// Without this script the page lacks filters, sorting and copy buttons, and nothing else.
const filters = [...document.querySelectorAll("select[data-filter]")];
const filtered = [...document.querySelectorAll("[data-arm],[data-budget],[data-modality]")];
const apply = () => {
  for (const element of filtered) {
    element.hidden = filters.some(({ value, dataset }) =>
      value && element.dataset[dataset.filter] !== undefined && element.dataset[dataset.filter] !== value);
  }
};
document.querySelector(".filters").hidden = false;
for (const select of filters) select.addEventListener("change", apply);
apply();  // a browser keeps what was chosen when the page is loaded again

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], original = [...body.rows], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, k) => {
    if (!("sort" in head.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = head.dataset.sort || now === "ascending" ? null : now === "descending" ? "ascending" : "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      const value = row => parseFloat(row.cells[k].dataset.v ?? "NaN");
      const sign = next === "ascending" ? 1 : -1;
      const sorted = next ? [...original].sort((a, b) => {
        const x = value(a), y = value(b);
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);  // what is missing comes last, either way
        return sign * (x - y);
      }) : original;
      body.append(...sorted);
    });
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {  // a page opened from a file: the text is selected, for Ctrl-C
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
  });
}
