"use strict";
// Draws the retention map from the data in the page. A step is a decode step; step 0 is the prompt after its own cut.
const STILL_HELD = -1;
const SHOWN_LOOKUPS = 50;
const texts = JSON.parse(document.getElementById("data").textContent).map(unpacked);
const controls = Object.fromEntries(["step", "layer", "head"].map((name) => [name, document.getElementById(name)]));

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text.evicted_at), (letter) => letter.charCodeAt(0));
  return { ...text, evictedAt: new Int32Array(bytes.buffer), marked: new Set() };
}

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

// A token as it is named in tables and lines: without the blank in front of it.
function quoted(token) {
  return `“${token.trim() || token}”`;
}

// The first step whose query may attend to a token.
function arrival(text, position) {
  return Math.max(0, position - text.n_prompt_tokens + 1);
}

// The KV heads that are looked at, as places in the first two dimensions of evictedAt.
function chosenHeads(text) {
  const [nLayers, nHeads] = text.shape;
  const found = [];
  for (let layer = 0; layer < nLayers; layer++) {
    for (let head = 0; head < nHeads; head++) {
      const layerFits = controls.layer.value === "all" || Number(controls.layer.value) === layer;
      const headFits = controls.head.value === "all" || Number(controls.head.value) === head;
      if (layerFits && headFits) found.push(layer * nHeads + head);
    }
  }
  return found;
}

function holds(text, head, position, step) {
  const gone = text.evictedAt[head * text.shape[2] + position];
  return gone === STILL_HELD || gone > step;
}

function share(text, heads, position, step) {
  let n = 0;
  for (const head of heads) n += holds(text, head, position, step);
  return n / heads.length;
}

function drawText(text) {
  const step = Number(controls.step.value);
  const heads = chosenHeads(text);
  text.spans.forEach((span, position) => {
    const arrives = arrival(text, position);
    const isThere = arrives <= step && position < text.shape[2];
    const held = isThere ? share(text, heads, position, step) : 0;
    span.style.setProperty("--share", held);
    span.classList.toggle("later", arrives > step);
    span.classList.toggle("gone", isThere && held === 0);
    span.classList.toggle("now", arrives === step && step > 0);
    span.classList.toggle("missed", text.marked.has(position));
  });
  text.line.style.left = `${(100 * (Math.min(step, text.n_steps) + 0.5)) / (text.n_steps + 1)}%`;
}

// One pixel for each token and step; the colour is what the style sheet says for full share.
function drawMap(text) {
  const [, , nPositions] = text.shape;
  const width = text.n_steps + 1;
  const heads = chosenHeads(text);
  const [red, green, blue] = colour("--held");
  Object.assign(text.canvas, { width, height: nPositions });
  const context = text.canvas.getContext("2d");
  const image = context.createImageData(width, nPositions);
  const leaving = new Int32Array(width + 1);
  for (let position = 0; position < nPositions; position++) {
    leaving.fill(0);
    let n = 0;
    for (const head of heads) {
      const gone = text.evictedAt[head * nPositions + position];
      if (gone === STILL_HELD || gone > 0) n++;
      if (gone > 0) leaving[Math.min(gone, width)]++;
    }
    for (let step = 0; step < width; step++) {
      n -= leaving[step];
      if (step >= arrival(text, position)) {
        image.data.set([red, green, blue, (255 * n) / heads.length], 4 * (position * width + step));
      }
    }
  }
  context.putImageData(image, 0, 0);
}

function colour(name) {
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const hex = probe.fillStyle;
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

function drawSteps() {
  document.getElementById("step-number").textContent = controls.step.value;
  texts.forEach(drawText);
}

function drawAll() {
  texts.forEach(drawMap);
  drawSteps();
}

function goTo(step) {
  controls.step.value = step;
  drawSteps();
}

// Says of one token which heads hold it, and when the others let it go.
function tell(text, position) {
  const step = Number(controls.step.value);
  const [, nHeads, nPositions] = text.shape;
  const said = [`${text.name}: position ${position}, ${quoted(text.tokens[position])}`];
  if (position >= nPositions) {
    said.push("the last token of a text is chosen and never fed, so no cache holds it");
  } else {
    const heads = chosenHeads(text);
    const held = heads.filter((head) => holds(text, head, position, step)).length;
    said.push(`held by ${held} of ${heads.length} heads at step ${step}`);
    const gone = heads
      .map((head) => [head, text.evictedAt[head * nPositions + position]])
      .filter(([, at]) => at !== STILL_HELD)
      .map(([head, at]) => `layer ${text.layers[Math.floor(head / nHeads)]} head ${head % nHeads} at ${at < 0 ? "–" : at}`);
    if (gone.length) said.push(`evicted: ${gone.slice(0, 12).join(", ")}${gone.length > 12 ? ` and ${gone.length - 12} more` : ""}`);
  }
  document.getElementById("token").textContent = said.join(" · ");
}

function lookupRow(text, found) {
  const button = element("button", { type: "button" }, quoted(text.tokens[found.position]));
  const askedAt = arrival(text, found.by);
  button.addEventListener("click", () => {
    text.marked = new Set([found.position]);
    goTo(askedAt);
    text.spans[found.position].scrollIntoView({ block: "nearest" });
    tell(text, found.position);
  });
  const cells = [
    found.position, `${text.layers[found.layer]} / ${found.head}`, found.step, askedAt, quoted(text.tokens[found.by]),
    found.weight.toFixed(2),
  ];
  return element("tr", {}, element("td", {}, button), ...cells.map((cell) => element("td", {}, String(cell))));
}

function lookupTable(text) {
  const heads = ["token", "position", "layer / head", "evicted at step", "missed at step", "by the query", "weight"];
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  const rows = text.lookups.slice(0, SHOWN_LOOKUPS).map((found) => lookupRow(text, found));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
  return element("div", { className: "scroll" }, table);
}

function tokenSpan(text, token, position) {
  const span = element("span", { className: position < text.n_prompt_tokens ? "prompt" : "" }, token);
  span.addEventListener("pointerenter", () => tell(text, position));
  return span;
}

// The arrow keys walk from token to token, so that nothing needs a pointer.
function walkable(text, box) {
  let at = 0;
  box.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    at = Math.min(Math.max(at + move, 0), text.tokens.length - 1);
    text.marked = new Set([at]);
    drawText(text);
    tell(text, at);
  });
}

function article(text) {
  const id = `text-${texts.indexOf(text)}`;
  text.spans = text.tokens.map((token, position) => tokenSpan(text, token, position));
  const box = element("div", { className: "text", tabIndex: 0, role: "group", ariaLabel: `the text of ${text.name}` }, ...text.spans);
  walkable(text, box);
  text.canvas = element("canvas", { role: "img", ariaLabel: `tokens of ${text.name} over decode steps` });
  text.canvas.addEventListener("click", (event) => {
    goTo(Math.floor((event.offsetX / text.canvas.clientWidth) * (text.n_steps + 1)));
  });
  text.line = element("i", {});
  const missed = text.lookups.length;
  const n = `${missed} time${missed === 1 ? "" : "s"} a head had evicted what the full cache would have looked up later`;
  const shown = missed > SHOWN_LOOKUPS ? `, the ${SHOWN_LOOKUPS} with the largest weights below` : "";
  return element(
    "article", { id },
    element("h2", {}, text.name),
    element("p", { className: "said" }, text.about),
    box,
    element("h3", {}, "Tokens over steps"),
    element("div", { className: "map" }, text.canvas, text.line),
    element("div", { className: "ends" }, element("span", {}, "step 0"), element("span", {}, `step ${text.n_steps}`)),
    element("h3", {}, "Evicted before it was looked up again"),
    element("p", { className: "said" }, `${n} (attention of at least ${text.least_weight})${shown}.`),
    ...(missed ? [lookupTable(text)] : []),
  );
}

function fill(select, names) {
  select.append(element("option", { value: "all" }, "all"), ...names.map((name, place) => element("option", { value: place }, String(name))));
}

controls.step.max = Math.max(...texts.map((text) => text.n_steps));
controls.step.value = controls.step.max;
fill(controls.layer, texts[0].layers);
fill(controls.head, [...Array(texts[0].shape[1]).keys()]);
document.getElementById("texts").append(...texts.map(article));
controls.step.addEventListener("input", drawSteps);
controls.layer.addEventListener("change", drawAll);
controls.head.addEventListener("change", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
drawAll();
