// Which arms stand out: at most six, each in a colour and a shape of its own; all others are grey.

const MOST_PICKED = 6;
const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "wye"];
const GREY = "var(--other)";

class Picks {
  /** names: of mechanisms, the first of which are picked at first. */
  constructor(names) {
    this.names = names;
    this.slots = new Map(names.slice(0, MOST_PICKED).map((name, slot) => [name, slot]));
    this.hovered = null;
    this.listeners = [];
    this.hoverListeners = [];
  }

  has(name) {
    return this.slots.has(name);
  }

  get isFull() {
    return this.slots.size >= MOST_PICKED;
  }

  colour(name) {
    return this.has(name) ? `var(--pick-${this.slots.get(name)})` : GREY;
  }

  symbol(name) {
    return this.has(name) ? SYMBOLS[this.slots.get(name)] : "circle";
  }

  /** Pick a name or put it back; it takes the first colour that is free, and no other arm changes its own. */
  set(name, picked) {
    if (picked && !this.has(name) && !this.isFull) {
      const taken = new Set(this.slots.values());
      this.slots.set(name, SYMBOLS.findIndex((_, slot) => !taken.has(slot)));
    }
    if (!picked) this.slots.delete(name);
    this.listeners.forEach((listener) => listener());
  }

  replace(names) {
    this.slots = new Map(names.slice(0, MOST_PICKED).map((name, slot) => [name, slot]));
    this.listeners.forEach((listener) => listener());
  }

  hover(name) {
    if (name === this.hovered) return;
    this.hovered = name;
    this.hoverListeners.forEach((listener) => listener(name));
  }
}

/** Draw the mark of a pick, for the list. */
function swatch(picks, name) {
  const drawing = d3.create("svg").attr("class", "swatch").attr("viewBox", "-7 -7 14 14").attr("aria-hidden", "true");
  const shapes = { circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond,
    star: d3.symbolStar, wye: d3.symbolWye };
  drawing.append("path").attr("d", d3.symbol(shapes[picks.symbol(name)], picks.has(name) ? 70 : 28)())
    .attr("fill", picks.colour(name));
  return drawing.node();
}

/** Return the names of the arms that stand out, each with its mark; it follows what is picked. */
function legend(picks) {
  const list = element("ul", { class: "legend", "aria-label": "arms that stand out" });
  const fill = () => list.replaceChildren(...picks.names.filter((name) => picks.has(name))
    .map((name) => element("li", {}, swatch(picks, name), element("span", {}, ...wrapping(name)))));
  picks.listeners.push(fill);
  fill();
  return list;
}

/** Return the list of arms: a box to tick for each, and a search that narrows the list. */
function pickList(picks, label) {
  const list = element("ul", { class: "picks", tabindex: "0", "aria-label": label });
  const said = element("p", { class: "said", role: "status" });
  const search = element("input", { type: "search", placeholder: "find an arm", "aria-label": `find an arm, ${label}` });
  const fill = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = picks.names.filter((name) => name.toLowerCase().includes(wanted));
    const focused = document.activeElement?.closest?.("[data-pick]")?.dataset.pick;
    list.replaceChildren(...found.map((name) => pickItem(picks, name)));
    said.textContent = `${picks.slots.size} of at most ${MOST_PICKED} highlighted, ${found.length} of ${picks.names.length} listed`;
    if (focused) [...list.children].find((item) => item.dataset.pick === focused)?.querySelector("input").focus();
  };
  search.addEventListener("input", fill);
  picks.listeners.push(fill);
  picks.hoverListeners.push((name) => {
    for (const item of list.children) item.classList.toggle("hovered", item.dataset.pick === name);
  });
  fill();
  const none = element("button", { type: "button", click: () => picks.replace([]) }, "none");
  const best = element("button", { type: "button", click: () => picks.replace(picks.names) }, `first ${MOST_PICKED}`);
  return element("div", { class: "arms" }, element("div", { class: "find" }, search, best, none), said, list);
}

function pickItem(picks, name) {
  const box = element("input", { type: "checkbox", checked: picks.has(name), disabled: picks.isFull && !picks.has(name),
    change: () => picks.set(name, box.checked) });
  return element("li", { "data-pick": name, class: picks.has(name) ? "picked" : null, pointerenter: () => picks.hover(name), pointerleave: () => picks.hover(null),
    focusin: () => picks.hover(name), focusout: () => picks.hover(null) },
    element("label", {}, box, swatch(picks, name), element("span", {}, ...wrapping(name))));
}
