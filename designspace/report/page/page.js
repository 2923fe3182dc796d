// What all parts of the page share. Labels are never markup: they go into the page as text only.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const MISSING = "–";
document.documentElement.classList.add("js");

/** Make an element; attributes that are functions listen to events, and children that are strings are text. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

/** Return a label that may be wrapped where its parts meet. */
function wrapping(label) {
  return label.split(/(?<=[/+,])/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));
}

/** Return a labelled choice; options: [value, text] pairs. */
function choice(label, options, chosen, changed) {
  const select = element("select", { change: () => changed(select.value) },
    options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  return element("label", { class: "choice" }, element("span", {}, label), select);
}

/** Return a labelled box to tick. */
function tick(label, ticked, changed) {
  const box = element("input", { type: "checkbox", checked: ticked, change: () => changed(box.checked) });
  return element("label", { class: "choice" }, box, element("span", {}, label));
}

function percent(share, digits = 1) {
  return share == null ? MISSING : (100 * share).toFixed(digits);
}

function grouped(value, digits = 1) {
  if (value == null) return MISSING;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Return the arms of a table with their values by the names of its columns. */
function armsOf(table) {
  return table.arms.map((arm) => ({
    ...arm,
    ...Object.fromEntries(table.columns.map((column, index) => [column.key, arm.values[index]])),
    model: table.place.model,
  }));
}

/** Return what figures are made for: one task and split each, over all models. */
function tasks() {
  const found = new Map();
  for (const table of DATA.tables.filter((one) => one.kind === "arms")) {
    const heading = `${table.place.task}/${table.place.split}`;
    if (!found.has(heading)) found.set(heading, { heading, arms: [], place: table.place });
    found.get(heading).arms.push(...armsOf(table));
  }
  return [...found.values()];
}

/** Return the tasks of which all arms were fed their texts: there is no accuracy to draw, but contrasts of agreement. */
function fedTasks() {
  const written = new Set(tasks().map((task) => task.heading));
  const found = new Map();
  for (const table of DATA.tables.filter((one) => one.kind === "fidelity")) {
    const heading = `${table.place.task}/${table.place.split}`;
    if (written.has(heading)) continue;
    if (!found.has(heading)) found.set(heading, { heading, arms: [], place: table.place });
    found.get(heading).arms.push(...armsOf(table));
  }
  return [...found.values()];
}

function unique(values) {
  return [...new Set(values)];
}

const PAPER_PX = 700; // between the margins of an A4 sheet
let printing = false;

/** Return the width to draw in: that of an element, or of the paper while the page is printed. */
function widthOf(host) {
  return printing ? PAPER_PX : host.clientWidth;
}

/** Call a function when an element's width has changed, at most once per frame, and for paper. */
function onWidth(watched, draw) {
  window.addEventListener("beforeprint", () => { printing = true; draw(); });
  window.addEventListener("afterprint", () => { printing = false; draw(); });
  let width = 0;
  let waiting = false;
  new ResizeObserver(([entry]) => {
    const found = Math.round(entry.contentRect.width);
    if (found === width || found === 0) return;
    width = found;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }).observe(watched);
}
