// Without this script the page lacks nothing but sorting.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], original = [...body.rows];
  [...table.tHead.rows[2].cells].forEach((head, k) => {
    if (!("sort" in head.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const next = k === 0 || now === "ascending" ? null : now === "descending" ? "ascending" : "descending";
      for (const other of table.tHead.rows[2].cells) other.removeAttribute("aria-sort");
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
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target && target.closest("details");
  if (details) { details.open = true; details.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
