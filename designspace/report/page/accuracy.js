// Accuracy over the cache that each arm really held.

const SIZES = {
  tokens: ["mean cache, tokens per (layer, KV head)", (value) => value],
  held: ["mean bytes held, KiB per text", (value) => value / 1024],
  read: ["mean bytes read per step, KiB", (value) => value / 1024],
};

/** Return the points that nothing beats in both: more right and no larger, or smaller and no less right. */
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
    if (!front.length || point.y > front.at(-1).y) front.push(point);
  }
  return front;
}

/** Return the arms of a task as points of a figure. */
function pointsOf(arms, size) {
  const [, scale] = SIZES[size];
  return arms.filter((arm) => arm.accuracy != null && arm.low != null).map((arm) => ({
    ...arm, x: scale(arm[size]), y: 100 * arm.accuracy, y1: 100 * arm.low, y2: 100 * arm.high,
  }));
}

function describe(point) {
  return [
    point.name,
    `${point.model}, ${point.group}`,
    `accuracy ${percent(point.accuracy)} % (${percent(point.low)} to ${percent(point.high)})`,
    `mean cache ${grouped(point.tokens)} tokens`,
    `held ${grouped(point.held / 1024)} KiB, read ${grouped(point.read / 1024)} KiB per step`,
    `comparable: ${point.comparable}`,
  ].join("\n");
}

/** Return the marks of some points; those that are picked are drawn strongly. */
function accuracyMarks(points, picks, strong) {
  const colour = (point) => picks.colour(point.name);
  const lines = d3.groups(points, (point) => `${point.model} ${point.name}`).flatMap(([key, of]) =>
    of.sort((a, b) => a.x - b.x).map((point) => ({ ...point, key })));
  return [
    Plot.ruleX(points, { x: "x", y1: "y1", y2: "y2", stroke: colour, strokeWidth: strong ? 1.6 : 1, strokeOpacity: strong ? 0.8 : 0.35,
      ...named("intervals", points) }),
    Plot.line(lines, { x: "x", y: "y", z: "key", stroke: colour, strokeWidth: strong ? 1.6 : 0.8, strokeOpacity: strong ? 0.7 : 0.4,
      ...named("lines", lines) }),
    Plot.dot(points, { x: "x", y: "y", r: strong ? 4.6 : 3.2, symbol: (point) => picks.symbol(point.name), stroke: colour, strokeWidth: 1.6,
      fill: (point) => (point.comparison === "unmatched" ? "var(--paper)" : colour(point)), ...named("arms", points) }),
  ];
}

function referenceMarks(references) {
  const label = (arm) => `${arm.name} (${grouped(arm.x, 0)})`;
  return [
    Plot.ruleY(references, { y: "y", stroke: "var(--ink)", strokeDasharray: "5 4", ...named("references", references) }),
    Plot.text(references, { y: "y", frameAnchor: "top", textAnchor: "middle", lineAnchor: "bottom", dy: -4, text: label,
      fill: "var(--ink)", stroke: "var(--paper)", strokeWidth: 4 }),
  ];
}

/** Return one panel. state: what is chosen; domain: of the sizes, the same for all panels. */
function accuracyPanel(points, references, picks, state, domain, width) {
  const [label] = SIZES[state.size];
  const strong = points.filter((point) => picks.has(point.name));
  const weak = points.filter((point) => !picks.has(point.name));
  const front = state.front && points.length ? paretoFront(points) : [];
  if (front.length) front.push({ ...front.at(-1), x: domain[1] });
  return Plot.plot({
    ...look(width, Math.round(Math.max(280, Math.min(460, 0.8 * width)))),
    marginLeft: 44, marginRight: 16, marginTop: 34, marginBottom: 40,
    x: { label, domain, ticks: Math.max(3, Math.floor(width / 90)), labelAnchor: "center", labelArrow: "none", nice: false },
    y: { label: "accuracy, %", domain: [0, 100], grid: true, labelArrow: "none" },
    marks: [
      ...(references.length ? referenceMarks(references) : []),
      ...(weak.length ? accuracyMarks(weak, picks, false) : []),
      Plot.line(front, { x: "x", y: "y", curve: "step-after", stroke: "var(--ink)", strokeWidth: 1.2, strokeDasharray: "2 3",
        ...named("front", front) }),
      ...(strong.length ? accuracyMarks(strong, picks, true) : []),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: describe, ...TIP, maxRadius: 30 })),
    ],
  });
}

/** Return the panels that a choice asks for: [title, test of an arm] pairs. */
function splitting(arms, by) {
  const models = unique(arms.map((arm) => arm.model));
  if (by === "nothing") return [["", () => true]];
  if (by === "model") return models.map((model) => [model, (arm) => arm.model === model]);
  const levels = unique(arms.filter((arm) => by in arm.levels).map((arm) => arm.levels[by]));
  return levels.flatMap((level) => models.map((model) => [
    `${by.replaceAll("_", " ")}: ${level}${models.length > 1 ? ` · ${model}` : ""}`,
    (arm) => arm.model === model && (arm.comparison === "reference" || arm.levels[by] === level),
  ]));
}

function sizeDomain(points) {
  const [low, high] = d3.extent(points, (point) => point.x);
  const margin = high - low > 0.02 * high ? 0.06 * (high - low) : 0.03 * high || 1;
  return [Math.max(0, low - margin), high + margin];
}

/** Return the choices above the figure. */
function accuracyControls(arms, state, draw) {
  const set = (key) => (value) => { state[key] = value; draw(); };
  const budgets = unique(arms.filter((arm) => arm.budget !== "none").map((arm) => arm.group));
  const axes = unique(arms.flatMap((arm) => Object.keys(arm.levels)));
  const splits = [["nothing", "nothing"], ["model", "model"], ...axes.map((axis) => [axis, axis.replaceAll("_", " ")])];
  return [
    choice("over", [["tokens", "tokens"], ["held", "bytes held"], ["read", "bytes read"]], state.size, set("size")),
    choice("budget", [["", "all"], ...budgets.map((budget) => [budget, budget.replace("budget ", "")])], "", set("budget")),
    choice("split by", splits, state.by, set("by")),
    choice("show", [["all", "all arms"], ["picked", "highlighted arms"]], state.show, set("show")),
    tick("Pareto front", state.front, set("front")),
  ];
}

/** Return the figure of a task. */
function accuracyFigure(task, picks, number) {
  const arms = task.arms;
  const several = unique(arms.map((arm) => arm.model)).length > 1;
  const state = { size: arms.some((arm) => arm.budget_of === "bytes") ? "held" : "tokens", budget: "", by: several ? "model" : "nothing",
    show: "all", front: true };
  const grid = element("div", { class: "panels" });
  const drawn = () => pointsOf(arms, state.size).filter((arm) => (arm.comparison === "reference" || !state.budget || arm.group === state.budget)
    && (state.show === "all" || arm.comparison === "reference" || picks.has(arm.name)));
  const draw = () => {
    const points = drawn();
    const budgeted = points.filter((point) => point.comparison !== "reference");
    const panels = splitting(arms, state.by).map(([title, test]) => [title, points.filter(test)])
      .filter(([, of]) => of.some((point) => point.comparison !== "reference"));
    const { abreast, width } = columnsFor(panels.length, widthOf(grid));
    const domain = sizeDomain(budgeted.length ? budgeted : points);
    arrange(grid, panels.map(([title, of]) => ({ title, label: `Accuracy over cache size, ${title || task.heading}`,
      drawing: accuracyPanel(of.filter((p) => p.comparison !== "reference"), of.filter((p) => p.comparison === "reference"), picks, state,
        domain, width) })), abreast, picks);
    if (!panels.length) grid.replaceChildren(element("p", {}, "No graded arm with a budget is chosen, so there is nothing to draw."));
  };
  picks.listeners.push(draw);
  onWidth(grid, draw);
  joinHover(grid, picks);
  const heading = "Accuracy over the cache that was really held";
  return figure({ id: `accuracy-${number}`, heading, grid, controls: accuracyControls(arms, state, draw),
    aside: pickList(picks, `arms, ${task.heading}`), words: WORDS_OF_ACCURACY,
    files: downloads(`accuracy ${task.heading}`, grid, () => [drawn(), ACCURACY_CSV]) });
}

const WORDS_OF_ACCURACY = "Every mark stands where its arm was measured; bars are 95 % intervals of the arm alone, hollow marks are "
  + "unmatched arms, dashed lines references, with their size in brackets. The dotted line is the Pareto front of what is drawn: no arm "
  + "is better with less, by these estimates alone. Point at a mark, or at a name in the list, to see an arm.";
const ACCURACY_CSV = [
  ["model", (a) => a.model], ["budget", (a) => a.budget], ["mechanism", (a) => a.name], ["accuracy", (a) => a.accuracy],
  ["low", (a) => a.low], ["high", (a) => a.high], ["mean_cache_tokens", (a) => a.tokens], ["mean_cache_bytes", (a) => a.held],
  ["mean_read_bytes", (a) => a.read], ["comparable", (a) => a.comparable],
];
