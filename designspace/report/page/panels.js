// Drawings side by side: small multiples that share their scales, and what pointing at one of their marks does.

const GAP_PX = 24;
const ROW_PX = 19;
const LABEL_CHARACTER_PX = 6.6; // of a name beside its row, at 12 px

/** Return a name as it is written beside its row, in a margin: what has no room is left out of its middle. */
function inMargin(name, marginPx) {
  const letters = Math.max(5, Math.floor((marginPx - 14) / LABEL_CHARACTER_PX));
  if (name.length <= letters) return name;
  const end = Math.floor((letters - 1) / 2);
  return `${name.slice(0, letters - 1 - end)}…${name.slice(name.length - end)}`;
}

/** Say of a mark's drawn nodes what they are and which arms they stand for. */
function named(kind, points) {
  return {
    render(index, scales, values, dimensions, context, next) {
      const drawn = next(index, scales, values, dimensions, context);
      drawn.dataset.kind = kind;
      const owners = kind === "lines" ? unique(Array.from(index, (at) => points[at].key)) : Array.from(index);
      [...drawn.children].forEach((node, at) => {
        const owner = kind === "lines" ? points.find((point) => point.key === owners[at]) : points[owners[at]];
        node.dataset.name = owner.name;
        node.dataset.arm = owner.id;
      });
      return drawn;
    },
  };
}

/** Return how many panels stand side by side in a width, and how wide each is. */
function columnsFor(n, width, onScreen = 380) {
  const least = printing ? Math.min(onScreen, 330) : onScreen;
  const abreast = Math.max(1, Math.min(n, Math.floor((width + GAP_PX) / (least + GAP_PX)), 3));
  return { abreast, width: Math.floor((width - GAP_PX * (abreast - 1)) / abreast) };
}

/** Fill a grid with panels. panels: [{title, drawing}], each drawing from Plot. What was pointed at is gone with the old ones. */
function arrange(grid, panels, abreast, picks = null) {
  picks?.hover(null);
  grid.style.gridTemplateColumns = `repeat(${abreast}, minmax(0, 1fr))`;
  grid.replaceChildren(...panels.map(({ title, drawing, label }) => {
    const svg = drawing.tagName === "svg" ? drawing : drawing.querySelector("svg");
    svg.dataset.panel = title;
    svg.setAttribute("role", "img");
    for (const part of svg.querySelectorAll("g[aria-label]")) { // a drawing is one image, whose parts have no names
      part.dataset.part = part.getAttribute("aria-label");
      part.removeAttribute("aria-label");
    }
    svg.setAttribute("aria-label", label ?? title);
    return element("div", { class: "panel" }, title ? element("h4", { "data-drawn": true }, title) : null, drawing);
  }));
}

/** Let the marks of a hovered arm stand out, and hover the arm of a mark that is pointed at. */
function joinHover(grid, picks) {
  grid.addEventListener("input", (event) => picks.hover(event.target.value?.name ?? null));
  picks.hoverListeners.push((name) => {
    grid.classList.toggle("hovering", name != null);
    for (const node of grid.querySelectorAll("[data-name]")) node.classList.toggle("hovered", node.dataset.name === name);
  });
}

/** Return how all drawings describe what is pointed at. */
const TIP = { fill: "var(--paper)", stroke: "var(--other)", lineHeight: 1.25, textPadding: 9 };

/** Return what all drawings share. */
function look(width, height) {
  return {
    width,
    height,
    style: { background: "transparent", color: "var(--ink)", fontSize: "12px", fontFamily: "system-ui, sans-serif", overflow: "visible" },
    color: { type: "identity" },
    symbol: { type: "identity" },
  };
}

/** Return a figure: heading, words, controls, an optional legend, the grid of drawings beside an optional list, and its downloads. */
function figure({ id, heading, words, controls, aside, legend: names, grid, files }) {
  return element("section", { class: "figure", id, "aria-label": heading },
    element("h3", {}, heading),
    element("div", { class: "controls" }, controls),
    names,
    element("div", { class: aside ? "beside" : "" }, grid, aside),
    element("p", { class: "words" }, words), files);
}
