// The page is one more client of the API: it asks /v1/models what there is, draws fields from the
// schema of a request, and draws an answer by what is in it, whatever the task is called.
// Texts of people and models are put in as text, never as markup.
"use strict";

const WORDS = {
  en: {
    skip: "Skip to the text", model: "Model", gate: "This server asks for a key", key: "Key",
    enter: "Enter", typing: "A text", filing: "A file", answer: "Answer", shortcut: "Ctrl + Enter",
    choose: "Choose a file, or drop it here", columns: "Columns and encoding", stop: "Stop",
    kinds: "CSV, TSV, JSON or JSON lines. It comes back with answers.",
    api: "The same as JSON (OpenAPI)", language: "中文", docs: "What is asked, and what is answered", to_page: "Try it with a text",
    in_address: "In the address", sent: "What is sent", told: "What comes back", field: "Field", form: "Form", needed: "Needed",
    yes: "yes", no: "no", copy: "Copy", copied: "Copied", schemas: "All of it as JSON Schema", no_key: "Needs no key.",
    does: "Answers texts: {task}.", does_embeddings: "Vectors of texts, as OpenAI's API gives them.",
    does_files: "A table in the body, and the same table with answers.", does_models: "The models that answer.",
    does_model: "One of them.", does_load: "Loads a model, or its new version; with an administrator's key.",
    does_unload: "Takes no more requests for a model; with an administrator's key.", does_metrics: "Counts for Prometheus.",
    does_openapi: "This description.", does_health: "Whether the process lives.", does_ready: "Whether every model answers.",
    text: "Text", text_pair: "Second text", question: "Question", context: "Text with the answer",
    choices: "Choices", each_line: "{title} (one a line)", others: "Texts to compare it with",
    encoding: "Encoding", column: "Column of the {role}", found: "found by its name",
    surest: "The most probable answers", labels: "Probability of each label",
    choices_shares: "Probability of each choice", values: "Values", similarity: "Cosine similarity",
    filled: "Filled in", mask: "In place of {at}", spans: "Span", kind: "Label", where: "Characters",
    probability: "Probability", no_spans: "Nothing is tagged in this text.",
    no_label: "No label reaches its threshold.", no_answer: "The text has no answer",
    vector: "{n} numbers", numbers: "The numbers", more: "Show all {n}", raw: "The answer as JSON",
    request: "The same from a terminal", tokens: "{n} tokens", whole: "nothing was cut",
    cut: "{n} of {of} tokens were cut: the model has not seen them", windows: "read in {n} windows",
    took: "{ms} ms in all", parts: "{ms} ms in all (waiting {queue}, tokenising {tokenize}, model {model})",
    asking: "Asking…", trouble: "That did not work", offline: "The server does not answer.",
    offline_fix: "Is it running? Try again in a moment.", none: "No model is loaded.",
    about: "{task} · {labels} labels · at most {limit} tokens", about_short: "{task}",
    sending: "Sending {name}…", rows: "{done} of {all} rows", some_rows: "{done} rows",
    rate: "{rate} rows/s", left: "{time} left", save: "Save {name}", wrong_kind: "Not such a file",
    wrong_kind_fix: "Give one that ends in .csv, .tsv, .json, .jsonl or .ndjson.",
    done: "{rows} rows answered in {time}.", stopped: "Stopped after {rows} rows.",
    broken: "The answers broke off after {rows} rows.", broken_fix: "Send the file again.",
    nothing: "Type something first.",
  },
  zh: {
    skip: "跳到文本", model: "模型", gate: "此服务器需要密钥", key: "密钥",
    enter: "进入", typing: "一段文本", filing: "一个文件", answer: "回答", shortcut: "Ctrl + Enter",
    choose: "选择文件，或拖放到此处", columns: "列与编码", stop: "停止",
    kinds: "CSV、TSV、JSON 或 JSON 行；返回时附上答案。",
    api: "同样内容的 JSON（OpenAPI）", language: "English", docs: "问什么，答什么", to_page: "用一段文本试试",
    in_address: "地址中", sent: "发送的内容", told: "返回的内容", field: "字段", form: "形式", needed: "必需",
    yes: "是", no: "否", copy: "复制", copied: "已复制", schemas: "完整内容（JSON Schema）", no_key: "不需要密钥。",
    does: "回答文本：{task}。", does_embeddings: "文本的向量，格式与 OpenAI 的 API 相同。",
    does_files: "请求体是一张表，返回同一张表加上答案。", does_models: "各个模型。",
    does_model: "其中一个模型。", does_load: "加载一个模型，或换上新版本；需要管理员密钥。",
    does_unload: "不再接收某个模型的请求；需要管理员密钥。", does_metrics: "供 Prometheus 读取的计数。",
    does_openapi: "这份描述。", does_health: "进程是否活着。", does_ready: "每个模型是否都能回答。",
    text: "文本", text_pair: "第二段文本", question: "问题", context: "含答案的文本",
    choices: "选项", each_line: "{title}（每行一个）", others: "与之比较的文本",
    encoding: "编码", column: "“{role}”所在的列", found: "按列名查找",
    surest: "最可能的答案", labels: "各标签的概率",
    choices_shares: "各选项的概率", values: "数值", similarity: "余弦相似度",
    filled: "填好的文本", mask: "{at} 处的候选词", spans: "片段", kind: "标签", where: "字符位置",
    probability: "概率", no_spans: "这段文本中没有标出任何片段。",
    no_label: "没有标签达到其阈值。", no_answer: "文本中没有答案",
    vector: "{n} 个数", numbers: "向量的数值", more: "显示全部 {n} 项", raw: "JSON 格式的答案",
    request: "在终端中发送同样的请求", tokens: "{n} 个词元", whole: "没有截断",
    cut: "{of} 个词元中有 {n} 个被截断：模型没有看到它们", windows: "分 {n} 个窗口读取",
    took: "共 {ms} 毫秒", parts: "共 {ms} 毫秒（排队 {queue}，分词 {tokenize}，模型 {model}）",
    asking: "正在询问…", trouble: "未能完成", offline: "服务器没有回应。",
    offline_fix: "它在运行吗？请稍后再试。", none: "没有加载任何模型。",
    about: "{task} · {labels} 个标签 · 最多 {limit} 个词元", about_short: "{task}",
    sending: "正在发送 {name}…", rows: "{done} / {all} 行", some_rows: "{done} 行",
    rate: "每秒 {rate} 行", left: "剩余 {time}", save: "保存 {name}", wrong_kind: "不支持这种文件",
    wrong_kind_fix: "请选择以 .csv、.tsv、.json、.jsonl 或 .ndjson 结尾的文件。",
    done: "已回答 {rows} 行，用时 {time}。", stopped: "在 {rows} 行之后停止。",
    broken: "答案在 {rows} 行之后中断。", broken_fix: "请重新发送该文件。",
    nothing: "请先输入内容。",
  },
};
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

const percent = (share) => share >= 0.9995 && share < 1 ? "> 99.9%" : `${(100 * share).toFixed(1)}%`;
const amount = (number) => number.toLocaleString(state.language);

function duration(seconds) {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
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
  throw Object.assign(new Error(problem), { fix: told.error?.fix ?? "", status: response.status });
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
    tell("trouble", error.message, error.fix);
  }
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
    const area = make("textarea", { id: `field-${name}`, name, required: needed, rows: roles().length > 1 ? 2 : 3 });
    area.spellcheck = false;
    area.value = values[name] ?? (typeof hint === "string" ? hint : "");
    return make("label", { className: "field" }, make("span", {}, title), area);
  });
  at("fields").replaceChildren(...fields);
  const columns = roles().map(({ name }) => column(name, word("column", { role: word(name) }), word("found")));
  at("columns").replaceChildren(...columns, column("encoding", word("encoding"), "utf-8"));
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
  const terminal = `curl ${location.origin}/${shown.path} -H 'Content-Type: application/json' \\\n  -d '${quoted(shown.body)}'`;
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
  ["filled", ({ filled }) => [make("p", { className: "words" }, filled)]],
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
  return make("p", { className: "said" }, text, share === null || share === undefined ? null : make("small", {}, percent(share)));
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
  const words = make("p", { className: "words" });
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
  const query = new URLSearchParams([...at("columns").querySelectorAll("input")]
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
  else tell("filed", error.message, error.fix);
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
  at("gate").addEventListener("submit", (event) => {
    event.preventDefault();
    keep(sessionStorage, "key", at("key").value);
    start();
  });
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
