"use strict";
// Without it the page is read all the same: each cell is a link. Text is only ever set as text.
const causes = JSON.parse(document.getElementById("data").textContent);
const told = document.getElementById("told");
let from = null;

function add(parent, tag, text, kind) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}

function next(command) {
  const line = add(told, "p", "", "next");
  add(line, "span", "next:", "soft");
  add(line, "code", command);
}

function close() {
  told.hidden = true;
  if (from) {
    from.removeAttribute("aria-expanded");
    from.focus();
  }
  from = null;
}

function tell(cell) {
  if (from) from.removeAttribute("aria-expanded");
  from = cell;
  cell.setAttribute("aria-expanded", "true");
  told.replaceChildren();
  add(told, "button", "close (Esc)", "close").addEventListener("click", close);
  const d = cell.dataset;
  add(told, "h3", d.c);
  add(told, "p", d.w + (d.g ? ", " + d.g : "") + (d.d ? " (" + d.d + ")" : ""));
  if (d.n) add(told, "p", d.n, "soft");
  for (const number of d.i ? d.i.split(" ") : []) {
    const cause = causes[Number(number)];
    const box = add(told, "div", "", "cause");
    box.style.paddingLeft = ".6rem";
    add(box, "p", "cause: " + cause.title);
    add(box, "p", cause.tasks + ", " + cause.kind + ". " + cause.example, "soft");
    for (const command of [...(cause.chains[d.c] || []), ...cause.advice]) next(command);
  }
  if (d.a) next(d.a);
  const page = cell.getAttribute("href");
  if (!page.startsWith("#")) {
    const link = add(add(told, "p"), "a", "the night's page");
    link.href = page;
  }
  told.hidden = false;
  told.focus();
}

document.addEventListener("click", (event) => {
  const cell = event.target.closest("a[data-c]");
  if (!cell || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  tell(cell);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !told.hidden) close();
});

const filter = document.getElementById("filter");
filter.closest(".tools").hidden = false;
filter.addEventListener("change", () => {
  let shown = 0;
  for (const row of document.querySelectorAll("#nights tbody tr")) {
    row.hidden = Boolean(filter.value) && !row.querySelector("a." + filter.value);
    shown += row.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = filter.value ? shown + " nights" : "";
});
