// What lies behind an accuracy: answers found, texts cut off, lengths, caches cut at all, and what was left of the prompt.

const MEASURES = [
  ["extracted", "texts with an answer, %", (arm) => arm.extracted, 100],
  ["truncated", "texts cut off, %", (arm) => arm.truncated, 100],
  ["triggered", "texts whose cache was cut, %", (arm) => arm.triggered, 100],
  ["prompt", "prompt kept in a head, %", (arm) => arm.prompt, 100],
  ["length", "new tokens per text", (arm) => arm.length, 1],
];

/** Return the arms of one group, the most accurate first, with the references that they stand beside. */
function profileArms(arms, model, group) {
  return arms.filter((arm) => arm.model === model && (arm.group === group || arm.comparison === "reference"))
    .sort((a, b) => (b.accuracy ?? -1) - (a.accuracy ?? -1));
}

/** Return one panel: a mark for each arm. labelled: whether names are written beside it. */
function profilePanel(arms, [key, label, of, scale], picks, width, margin) {
  const points = arms.filter((arm) => of(arm) != null).map((arm) => ({ ...arm, x: scale * of(arm) }));
  const top = d3.max(points, (point) => point.x) ?? 1;
  const title = (point) => `${point.name}\n${label.replace(", %", "")} ${grouped(point.x)}${scale === 100 ? " %" : ""}`;
  return Plot.plot({
    ...look(width, 46 + ROW_PX * arms.length),
    marginLeft: margin, marginRight: 14, marginTop: 12, marginBottom: 34,
    x: { label: null, domain: [0, scale === 100 ? 100 : 1.05 * top], ticks: 4, grid: true },
    y: { label: null, domain: arms.map((arm) => arm.name), tickSize: 0, axis: margin > 20 ? "left" : null,
      tickFormat: (name) => inMargin(name, margin) },
    marks: [
      Plot.ruleY(points, { y: "name", x1: 0, x2: "x", stroke: (point) => picks.colour(point.name), strokeOpacity: 0.5,
        ...named("rules", points) }),
      Plot.dot(points, { x: "x", y: "name", r: (point) => (picks.has(point.name) ? 5 : 3.5), fill: (point) => picks.colour(point.name),
        symbol: (point) => picks.symbol(point.name), ...named(key, points) }),
      Plot.tip(points, Plot.pointerY({ x: "x", y: "name", title, ...TIP, maxRadius: 16 })),
    ],
    r: { type: "identity" },
  });
}

/** Return the figure of a task. */
function profileFigure(task, picks, number) {
  const arms = task.arms;
  const groups = unique(arms.filter((arm) => arm.comparison !== "reference").map((arm) => JSON.stringify([arm.model, arm.group])));
  if (!groups.length) groups.push(...unique(arms.map((arm) => JSON.stringify([arm.model, arm.group]))));
  const state = { group: groups[0] };
  const grid = element("div", { class: "panels" });
  const chosen = () => profileArms(arms, ...JSON.parse(state.group));
  const draw = () => {
    const shown = chosen();
    const measures = MEASURES.filter(([, , of]) => shown.some((arm) => of(arm) != null));
    const names = Math.min(0.5 * widthOf(grid), 14 + LABEL_CHARACTER_PX * d3.max(shown, (arm) => arm.name.length));
    const abreast = widthOf(grid) > 900 ? measures.length : 1;
    const plain = abreast > 1 ? Math.floor((widthOf(grid) - names + 8 - GAP_PX * (abreast - 1)) / abreast) - 8 : widthOf(grid) - names;
    const panels = measures.map((measure, at) => {
      const margin = at === 0 || abreast === 1 ? names : 8;
      return { title: measure[1], drawing: profilePanel(shown, measure, picks, plain + margin, margin) };
    });
    arrange(grid, panels, abreast, picks);
    grid.style.gridTemplateColumns = abreast > 1
      ? [plain + names, ...measures.slice(1).map(() => plain + 8)].map((px) => `minmax(0, ${px}fr)`).join(" ") : "minmax(0, 1fr)";
  };
  picks.listeners.push(draw);
  onWidth(grid, draw);
  joinHover(grid, picks);
  const options = groups.map((group) => [group, JSON.parse(group).join(" · ")]);
  return figure({ id: `profile-${number}`, heading: "What lies behind an accuracy", grid,
    controls: [choice("arms of", options, state.group, (value) => { state.group = value; draw(); })],
    words: "Arms of one model and budget, the most accurate first, with the references. An arm whose texts are cut off or give no answer "
      + "fails in another way than one that answers wrongly; one that kept the whole prompt is helped by it.",
    files: downloads(`profile ${task.heading}`, grid, () => [chosen(), PROFILE_CSV]) });
}

const PROFILE_CSV = [
  ["model", (a) => a.model], ["budget", (a) => a.budget], ["mechanism", (a) => a.name], ["accuracy", (a) => a.accuracy],
  ["extraction_rate", (a) => a.extracted], ["truncation_rate", (a) => a.truncated], ["event_share", (a) => a.triggered],
  ["prompt_survival_mean", (a) => a.prompt], ["mean_new_tokens", (a) => a.length],
];
