// What is asked and answered, as openapi.json describes it; words.js has the words, and page.js the elements.
"use strict";

function drawDocs({ paths, security }) {
  const parts = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, what]) => operation(path, method, what, security)));
  at("docs").replaceChildren(make("h2", {}, word("docs")), ...parts);
}

function operation(path, method, what, security) {
  const [kind, sent] = Object.entries(what.requestBody?.content ?? {})[0] ?? [];
  const [answered] = Object.values(what.responses[200].content);
  const known = `does_${what.operationId}`;
  const does = WORDS.en[known] ? word(known) : word("does", { task: what.operationId });
  const open = security && what.security?.length === 0 ? ` ${word("no_key")}` : "";
  const parameters = Object.fromEntries((what.parameters ?? []).map((each) => [each.name, each.schema]));
  const must = (what.parameters ?? []).filter((each) => each.required).map((each) => each.name);
  return make("section", { className: "card" },
    make("h3", {}, make("code", {}, `${method.toUpperCase()} ${path}`)), make("p", {}, does + open),
    fieldTable("in_address", { properties: parameters, required: must }), fieldTable("sent", sent?.schema),
    fieldTable("told", answered.schema), ...command(curl(path, method, what, kind, sent, security)),
    folded(word("schemas"), JSON.stringify(what, null, 2)));
}

function fieldTable(title, schema) {
  const fields = Object.entries(schema?.properties ?? {});
  if (!fields.length) return null;
  const columns = title === "told" ? ["field", "form"] : ["field", "form", "needed"];
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, word(name))));
  const rows = fields.map(([name, form]) => make("tr", {}, make("td", {}, make("code", {}, name)),
    make("td", {}, formOf(form)), title === "told" ? null
      : make("td", { className: "n" }, word((schema.required ?? []).includes(name) ? "yes" : "no"))));
  const table = make("table", { className: "grid" }, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", { className: "scroll" }, make("h4", {}, word(title)), table);
}

function formOf(schema) {
  // Which values a schema has, in one line, as JSON would have them.
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return [...new Set(schema.anyOf.map(formOf))].join(" | ");
  if (schema.type === "array") {
    const most = schema.maxItems ? `, ${schema.minItems ?? 0}–${amount(schema.maxItems)}` : "";
    return `[${schema.items ? formOf(schema.items) : "…"}${most}]`;
  }
  if (schema.properties) return `{${Object.keys(schema.properties).join(", ")}}`;
  const bounds = schema.minimum === undefined ? "" : ` ≥ ${schema.minimum}`;
  return [schema.type ?? "…"].flat().join(" | ") + bounds + (schema.maximum === undefined ? "" : `, ≤ ${amount(schema.maximum)}`);
}

function curl(path, method, what, kind, sent, security) {
  const named = (name) => what.parameters?.find((each) => each.name === name)?.schema.enum?.[0] ?? name.toUpperCase();
  const filled = path.slice(1).replace(/\{(\w+)\}/g, (whole, name) => encodeURIComponent(named(name)));
  const words = [`curl ${new URL(filled, location)}`];
  if (method === "post" && !sent) words.push("-X POST");
  if (security && what.security?.length !== 0) words.push("-H 'Authorization: Bearer KEY'");
  if (sent) words.push(`-H 'Content-Type: ${kind}'`);
  if (sent) words.push(sent.example ? `-d '${quoted(sent.example)}'` : "--data-binary @FILE");
  return words.join(" \\\n  ");
}

function command(text) {
  const shown = make("pre", {}, text);
  const button = make("button", { type: "button", className: "quiet" }, word("copy"));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = word("copied");
    } catch { getSelection().selectAllChildren(shown); }  // where a browser lets no page copy
  });
  return [shown, make("div", { className: "row copy" }, button)];
}
