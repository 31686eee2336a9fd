for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      // An empty value is one without bounds.
      const value = ({ cells }) => {
        const { value } = cells[i].dataset;
        return value === undefined ? cells[i].textContent : value === "" ? Infinity : Number(value);
      };
      const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a < b ? -1 : a > b ? 1 : 0);
      [...body.rows].sort((a, b) => sign * order(value(a), value(b))).forEach((row) => body.append(row));
    };
  });
}
