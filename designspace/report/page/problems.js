// The problem browser: filters above, the list of problems on one side, the texts of one problem on the other. On the page of a
// report its data is in the page itself; `designspace view` asks its server instead. A scope of its own: other scripts share the page.
(() => {
"use strict";
if (!document.getElementById("view-filters")) return;
const VERDICTS = ["any", "right", "wrong", "cut off"];
const LEDGER = [
  ["new tokens", "n_new_tokens", 0], ["prompt tokens", "n_prompt_tokens", 0], ["ended by", "finish_reason", null],
  ["mean cache, tokens", "mean_cache_tokens", 1], ["after the first event", "steady_mean_cache_tokens", 1],
  ["peak cache, tokens", "peak_cache_tokens", 1], ["mean cache, bytes", "mean_cache_bytes", 0],
  ["read per step, bytes", "mean_read_bytes", 0], ["events", "n_events", 0], ["slots evicted", "n_evicted", 0],
  ["prompt left, any head, %", "prompt_survival_union", "%"], ["prompt left, a head, %", "prompt_survival_mean", "%"],
];
const part = (name) => document.getElementById(`view-${name}`);
let about = null; // what the server said of the results
let page = 0;
let shown = null; // id of the problem on show
let asked = 0; // a late answer to an earlier question is dropped

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

const embedded = part("data") && JSON.parse(part("data").textContent);

async function get(path, values = {}) {
  if (embedded) return answered[path](values);
  const answer = await fetch(`${path}?${new URLSearchParams(values)}`);
  const document_ = await answer.json();
  if (!answer.ok) throw new Error(document_.error);
  return document_;
}

const PAGE_SIZE = 50;
const fits = { any: () => true, right: (text) => text?.correct === true, wrong: (text) => text?.correct === false,
  "cut off": (text) => text?.ledger.finish_reason === "length" };

// The texts of a place, by problem; those of arms without a budget are at every budget.
function textsAt(values) {
  const same = (text) => ["model", "task", "split"].every((key) => text[key] === values[key])
    && String(text.replicate) === String(values.replicate) && [values.budget, "none"].includes(text.budget);
  const found = new Map();
  for (const text of embedded.texts.filter(same)) {
    if (!found.has(text.problem_id)) found.set(text.problem_id, []);
    found.get(text.problem_id).push(text);
  }
  return found;
}

// Counted in characters, as the server counts: a letter beyond the first 65,536 is two places of a string here.
function differsAt(text, other) {
  if (!other || other === text || text.text === other.text) return null;
  const [own, others] = [[...text.text], [...other.text]];
  let at = 0;
  while (at < own.length && own[at] === others[at]) at++;
  return at;
}

const answered = {
  "api/places": () => embedded,
  "api/problems": (values) => {
    const rows = [];
    let total = 0;
    for (const [id, texts] of textsAt(values)) {
      const { kind } = embedded.problems[`${values.task} ${values.split} ${id}`];
      if ((values.kind && values.kind !== kind) || !id.includes(values.search)) continue;
      total += 1;
      const side = (name) => texts.find((text) => text.mechanism === values[name]);
      if (["a", "b"].every((name) => !values[name] || fits[values[`verdict_${name}`]](side(name)))) {
        rows.push({ problem_id: id, kind, a: side("a")?.correct ?? null, b: side("b")?.correct ?? null });
      }
    }
    rows.sort((one, other) => (one.problem_id < other.problem_id ? -1 : 1));
    const first = PAGE_SIZE * values.page;
    return { problems: rows.slice(first, first + PAGE_SIZE), n_fitting: rows.length, n_problems: total, page_size: PAGE_SIZE };
  },
  "api/problem": (values) => {
    const texts = textsAt(values).get(values.problem) ?? [];
    const other = texts.find((text) => text.mechanism === values.against);
    return { ...embedded.problems[`${values.task} ${values.split} ${values.problem}`], against: other ? values.against : null,
      texts: texts.map((text) => ({ ...text, leaves_at: differsAt(text, other), leaves_at_token: null })) };
  },
};

function place() {
  return about.places[Number(part("place").value)];
}

function filter() {
  const { model, task, split, budget, replicate } = place();
  const chosen = Object.fromEntries(["a", "b", "verdict_a", "verdict_b", "kind", "search"].map((name) => [name, part(name).value]));
  return { model, task, split, budget, replicate, ...chosen, page };
}

function fill(select, names, texts = names) {
  const before = select.value;
  select.replaceChildren(...names.map((name, at) => element("option", { value: name }, String(texts[at]))));
  if (names.map(String).includes(before)) select.value = before;
}

function placeName({ model, task, split, budget, replicate }) {
  const several = new Set(about.places.map((one) => one.replicate)).size > 1;
  return `${model}, ${task} ${split}, ${budget === "none" ? "no budget" : `budget ${budget}`}${several ? `, replicate ${replicate}` : ""}`;
}

function fillForPlace() {
  const { arms, kinds } = place();
  fill(part("a"), ["", ...arms], ["none", ...arms]);
  fill(part("b"), ["", ...arms], ["none", ...arms]);
  fill(part("against"), ["", ...arms], ["nothing", ...arms]);
  fill(part("kind"), ["", ...kinds], ["all", ...kinds]);
}

function verdict(value) {
  if (value === null || value === undefined) return element("span", {}, "–");
  return element("span", { className: value ? "right" : "wrong" }, value ? "✓ right" : "✗ wrong");
}

function short(value, name) {
  if (!part(name).value) return "";
  const found = verdict(value);
  found.textContent = `${name.toUpperCase()} ${value === null ? "–" : value ? "✓" : "✗"}`;
  return found;
}

async function list() {
  const question = ++asked;
  const found = await get("api/problems", filter());
  if (question !== asked) return;
  part("count").textContent = `${found.n_fitting.toLocaleString("en")} of ${found.n_problems.toLocaleString("en")} problems`;
  part("problems").replaceChildren(...found.problems.map((problem) => {
    const button = element("button", { type: "button" }, problem.problem_id, short(problem.a, "a"), short(problem.b, "b"));
    button.setAttribute("aria-current", problem.problem_id === shown);
    button.addEventListener("click", () => show(problem.problem_id));
    return element("li", {}, button);
  }));
  const nPages = Math.max(1, Math.ceil(found.n_fitting / found.page_size));
  part("page").textContent = `page ${page + 1} of ${nPages}`;
  part("earlier").disabled = page === 0;
  part("later").disabled = page + 1 >= nPages;
}

function number(value, digits) {
  if (value === null || value === undefined) return "–";
  if (digits === null) return String(value);
  if (digits === "%") return (100 * value).toFixed(0);
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function marked(text) {
  const at = text.leaves_at;
  if (at === null) return [text.text];
  const letters = [...text.text];
  return [letters.slice(0, at).join(""), element("mark", {}, letters.slice(at).join("") || "(ends here)")];
}

function traceCommand(text) {
  const { model, budget, replicate } = place();
  const quoted = (word) => (/^[\w.+:/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  const words = ["designspace", "trace", about.results, shown, text.mechanism, "--model", model, "--replicate", String(replicate)];
  if (budget !== "none") words.push("--budget", budget);
  return words.map(quoted).join(" ");
}

// With chat template, system message and what the decoding adds; results of earlier versions did not keep it.
function asRead(prompt) {
  if (!prompt) return [];
  return [element("details", {}, element("summary", {}, "Prompt as the model read it"), element("pre", { tabIndex: 0 }, prompt))];
}

function article(text, against) {
  const said = [verdict(text.correct), ` · read as ${text.extracted === null ? "no answer" : `“${text.extracted}”`}`];
  if (text.leaves_at_token !== null) said.push(` · leaves ${against} at token ${text.leaves_at_token}`);
  else if (text.leaves_at !== null) said.push(` · leaves ${against} at the mark`);
  else if (against && text.mechanism !== against && text.leaves_at === null) said.push(` · the text of ${against}, letter by letter`);
  const ledger = LEDGER.map(([name, key, digits]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, number(text.ledger[key], digits))));
  return element(
    "article", { className: text.correct === null ? "" : text.correct ? "is-right" : "is-wrong" },
    element("h3", {}, text.mechanism), element("p", { className: "verdict" }, ...said),
    element("pre", { tabIndex: 0 }, ...marked(text)), element("dl", {}, ...ledger), ...asRead(text.prompt_text),
    element("p", { className: "trace" }, "What its cache held: ", element("code", {}, traceCommand(text))),
  );
}

// Those that are compared come first, then the others by name.
function ordered(texts) {
  const first = [part("against").value, part("a").value, part("b").value];
  const rank = (text) => (first.includes(text.mechanism) ? first.indexOf(text.mechanism) : first.length);
  return [...texts].sort((one, other) => rank(one) - rank(other));
}

async function show(id) {
  shown = id;
  for (const button of part("problems").querySelectorAll("button")) {
    button.setAttribute("aria-current", button.firstChild.textContent === id);
  }
  const against = part("against").value;
  const found = await get("api/problem", { ...filter(), problem: id, against });
  if (shown !== id) return;
  const prompt = element("details", { open: found.prompt.length < 1500 }, element("summary", {}, "Prompt"), element("pre", { tabIndex: 0 }, found.prompt));
  part("problem").replaceChildren(
    element("h2", {}, `${id}${found.kind ? ` · ${found.kind}` : ""}`),
    prompt,
    element("p", {}, `Answer: ${found.answer ?? "not graded"}`),
    element("div", { className: "texts" }, ...ordered(found.texts).map((text) => article(text, found.against))),
  );
}

async function restart() {
  page = 0;
  await list();
  const first = part("problems").querySelector("button");
  if (first) await show(first.firstChild.textContent);
  else part("problem").replaceChildren(element("p", {}, "No problem fits."));
}

function guarded(task) {
  return () => task().catch((error) => { part("said").textContent = error.message; });
}

function begin() {
  part("title").textContent = embedded ? "Problems" : `${about.study}: problems`;
  part("said").textContent = [`${about.n_texts.toLocaleString("en")} texts.`, ...about.notes].join(" ");
  fill(part("place"), about.places.map((_, at) => at), about.places.map(placeName));
  for (const name of ["verdict_a", "verdict_b"]) fill(part(name), VERDICTS);
  fillForPlace();
  part("against").value = place().arms.includes("full") ? "full" : "";
  part("place").addEventListener("change", guarded(async () => { fillForPlace(); await restart(); }));
  for (const name of ["a", "b", "verdict_a", "verdict_b", "kind", "search"]) part(name).addEventListener("input", guarded(restart));
  part("against").addEventListener("input", guarded(async () => { if (shown) await show(shown); }));
  part("earlier").addEventListener("click", guarded(async () => { page -= 1; await list(); }));
  part("later").addEventListener("click", guarded(async () => { page += 1; await list(); }));
  part("filters").addEventListener("submit", (event) => event.preventDefault());
  part("filters").hidden = false;
  part("both").hidden = false;
}

async function start() {
  for (;;) {
    about = await get("api/places");
    if (about.failure) throw new Error(about.failure);
    if (!about.reading) break;
    await new Promise((done) => setTimeout(done, 300));
  }
  if (about.places.length === 0) throw new Error("No text is stored yet.");
  begin();
  await restart();
}

guarded(start)();
})();
