// The page is one more client of the API: it asks /v1/models what there is, draws fields from the
// schema of a request, and draws an answer by what is in it, whatever the task is called.
// Texts of people and models are put in as text, never as markup.
"use strict";

const KINDS = {
  csv: "text/csv", tsv: "text/tab-separated-values", json: "application/json",
  jsonl: "application/x-ndjson", ndjson: "application/x-ndjson",
};
const FEW = 8;  // rows of a list before the rest is asked for

const state = { language: "en", models: [], model: null, shown: null, filing: null, described: null };
const documenting = location.pathname.endsWith("/docs");  // where the page shows the API instead
const at = (id) => document.getElementById(id);

// ---- words

function word(name, values = {}) {
  const text = WORDS[state.language][name] ?? WORDS.en[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

function speak(language) {
  state.language = language;
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = word(each.dataset.word);
  at("language").textContent = word("language");
  at("language").lang = language === "zh" ? "en" : "zh-Hans";
  if (state.model) {
    describe();
    drawFields(typed());
  }
  if (state.shown) drawAnswer(state.shown);
  if (state.described) drawDocs(state.described);
}

function keep(store, name, value) {
  try { store.setItem(name, value); } catch { /* a browser may refuse to keep anything */ }
}

function kept(store, name) {
  try { return store.getItem(name); } catch { return null; }
}

function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1%";
  return share >= 0.9995 && share < 1 ? "> 99.9%" : `${(100 * share).toFixed(1)}%`;
}

const amount = (number) => number.toLocaleString(state.language);

function duration(seconds) {
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  if (whole < 60) return `${seconds < 9.95 ? seconds.toFixed(1) : whole} s`;
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// ---- elements

function make(tag, values = {}, ...inner) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...inner.filter((each) => each !== null));
  return made;
}

function trouble(problem, fix = "") {
  const words = [make("b", {}, word("trouble")), make("span", {}, problem), make("span", {}, fix)];
  return make("div", { className: "trouble", role: "alert" }, ...words);
}

function tell(place, problem, fix) {
  at(place).replaceChildren(...(problem ? [trouble(problem, fix)] : []));
}

// ---- talking to the server

async function ask(path, options = {}) {
  const key = kept(sessionStorage, "key");
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error(word("offline")), { fix: word("offline_fix") });
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  if (response.status === 401) {
    at("gate").hidden = false;
    at("key").focus();
  }
  const problem = told.error?.message ?? `${response.status} ${response.statusText}`;
  const fix = response.status === 401 ? word("key_fix") : told.error?.fix ?? "";
  throw Object.assign(new Error(problem), { fix, place: told.error?.param ?? "", status: response.status });
}

async function start() {
  try {
    const listed = await (await ask("v1/models")).json();
    state.models = listed.data;
    at("gate").hidden = true;
    tell("trouble", state.models.length ? "" : word("none"));
    const select = at("model");
    select.replaceChildren(...state.models.map((each) => make("option", { value: each.id }, each.id)));
    const asked = state.models.find((each) => [each.id, encodeURIComponent(each.id)].includes(location.hash.slice(1)));
    if (asked) select.value = asked.id;
    at("models").hidden = documenting || state.models.length < 2;
    if (documenting) {
      state.described = await (await ask("openapi.json")).json();
      drawDocs(state.described);
    } else choose();
  } catch (error) {
    const first = error.status === 401 && !kept(sessionStorage, "key");  // the gate says it
    tell("trouble", first ? "" : error.message, error.fix);
  }
}

async function enter(event) {
  event.preventDefault();
  keep(sessionStorage, "key", at("key").value);
  await start();
  if (at("gate").hidden) document.querySelector("#fields textarea")?.focus();
  else at("key").select();
}

async function describeApi(event) {
  // The browser itself sends no key when a link is followed.
  if (!kept(sessionStorage, "key")) return;
  event.preventDefault();
  try {
    const described = await (await ask("openapi.json")).blob();
    location.assign(URL.createObjectURL(described));
  } catch (error) {
    tell("trouble", error.message, error.fix);
  }
}

function choose() {
  state.model = state.models.find((each) => each.id === at("model").value) ?? null;
  at("typing").hidden = at("filing").hidden = !state.model;
  state.shown = null;
  at("result").replaceChildren();
  at("filed").replaceChildren();
  if (!state.model) return;
  describe();
  drawFields({});
}

function describe() {
  const { task, labels, max_length: limit } = state.model;
  const known = labels?.length && limit;
  at("about").textContent = word(known ? "about" : "about_short", { task, labels: labels?.length, limit });
}

// ---- fields

function roles() {
  // The schema of an example lists its roles; a text alone may also come as a plain string.
  const schema = state.model.request ?? {};
  const forms = [schema, ...(schema.anyOf ?? schema.oneOf ?? [])];
  const object = forms.find((form) => form.properties);
  const properties = object?.properties ?? { text: { type: "string" } };
  return Object.entries(properties).map(([name, form]) => ({
    name, several: isList(form), needed: (object?.required ?? ["text"]).includes(name), hint: form.examples?.[0],
  }));
}

function isList(form) {
  const forms = form.anyOf ?? form.oneOf ?? [form];
  return !forms.some((each) => each.type === "string") && forms.some((each) => each.type === "array");
}

function drawFields(values) {
  const compared = state.model.vectors ? [{ name: "others", several: true, needed: false }] : [];
  const fields = [...roles(), ...compared].map(({ name, several, needed, hint }) => {
    const title = several ? word("each_line", { title: word(name) }) : word(name);
    const area = make("textarea", { id: `field-${name}`, name, dir: "auto", required: needed, rows: roles().length > 1 ? 2 : 3 });
    area.spellcheck = false;
    area.value = values[name] ?? (typeof hint === "string" ? hint : "");
    return make("label", { className: "field" }, make("span", {}, title), area);
  });
  at("fields").replaceChildren(...fields);
  const columns = roles().map(({ name }) => column(name, word("column", { role: word(name) }), word("found")));
  const typed = new Map(settings().map((each) => [each.id, each.value]));
  at("columns").replaceChildren(...columns, column("encoding", word("encoding"), "utf-8"), column("sep", word("sep"), word("first")),
    column("skip_rows", word("skip_rows"), "0"), chosen("header", ["yes", "no"], word),
    chosen("on_bad_row", ["answer", "answer-all", "drop", "error"], (value) => word(`rows_${value.replace("-", "_")}`)));
  for (const each of settings()) each.value = typed.get(each.id) ?? each.value;
}

const settings = () => [...at("columns").querySelectorAll("input, select")];

function chosen(name, values, called) {
  const options = values.map((value) => make("option", { value }, called(value)));
  return make("label", { className: "field" }, make("span", {}, word(name)), make("select", { id: `column-${name}` }, ...options));
}

// The server names parameters of the address; on the page they are fields.
function onPage(fix) {
  return fix.replace(/\?(\w+)=([\w-]*)/g, (whole, name, value) => {
    const role = roles()[["text", "text_pair"].indexOf(name)]?.name;
    const field = at(`column-${name}`) ?? at(`column-${role}`);
    if (!field) return whole;
    at("columns").closest("details").open = true;
    const title = field.parentElement.firstChild.textContent;
    const said = [...field.options ?? []].find((each) => each.value === value)?.textContent ?? value;
    return word(said ? "set_to" : "set", { title, value: said });
  });
}

function column(name, title, hint) {
  return make("label", { className: "field" }, make("span", {}, title),
    make("input", { id: `column-${name}`, placeholder: hint, autocomplete: "off", spellcheck: false }));
}

function typed() {
  return Object.fromEntries([...at("fields").querySelectorAll("textarea")].map((each) => [each.name, each.value]));
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function example(values) {
  const filled = roles().map(({ name, several }) => [name, several ? lines(values[name] ?? "") : values[name]]);
  return Object.fromEntries(filled.filter(([, value]) => value?.length));
}

// ---- one text

async function answer(event) {
  event.preventDefault();
  const values = typed();
  const asked = example(values);
  const others = lines(values.others ?? "");
  if (!Object.keys(asked).length) {
    tell("result", word("nothing"));
    return;
  }
  const input = others.length ? [asked, ...others.map((text) => ({ text }))] : asked;
  const body = { model: state.model.id, input };
  const path = `v1/${state.model.task}`;
  at("answer").disabled = true;
  at("result").setAttribute("aria-busy", "true");
  const begin = performance.now();
  try {
    const headers = { "Content-Type": "application/json" };
    const told = await (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
    state.shown = { told, asked, others, path, body, ms: performance.now() - begin };
    drawAnswer(state.shown);
  } catch (error) {
    state.shown = null;
    tell("result", error.message, error.fix);
  }
  at("answer").disabled = false;
  at("result").removeAttribute("aria-busy");
}

function drawAnswer(shown) {
  const [first] = shown.told.answers;
  const drawn = DRAWN.filter(([name]) => first[name] !== undefined && first[name] !== null)
    .flatMap(([, draw]) => draw(first, shown)).filter(Boolean);
  const key = kept(sessionStorage, "key") ? " -H 'Authorization: Bearer KEY'" : "";
  const terminal = `curl ${location.origin}/${shown.path}${key} -H 'Content-Type: application/json' \\\n  -d '${quoted(shown.body)}'`;
  at("result").replaceChildren(...drawn, account(first, shown),
    folded(word("raw"), JSON.stringify(briefly(shown.told), null, 2)), folded(word("request"), terminal));
}

const quoted = (value) => JSON.stringify(value).replaceAll("'", "'\\''");

function folded(title, text) {
  return make("details", {}, make("summary", {}, title), make("pre", {}, text));
}

function briefly(told) {
  // Hundreds of numbers say nothing to a reader.
  const shorter = (value) => Array.isArray(value) && value.length > 40 && typeof value[0] === "number"
    ? [...value.slice(0, 8), `… ${value.length} numbers`] : value;
  return JSON.parse(JSON.stringify(told, (_, value) => shorter(value)));
}

function account({ tokens, tokens_cut: cut, windows }, { told, ms }) {
  const parts = [];
  if (tokens !== undefined) parts.push(make("span", {}, word("tokens", { n: amount(tokens) })));
  if (cut > 0) parts.push(make("span", { className: "odd" }, word("cut", { n: amount(cut), of: amount(tokens) })));
  else if (cut === 0) parts.push(make("span", {}, word("whole")));
  if (windows > 1) parts.push(make("span", {}, word("windows", { n: windows })));
  const time = told.time ?? {};
  const inner = Object.fromEntries(["queue", "tokenize", "model"].map((name) => [name, (time[`${name}_ms`] ?? 0).toFixed(1)]));
  inner.ms = ms < 10 ? ms.toFixed(1) : Math.round(ms);
  parts.push(make("span", { id: "latency" }, word(told.time ? "parts" : "took", inner)));
  return make("p", { className: "account note" }, ...parts);
}

// What is drawn of an answer, by the name of what is in it, in this order.
const DRAWN = [
  ["choice", ({ choice, probability }) => [said(choice, probability)]],
  ["label", ({ choice, label, probability }) => choice === undefined ? [said(label, probability)] : []],
  ["labels", ({ labels }) => [labels.length ? said(labels.join(", ")) : make("p", {}, word("no_label"))]],
  ["answer", drawSpan],
  ["filled", ({ filled }) => [make("p", { className: "words", dir: "auto" }, filled)]],
  ["masks", drawMasks],
  ["spans", drawSpans],
  ["probabilities", drawShares],
  ["value", ({ value }) => [said(String(round(value)))]],
  ["values", ({ values }) => [numbersTable(values)]],
  ["similarity", ({ similarity }) => [said(similarity.toFixed(4)), bars(word("similarity"), [["", similarity]], plain)]],
  ["vector", drawVector],
];

const round = (number) => Number(number.toPrecision(5));
const plain = (number) => number.toFixed(3);

function said(text, share = null) {
  return make("p", { className: "said" }, make("bdi", {}, text), share === null || share === undefined ? null : make("small", {}, percent(share)));
}

function drawShares({ probabilities: shares }, { asked }) {
  if (!Array.isArray(shares)) return [bars(word("labels"), sorted(Object.entries(shares)))];
  const choices = Object.values(asked).find((value) => Array.isArray(value)) ?? [];
  return [bars(word("choices_shares"), shares.map((share, place) => [choices[place] ?? place + 1, share]))];
}

const sorted = (pairs) => [...pairs].sort((one, other) => other[1] - one[1]);

function bars(title, pairs, show = percent) {
  // Pairs of a name and a number from 0 to 1; what is below 0 is hatched.
  const best = Math.max(...pairs.map(([, number]) => number));
  const rows = pairs.map(([name, number]) => {
    const bar = make("i", { className: number < 0 ? "below" : "" });
    bar.style.width = `${100 * Math.min(1, Math.abs(number))}%`;
    return make("li", { className: number === best ? "first" : "" }, make("span", { className: "name" }, String(name)),
      make("span", { className: "part", ariaHidden: "true" }, bar), make("span", { className: "n" }, show(number)));
  });
  const longest = Math.max(...pairs.map(([name]) => characters(String(name)).length));
  const list = make("ul", { className: longest > 24 ? "bars long" : "bars", ariaLabel: title }, ...rows.slice(0, FEW));
  return make("div", {}, make("h3", {}, title), list, more(rows, list));
}

function more(rows, parent) {
  if (rows.length <= FEW) return null;
  const button = make("button", { type: "button", className: "link" }, word("more", { n: amount(rows.length) }));
  button.addEventListener("click", () => { parent.replaceChildren(...rows); button.remove(); });
  return button;
}

function numbersTable(values) {
  const rows = Object.entries(values).map(([name, number]) => make("tr", {},
    make("th", { scope: "row" }, name), make("td", { className: "n" }, String(round(number)))));
  return make("div", {}, make("h3", {}, word("values")), make("table", { className: "grid" }, make("tbody", {}, ...rows)));
}

// Places are counted in characters, of which JavaScript takes some as two.
const characters = (text) => Array.from(text);

function fieldOf(asked, start, end, text) {
  // The field in which these characters are what the answer says that they are.
  const texts = Object.values(asked).filter((value) => typeof value === "string");
  return texts.find((value) => characters(value).slice(start, end).join("") === text) ?? texts.at(-1);
}

function marked(text, marks) {
  // Where marks overlap, the first one is drawn.
  const letters = characters(text);
  const words = make("p", { className: "words", dir: "auto" });
  let done = 0;
  for (const { start, end, label } of [...marks].sort((one, other) => one.start - other.start)) {
    if (start < done || end <= start) continue;
    words.append(letters.slice(done, start).join(""));
    words.append(make("mark", {}, letters.slice(start, end).join(""), label ? make("small", {}, label) : null));
    done = end;
  }
  words.append(letters.slice(done).join(""));
  return words;
}

function drawSpan(told, { asked }) {
  const { answer: text, start, end, probability, best = [], no_answer: none } = told;
  const field = text ? fieldOf(asked, start, end, text) : "";
  const pairs = best.map((each) => [each.text, each.probability]);
  if (none !== undefined && none !== null) pairs.push([word("no_answer"), none]);
  return [said(text || word("no_answer"), text ? probability : none), text ? marked(field, [{ start, end }]) : null,
    pairs.length > 1 ? bars(word("surest"), sorted(pairs)) : null];
}

function drawSpans({ spans }, { asked }) {
  if (!spans.length) return [make("p", {}, word("no_spans"))];
  const text = fieldOf(asked, spans[0].start, spans[0].end, spans[0].text);
  const heads = ["spans", "kind", "where", "probability"].map((name, place) =>
    make("th", { scope: "col", className: place > 1 ? "n" : "" }, word(name)));
  const inOrder = [...spans].sort((one, other) => one.start - other.start);
  const rows = inOrder.map((each) => make("tr", {}, make("td", {}, each.text), make("td", {}, each.label),
    make("td", { className: "n" }, `${each.start}–${each.end}`),
    make("td", { className: "n" }, each.probability === undefined ? "" : percent(each.probability))));
  const body = make("tbody", {}, ...rows.slice(0, FEW));
  const table = make("table", { className: "grid" }, make("thead", {}, make("tr", {}, ...heads)), body);
  return [marked(text, spans), make("div", { className: "scroll" }, table), more(rows, body)];
}

function drawMasks({ masks }) {
  return masks.map(({ start, end, best }) => bars(word("mask", { at: `${start}–${end}` }),
    best.map((each) => [each.token, each.probability])));
}

function drawVector({ vector }, { told, others }) {
  const length = (numbers) => Math.hypot(...numbers);
  const cosine = (other) => vector.reduce((sum, number, place) => sum + number * other[place], 0)
    / (length(vector) * length(other) || 1);
  const rest = told.answers.slice(1).map((each, place) => [others[place], cosine(each.vector)]);
  const numbers = vector.map((number) => number.toFixed(4)).join(", ");
  return [rest.length ? bars(word("similarity"), sorted(rest), plain) : said(word("vector", { n: amount(vector.length) })),
    folded(word("numbers"), numbers)];
}

// ---- a file

function ending(name) {
  return name.toLowerCase().split(".").at(-1);
}

async function send(file) {
  const kind = KINDS[ending(file.name)];
  tell("filed", kind ? "" : word("wrong_kind"), word("wrong_kind_fix"));
  if (!kind) return;
  state.filing?.abort();
  const filing = state.filing = new AbortController();
  const begin = performance.now();
  const progress = new Progress(file.name, begin);
  const query = new URLSearchParams(settings()
    .map((each) => [each.id.slice("column-".length), each.value.trim()]).filter(([, value]) => value));
  const path = `v1/files/${encodeURIComponent(state.model.id)}${query.size ? "?" : ""}${query}`;
  const parts = [];
  try {
    const options = { method: "POST", headers: { "Content-Type": kind }, body: file, signal: filing.signal };
    const response = await ask(path, options);
    progress.begins(Number(response.headers.get("X-Rows")) || null, ending(file.name));
    for (const reader = response.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      progress.add(value);
    }
    const seconds = (performance.now() - begin) / 1000;
    const blob = new Blob(parts, { type: kind });
    filed(blob, file.name, word("done", { rows: amount(progress.rows), time: duration(seconds) }));
  } catch (error) {
    fell(error, parts.length ? progress.rows : 0, parts.length > 0);
  }
  if (state.filing === filing) at("progress").hidden = true;
}

function fell(error, rows, begun) {
  if (error.name === "AbortError") at("filed").replaceChildren(make("p", {}, word("stopped", { rows: amount(rows) })));
  else if (begun) tell("filed", word("broken", { rows: amount(rows) }), word("broken_fix"));
  else {
    const place = /^the file, (.*)/.exec(error.place)?.[1];
    tell("filed", place ? word("in_file", { place, problem: error.message }) : error.message, onPage(error.fix ?? ""));
  }
}

function filed(blob, name, told) {
  const [, stem, last] = /^(.*?)(\.[^.]*)$/.exec(name);
  const target = `${stem}-answers${last}`;
  const link = make("a", { className: "button", href: URL.createObjectURL(blob), download: target }, word("save", { name: target }));
  at("filed").replaceChildren(make("p", { className: "done" }, told), make("p", {}, link));
  link.focus();
}

class Progress {
  // Rows are counted by the line breaks of the answers; those within quoted cells are no ends of rows.
  constructor(name, begin) {
    Object.assign(this, { begin, rows: 0, all: null, quoted: false, table: false });
    at("progress").hidden = false;
    at("bar").removeAttribute("value");
    at("rate").textContent = word("sending", { name });
  }

  begins(all, kind) {
    this.all = all;
    this.table = kind === "csv" || kind === "tsv";
    this.rows = this.table || kind === "json" ? -1 : 0;  // the names of the columns, or "["
    if (all) at("bar").max = all;
  }

  add(bytes) {
    for (const byte of bytes) {
      if (byte === 34 && this.table) this.quoted = !this.quoted;
      else if (byte === 10 && !this.quoted) this.rows += 1;
    }
    const rows = Math.max(0, this.all ? Math.min(this.rows, this.all) : this.rows);
    const rate = rows / ((performance.now() - this.begin) / 1000);
    const parts = [this.all ? word("rows", { done: amount(rows), all: amount(this.all) }) : word("some_rows", { done: amount(rows) }),
      word("rate", { rate: amount(Math.round(rate)) })];
    if (this.all && rate) parts.push(word("left", { time: duration((this.all - rows) / rate) }));
    if (this.all) at("bar").value = rows;
    at("rate").textContent = parts.join(" · ");
    this.rows = this.all ? Math.min(this.rows, this.all) : this.rows;
  }
}

// ---- what people do

function listen() {
  at("language").addEventListener("click", () => {
    const language = state.language === "zh" ? "en" : "zh";
    keep(localStorage, "language", language);
    speak(language);
  });
  at("model").addEventListener("change", choose);
  at("api").addEventListener("click", describeApi);
  at("ask").addEventListener("submit", answer);
  at("ask").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  });
  at("gate").addEventListener("submit", enter);
  at("file").addEventListener("change", () => { if (at("file").files.length) send(at("file").files[0]); });
  at("file").addEventListener("click", () => { at("file").value = ""; });  // the same file may come again
  at("file-form").addEventListener("submit", (event) => event.preventDefault());
  at("stop").addEventListener("click", () => state.filing?.abort());
  const drop = at("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
    });
  }
}

listen();
at("docs").hidden = at("to-page").hidden = !documenting;
at("to-docs").hidden = documenting;
speak(kept(localStorage, "language") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
start();
