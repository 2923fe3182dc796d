// Effects of the axes: what a level of an axis is worth over another, averaged over the arms that differ in nothing else.

const LINE_PX = 13;

function describeEffect(effect) {
  return [
    effect.name,
    `${effect.model}, budget ${effect.budget}`,
    `${signed(effect.points)} points (${signed(effect.low_points)} to ${signed(effect.high_points)})`,
    `p = ${effect.p_value.toPrecision(2)}, corrected for ${effect.n_comparisons}`,
    `averaged over ${effect.n_backgrounds} setting${effect.n_backgrounds === 1 ? "" : "s"} of the other axes`,
    `${effect.n_problems} problems, ${effect.n_differing} of them with a difference`,
  ].join("\n");
}

/** Return one panel: an effect in each row, with its name in as many lines as it takes. */
function effectsPanel(effects, domain, width) {
  const margin = Math.min(0.45 * width, 330);
  const letters = Math.floor((margin - 14) / LABEL_CHARACTER_PX);
  const lines = d3.max(effects, (effect) => Math.ceil(effect.name.length / (0.85 * letters)));
  return Plot.plot({
    ...look(width, 56 + effects.length * (8 + LINE_PX * lines)),
    marginLeft: margin, marginRight: 16, marginTop: 10, marginBottom: 40,
    x: { label: width - margin > 260 ? "difference in accuracy, percentage points" : "difference, points", domain, grid: true,
      labelAnchor: "center", labelArrow: "none", ticks: Math.max(3, Math.floor((width - margin) / 70)) },
    y: { label: null, domain: effects.map((effect) => effect.name), axis: null },
    marks: [
      Plot.axisY({ tickSize: 0, lineWidth: (margin - 14) / 12, label: null }),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
      Plot.ruleY(effects, { y: "name", x1: "low_points", x2: "high_points", stroke: "var(--pick-0)", strokeWidth: 2 }),
      Plot.dot(effects, { x: "points", y: "name", r: 4.2, stroke: "var(--pick-0)", strokeWidth: 1.6,
        fill: (effect) => (effect.p_value <= 0.05 ? "var(--pick-0)" : "var(--paper)"), ...named("effects", effects) }),
      Plot.tip(effects, Plot.pointerY({ x: "points", y: "name", title: describeEffect, ...TIP, maxRadius: 20 })),
    ],
  });
}

const WORDS_OF_EFFECTS = "What the first level is worth over the second, in pairs of arms that differ in nothing else, averaged over these "
  + "pairs and over problems; with ×, by how much one axis' effect depends on the other's level. The effects of a panel are one family: "
  + "their intervals hold together with 95 % confidence, and p is corrected for their number (Bonferroni). Filled marks have a corrected p of "
  + "at most 0.05.";

/** Return the figure of a task, none where no effect can be estimated. */
function effectsFigure(task, number) {
  const own = DATA.effects.effects.filter((effect) => effect.task === task.place.task && effect.split === task.place.split);
  if (!own.length) {
    return DATA.effects.n_left_out
      ? element("p", {}, `Effects of axes: there are ${DATA.effects.n_left_out}, too many for this page; \`designspace effects\` prints them.`) : null;
  }
  const grid = element("div", { class: "panels" });
  const panels = d3.groups(own, (effect) => `${effect.model} · budget ${effect.budget}`);
  const domain = [Math.min(0, d3.min(own, (effect) => effect.low_points)) - BEYOND, Math.max(0, d3.max(own, (effect) => effect.high_points)) + BEYOND];
  onWidth(grid, () => {
    const { abreast, width } = columnsFor(panels.length, widthOf(grid), 560);
    arrange(grid, panels.map(([title, of]) => ({ title, label: `Effects of axes, ${title}`, drawing: effectsPanel(of, domain, width) })), abreast);
  });
  const columns = Object.keys(own[0]).map((key) => [key, (effect) => effect[key]]);
  return figure({ id: `effects-${number}`, heading: "Effects of the axes", grid, words: WORDS_OF_EFFECTS, controls: [],
    files: downloads(`effects ${task.heading}`, grid, () => [own, columns]) });
}
