"use strict";
// All of it can be read without this script; it sorts, filters, says what scrolls,
// opens what a link leads to, and opens all for printing.

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  for (const [index, header] of [...table.tHead.rows[0].cells].entries()) {
    header.querySelector("button").addEventListener("click", () => {
      const order = { none: "ascending", ascending: "descending", descending: "none" }[header.ariaSort];
      for (const other of table.tHead.rows[0].cells) other.ariaSort = "none";
      header.ariaSort = order;
      const sign = order === "descending" ? -1 : 1;
      const sorted = [...first].sort((a, b) => sign * compare(valueOf(a.cells[index]), valueOf(b.cells[index])));
      body.append(...(order === "none" ? first : sorted));
    });
  }
}

function valueOf(cell) {
  const text = (cell.dataset.value ?? cell.textContent).trim();
  const number = Number(text.replaceAll(",", ""));
  return text === "" || Number.isNaN(number) ? text : number;
}

// numbers before texts, in their order; what is empty comes first
function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  if (a === "" || b === "") return a === "" ? -1 : 1;
  return typeof a === "number" ? -1 : 1;
}

const filters = document.querySelector(".filters");
filters?.addEventListener("submit", (event) => event.preventDefault());
filters?.addEventListener("input", () => {
  const words = filters.elements["filter-name"].value.toLowerCase().split(/\s+/);
  const boxes = [...filters.querySelectorAll("[name=verdict]")];
  const verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const isChosen = (verdict) => !boxes.length || verdicts.has(verdict);
  const isShown = ({ dataset }) => isChosen(dataset.verdict) && words.every((word) => dataset.name.includes(word));
  for (const part of document.querySelectorAll("[data-verdict]")) part.hidden = !isShown(part);
  const rows = [...document.querySelectorAll("#matrix-table tbody tr")];
  document.getElementById("shown").value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} models`;
});

// what is wider or higher than its place says so
const watcher = new ResizeObserver((entries) => entries.forEach((entry) => markScrolling(entry.target)));
for (const part of document.querySelectorAll(".scroll")) {
  part.insertAdjacentHTML("afterend", '<small class="scrolls-hint" hidden></small>');
  watcher.observe(part);
}

function markScrolling(part) {
  const isWide = part.scrollWidth > part.clientWidth + 1;
  const isHigh = part.scrollHeight > part.clientHeight + 1;
  part.classList.toggle("scrolls", isWide || isHigh);
  part.nextElementSibling.hidden = !(isWide || isHigh);
  const ways = [isWide && "sideways for more columns →", isHigh && "down for more rows ↓"].filter(Boolean);
  part.nextElementSibling.textContent = `Scroll ${ways.join(", ")}`;
}

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
  target.querySelector("summary")?.focus({ preventScroll: true });
}
window.addEventListener("hashchange", openTarget);
// a link to where one is already changes no hash
document.addEventListener("click", (event) => {
  if (event.target.closest(`a[href="${location.hash}"]`)) openTarget();
});
openTarget();

const closed = new Set();
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) closed.add(part).size && (part.open = true);
});
window.addEventListener("afterprint", () => {
  for (const part of closed) part.open = false;
  closed.clear();
});
