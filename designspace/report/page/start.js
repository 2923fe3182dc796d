// Puts the parts into the page.

function start() {
  const host = document.getElementById("figures");
  tasks().forEach((task, number) => {
    task.arms.forEach((arm, id) => { arm.id = `${number}-${id}`; });
    const budgeted = task.arms.filter((arm) => arm.comparison !== "reference");
    const best = (name) => -d3.mean(task.arms.filter((arm) => arm.name === name), (arm) => arm.accuracy ?? 0);
    const picks = new Picks(d3.sort(unique(budgeted.map((arm) => arm.name)), best));
    host.append(element("section", { class: "task" }, element("h2", {}, `Figures · ${task.heading}`),
      accuracyFigure(task, picks, number), forestFigure(task, picks, number), effectsFigure(task, number),
      profileFigure(task, picks, number), occupancyFigure(task, picks, number)));
  });
  fedTasks().forEach((task, at) => {
    const number = tasks().length + at;
    const picks = new Picks(unique(task.arms.filter((arm) => arm.comparison !== "reference").map((arm) => arm.name)));
    const figures = [forestFigure(task, picks, number), occupancyFigure(task, picks, number)].filter((one) => one != null);
    if (figures.length) host.append(element("section", { class: "task" }, element("h2", {}, `Figures · ${task.heading}`), ...figures));
  });
  for (const place of document.querySelectorAll(".live")) new LiveTable(DATA.tables[Number(place.dataset.table)], place);
}

// On paper everything that is folded is open.
window.addEventListener("beforeprint", () => document.querySelectorAll("details:not(.picker)").forEach((one) => { one.open = true; }));
start();
