// The table of a place: columns to choose, rows to sort, groups to fold. On paper the tables of all columns stand in for it.

class LiveTable {
  constructor(data, host) {
    this.data = data;
    this.chosen = new Set(data.columns.filter((column) => column.first).map((column) => column.key));
    this.sorted = { at: null, falling: true };
    this.folded = new Set();
    this.together = false;
    this.host = host;
    this.said = element("p", { class: "said", role: "status" });
    this.table = element("table", { class: "sortable" });
    this.build();
    this.fill();
  }

  build() {
    const label = `All arms, ${this.data.heading}`;
    const region = element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, this.table);
    const edge = () => region.classList.toggle("more", region.scrollLeft + region.clientWidth < region.scrollWidth - 2);
    region.addEventListener("scroll", edge, { passive: true });
    new ResizeObserver(edge).observe(region);
    this.edge = edge;
    const budgets = unique(this.data.arms.map((arm) => arm.group));
    this.host.append(element("div", { class: "controls" }, this.picker(),
      budgets.length > 1 ? tick("sort across budgets", false, (on) => { this.together = on; this.fill(); }) : null,
      this.files()), this.said, region);
  }

  picker() {
    const boxes = this.data.columns.map((column) => tick(column.heading, this.chosen.has(column.key), (on) => {
      if (on) this.chosen.add(column.key);
      else this.chosen.delete(column.key);
      this.fill();
    }));
    this.count = element("summary", {});
    return element("details", { class: "picker" }, this.count, element("div", { class: "boxes" }, boxes));
  }

  files() {
    const { task, split, model } = this.data.place;
    const columns = [["model", () => model], ["task", () => `${task}/${split}`], ["budget", (arm) => arm.budget],
      ["mechanism", (arm) => arm.name], ...this.data.columns.map((column, at) => [column.heading, (arm) => arm.values[at]])];
    const name = `${DATA.title} ${this.data.kind} ${this.data.heading}`.replace(/[^\w.-]+/g, "-");
    return element("button", { type: "button",
      click: () => save(`${name}.csv`, new Blob([csv(this.data.arms, columns)], { type: "text/csv" })) }, "Data as CSV");
  }

  get columns() {
    return this.data.columns.map((column, at) => ({ ...column, at })).filter((column) => this.chosen.has(column.key));
  }

  /** Return arms in the order that is asked for; those without a value come last either way. */
  inOrder(arms) {
    const { at, falling } = this.sorted;
    if (at == null) return arms;
    const value = (arm) => (at === "name" ? arm.name : arm.values[at]);
    return [...arms].sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      if (one == null || other == null) return (one == null) - (other == null);
      const order = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
      return falling ? -order : order;
    });
  }

  sort(at) {
    const again = this.sorted.at === at;
    const firstFalling = at !== "name" && this.data.arms.some((arm) => typeof arm.values[at] === "number");
    this.sorted = { at, falling: again ? !this.sorted.falling : firstFalling };
    this.fill();
    this.table.querySelector(`[data-column="${at}"] button`)?.focus();
  }

  heading(text, at, kind = null) {
    const by = this.sorted.at === at;
    const order = by ? (this.sorted.falling ? "descending" : "ascending") : "none";
    const mark = by ? (this.sorted.falling ? " ▼" : " ▲") : "";
    return element("th", { scope: "col", class: kind, "aria-sort": order, "data-column": at },
      element("button", { type: "button", click: () => this.sort(at) }, text, element("span", { "aria-hidden": "true" }, mark)));
  }

  row(arm) {
    return element("tr", { class: arm.comparison === "unmatched" ? "unmatched" : null },
      element("th", { scope: "row" }, ...wrapping(this.together ? `${arm.name} · ${arm.group}` : arm.name)),
      this.columns.map(({ at, words }) => element("td", { class: words ? "words" : null }, arm.shown[at])));
  }

  group(heading, arms) {
    const open = !this.folded.has(heading);
    const fold = () => {
      if (open) this.folded.add(heading);
      else this.folded.delete(heading);
      this.fill();
      [...this.table.querySelectorAll("[data-group]")].find((one) => one.dataset.group === heading)?.focus();
    };
    const button = element("button", { type: "button", "aria-expanded": String(open), "data-group": heading, click: fold },
      `${open ? "▾" : "▸"} ${heading} (${arms.length} arm${arms.length === 1 ? "" : "s"})`);
    return element("tbody", {},
      element("tr", { class: "group" }, element("th", { scope: "rowgroup", colspan: this.columns.length + 1 }, button)),
      open ? this.inOrder(arms).map((arm) => this.row(arm)) : []);
  }

  fill() {
    const shown = this.columns;
    const head = element("thead", {}, element("tr", {}, this.heading("mechanism", "name"),
      shown.map((column) => this.heading(column.heading, column.at, column.words ? "words" : null))));
    const groups = d3.groups(this.data.arms, (arm) => arm.group);
    const bodies = this.together
      ? [element("tbody", {}, this.inOrder(this.data.arms).map((arm) => this.row(arm)))]
      : groups.map(([heading, arms]) => this.group(heading, arms));
    const longest = d3.max(this.data.arms, (arm) => (this.together ? `${arm.name} · ${arm.group}` : arm.name).length);
    this.table.style.setProperty("--longest", `${longest}ch`);
    this.table.replaceChildren(head, ...bodies);
    this.count.textContent = `columns (${shown.length} of ${this.data.columns.length})`;
    const by = this.sorted.at === "name" ? "mechanism" : this.data.columns[this.sorted.at]?.heading;
    this.said.textContent = by ? `sorted by ${by}, ${this.sorted.falling ? "falling" : "rising"}` : "a click on a heading sorts";
    this.edge();
  }
}
