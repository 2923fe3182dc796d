// How full the cache was at each decode step, averaged over the texts that have come that far.

const WORDS_OF_OCCUPANCY = "Tokens that a decode step attended to, per layer and KV head, averaged over the texts of an arm that are as long. "
  + "A cache fills, is cut at its first event, and then keeps to its budget; where only few texts are left, the line is theirs alone. Dashed "
  + "lines are references; marks stand somewhere on their line, to tell lines apart that run together.";

/** Return one panel: a line for each arm. */
function occupancyPanel(lines, picks, domain, width) {
  const points = lines.flatMap((line) => line.steps.map((step, at) => ({ name: line.mechanism, id: "", key: `${line.mechanism} ${line.budget}`, isReference: line.budget === "none", step, tokens: line.tokens[at] })));
  const budgeted = points.filter((point) => !point.isReference);
  const references = points.filter((point) => point.isReference);
  const drawn = (strong) => budgeted.filter((point) => picks.has(point.name) === strong);
  const marks = (of, strong) => Plot.line(of, { x: "step", y: "tokens", z: "key", stroke: (point) => picks.colour(point.name),
    strokeWidth: strong ? 1.8 : 0.8, strokeOpacity: strong ? 0.9 : 0.4, ...named("lines", of) });
  const symbols = spacedSymbols(drawn(true));
  return Plot.plot({
    ...look(width, Math.round(Math.max(220, Math.min(320, 0.6 * width)))),
    marginLeft: 48, marginRight: 16, marginTop: 24, marginBottom: 40,
    x: { label: "decode step", domain: [0, domain[0]], labelAnchor: "center", labelArrow: "none", ticks: Math.max(3, Math.floor(width / 90)) },
    y: { label: "tokens held", domain: [0, domain[1]], grid: true, labelArrow: "none" },
    marks: [
      Plot.line(references, { x: "step", y: "tokens", z: "key", stroke: "var(--ink)", strokeWidth: 1, strokeDasharray: "5 4", ...named("lines", references) }),
      marks(drawn(false), false), marks(drawn(true), true),
      Plot.dot(symbols, { x: "step", y: "tokens", r: 4, symbol: (point) => picks.symbol(point.name), fill: (point) => picks.colour(point.name),
        stroke: "var(--paper)", strokeWidth: 0.8, ...named("occupancies", symbols) }),
      Plot.tip(points, Plot.pointer({ x: "step", y: "tokens", title: (point) => `${point.name}\nstep ${point.step}: ${grouped(point.tokens)} tokens`,
        ...TIP, maxRadius: 20 }))],
  });
}

/** Return one point of each line, each further along than the last, so that lines that run together can be told apart. */
function spacedSymbols(points) {
  const lines = d3.groups(points, (point) => point.key);
  return lines.map(([, of], at) => of[Math.floor((of.length * (at + 1)) / (lines.length + 1))]);
}

/** Return the figure of a task, none where no text says how its cache went. */
function occupancyFigure(task, picks, number) {
  const own = (DATA.occupancy ?? []).filter((line) => line.task === task.place.task && line.split === task.place.split);
  const budgeted = own.filter((line) => line.budget !== "none");
  if (!budgeted.length) return null;
  const references = own.filter((line) => line.budget === "none");
  const state = { show: "picked" };
  const grid = element("div", { class: "panels" });
  const drawn = () => [...budgeted, ...references].filter((line) => state.show === "all" || line.budget === "none" || picks.has(line.mechanism));
  const draw = () => {
    const panels = d3.groups(budgeted, (line) => `${line.model} · budget ${line.budget}`).map(([title, of]) => [title,
      drawn().filter((line) => of.includes(line) || (line.budget === "none" && line.model === of[0].model))]);
    const { abreast, width } = columnsFor(panels.length, widthOf(grid), 420);
    const lines = panels.flatMap(([, of]) => of);
    const domain = [d3.max(lines, (line) => d3.max(line.steps)) ?? 1, d3.max(lines, (line) => d3.max(line.tokens)) ?? 1];
    arrange(grid, panels.map(([title, of]) => ({ title, label: `Cache occupancy over decode steps, ${title}`,
      drawing: occupancyPanel(of, picks, domain, width) })), abreast, picks);
  };
  picks.listeners.push(draw);
  onWidth(grid, draw);
  joinHover(grid, picks);
  const rows = () => drawn().flatMap((line) => line.steps.map((step, at) => ({ ...line, step, tokens_held: line.tokens[at] })));
  const columns = ["model", "budget", "mechanism", "step", "tokens_held"].map((key) => [key, (row) => row[key]]);
  return figure({ id: `occupancy-${number}`, heading: "Cache occupancy over decode steps", grid, legend: legend(picks), words: WORDS_OF_OCCUPANCY,
    controls: [choice("show", [["picked", "highlighted arms"], ["all", "all arms"]], state.show, (value) => { state.show = value; draw(); })],
    files: downloads(`occupancy ${task.heading}`, grid, () => [rows(), columns]) });
}
