// Figures and their data as files: made in the page, nothing is asked of a server.

function save(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Spell one cell of CSV; a text that a spreadsheet would run as a formula gets an apostrophe in front. */
function cell(value) {
  if (value == null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return rows as CSV; columns: [heading, row => value] pairs. */
function csv(rows, columns) {
  const lines = rows.map((row) => columns.map(([, of]) => cell(of(row))).join(","));
  return [columns.map(([heading]) => cell(heading)).join(","), ...lines].join("\r\n") + "\r\n";
}

/** Return a drawing in which colours are written out, as a file has no style sheet of the page. */
function written(drawing) {
  const copy = drawing.cloneNode(true);
  const style = getComputedStyle(document.documentElement);
  for (const node of [copy, ...copy.querySelectorAll("*")]) {
    for (const { name, value } of [...node.attributes]) {
      if (!value.includes("var(")) continue;
      node.setAttribute(name, value.replace(/var\((--[\w-]+)\)/g, (_, variable) => style.getPropertyValue(variable).trim()));
    }
  }
  copy.querySelectorAll("[aria-label=tip], [data-part=tip]").forEach((tip) => tip.remove());
  return copy;
}

/** Return the drawings of a figure as one SVG, each below its title, in the places that they have on the page. */
function together(figure) {
  const frame = figure.getBoundingClientRect();
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const whole = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const set = (node, attributes) => Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  set(whole, { xmlns: "http://www.w3.org/2000/svg", width: frame.width, height: frame.height,
    viewBox: `0 0 ${frame.width} ${frame.height}`, color: ink, "font-family": "system-ui, sans-serif" });
  const paper = document.createElementNS(whole.namespaceURI, "rect");
  set(paper, { width: "100%", height: "100%", fill: style.getPropertyValue("--paper").trim() });
  whole.append(paper);
  for (const label of figure.querySelectorAll("[data-drawn]")) {
    const box = label.getBoundingClientRect();
    const text = document.createElementNS(whole.namespaceURI, "text");
    set(text, { x: box.left - frame.left, y: box.bottom - frame.top - 5, fill: ink, "font-size": 13 });
    text.textContent = label.textContent;
    whole.append(text);
  }
  for (const drawing of figure.querySelectorAll("svg[data-panel]")) {
    const box = drawing.getBoundingClientRect();
    const copy = written(drawing);
    set(copy, { x: box.left - frame.left, y: box.top - frame.top, width: box.width, height: box.height });
    whole.append(copy);
  }
  return whole;
}

function drawingText(figure) {
  return new XMLSerializer().serializeToString(together(figure));
}

function savePicture(name, figure) {
  const whole = together(figure);
  const scale = 2;
  const canvas = element("canvas", { width: scale * whole.getAttribute("width"), height: scale * whole.getAttribute("height") });
  const image = new Image();
  image.addEventListener("load", () => {
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(`${name}.png`, blob), "image/png");
  });
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(whole))}`;
}

/** Return the buttons below a figure. table: () => [rows, columns] of what is drawn. */
function downloads(name, figure, table) {
  const file = `${DATA.title} ${name}`.replace(/[^\w.-]+/g, "-");
  const button = (label, act) => element("button", { type: "button", click: act }, label);
  return element("div", { class: "downloads" },
    button("Data as CSV", () => save(`${file}.csv`, new Blob([csv(...table())], { type: "text/csv" }))),
    button("Figure as SVG", () => save(`${file}.svg`, new Blob([drawingText(figure)], { type: "image/svg+xml" }))),
    button("Figure as PNG", () => savePicture(file, figure)));
}
