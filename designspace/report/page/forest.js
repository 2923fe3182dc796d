// Paired contrasts: every arm less a chosen one, on the problems that both have.

const CONTRASTS = DATA.contrasts.rows.map((row) => Object.fromEntries(DATA.contrasts.columns.map((key, at) => [key, row[at]])));
const MEASURED = DATA.contrasts.metric ?? "accuracy";
const BEYOND = 5; // points beyond the longest interval

function describeContrast(point) {
  const lines = [`${point.arm} less ${point.against}`, `${point.model}, budget ${point.budget}`];
  if (point.void != null) return [...lines, `no number: ${point.void}`].join("\n");
  return [...lines, `${signed(point.points)} points (${signed(point.low_points)} to ${signed(point.high_points)})`,
    `p = ${point.p_value.toPrecision(2)}, corrected for ${point.n_comparisons}`,
    `${point.n_problems} problems${point.n_better == null ? "" : `: ${point.n_better} better, ${point.n_worse} worse`}`].join("\n");
}

function signed(value) {
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)}`;
}

/** Return one panel, the largest difference on top; arms whose contrast is void stand below, without a mark. */
function forestPanel(points, picks, domain, width) {
  const tested = points.filter((point) => point.void == null);
  const names = d3.sort(points, (point) => (point.void == null ? -point.points : Infinity)).map((point) => point.arm);
  const margin = Math.min(0.45 * width, 14 + LABEL_CHARACTER_PX * d3.max(names, (name) => name.length));
  const colour = (point) => picks.colour(point.name);
  return Plot.plot({
    ...look(width, 56 + ROW_PX * names.length),
    marginLeft: margin, marginRight: 16, marginTop: 10, marginBottom: 40,
    x: { label: width - margin > 260 ? `difference in ${MEASURED}, percentage points` : "difference, points", domain, grid: true, labelAnchor: "center", labelArrow: "none",
      ticks: Math.max(3, Math.floor((width - margin) / 70)) },
    y: { label: null, domain: names, tickSize: 0, tickFormat: (name) => inMargin(name, margin) },
    marks: [
      Plot.ruleX([0], { stroke: "var(--ink)" }),
      Plot.ruleY(tested, { y: "arm", x1: "low_points", x2: "high_points", stroke: colour, strokeWidth: 2, ...named("contrast intervals", tested) }),
      Plot.dot(tested, { x: "points", y: "arm", r: 4.2, symbol: (point) => picks.symbol(point.name), stroke: colour, strokeWidth: 1.6,
        fill: (point) => (point.p_value <= 0.05 ? colour(point) : "var(--paper)"), ...named("contrasts", tested) }),
      Plot.text(points.filter((point) => point.void != null), { x: domain[0], y: "arm", text: () => "not comparable", textAnchor: "start",
        dx: 4, fill: "var(--ink)", fontStyle: "italic" }),
      Plot.tip(points, Plot.pointerY({ x: (point) => point.points ?? 0, y: "arm", title: describeContrast, ...TIP, maxRadius: 20 })),
    ],
  });
}

function forestWords(points) {
  if (DATA.contrasts.words) return DATA.contrasts.words;
  const m = unique(points.filter((point) => point.n_comparisons).map((point) => point.n_comparisons)).sort((a, b) => a - b);
  const corrected = m.length === 0 ? "" : m.at(-1) === 1 ? " One contrast needs no correction."
    : ` The intervals of a panel hold together with 95 % confidence, and its p values are corrected likewise (Bonferroni over ${m.join(" or ")} contrasts).`;
  const left = DATA.contrasts.n_left_out;
  const others = left ? ` There is no room to hold arms against ${left} more: \`designspace report --against NAME\` chooses.` : "";
  return `Each arm less the chosen one, on the problems that both have; to the right of zero it is better.${corrected} Filled marks have a `
    + `corrected p of at most 0.05. Arms that held different amounts of memory are not comparable.${others}`;
}

/** Return the figure of a task, none where nothing can be contrasted. */
function forestFigure(task, picks, number) {
  const own = CONTRASTS.filter((point) => point.task === task.place.task && point.split === task.place.split)
    .map((point) => ({ ...point, name: point.arm }));
  if (!own.length) return null;
  const against = unique(own.map((point) => point.against));
  const state = { against: against[0], show: own.length / against.length > 120 ? "picked" : "all" };
  const grid = element("div", { class: "panels" });
  const words = element("span", {});
  const drawn = () => own.filter((point) => point.against === state.against && (state.show === "all" || picks.has(point.name)));
  const draw = () => {
    const points = drawn();
    const panels = d3.groups(points, (point) => `${point.model} · ${point.budget === "none" ? "no budget" : `budget ${point.budget}`}`);
    const { abreast, width } = columnsFor(panels.length, widthOf(grid), 480);
    const [low, high] = [d3.min(points, (p) => p.low_points) ?? 0, d3.max(points, (p) => p.high_points) ?? 0];
    const domain = [Math.max(-100, Math.min(0, low) - BEYOND), Math.min(100, Math.max(0, high) + BEYOND)];
    arrange(grid, panels.map(([title, of]) => ({ title, label: `Difference in ${MEASURED} to ${state.against}, ${title}`,
      drawing: forestPanel(of, picks, domain, width) })), abreast, picks);
    if (!panels.length) grid.replaceChildren(element("p", {}, "No arm is highlighted, so there is nothing to draw."));
    words.textContent = forestWords(points);
  };
  const set = (key) => (value) => { state[key] = value; draw(); };
  picks.listeners.push(draw);
  onWidth(grid, draw);
  joinHover(grid, picks);
  return figure({ id: `contrasts-${number}`, heading: "Paired contrasts", grid, words,
    controls: [choice("against", against.map((name) => [name, name]), state.against, set("against")),
      choice("show", [["all", "all arms"], ["picked", "highlighted arms"]], state.show, set("show"))],
    files: downloads(`contrasts ${task.heading}`, grid, () => [drawn(), DATA.contrasts.columns.map((key) => [key, (point) => point[key]])]) });
}
