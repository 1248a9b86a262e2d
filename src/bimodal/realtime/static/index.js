import { ask, CALLS, element, here, load, stages } from "./calls.js";

const at = (id) => document.getElementById(id);
const MANY = 64; // more places of a vector than this are one text area
let models = [];
let model = null;
let read = () => ({});
let tab = "curl";

function kindOf(field) {
  const kind = field.type === "string" ? "text" : field.type;
  return field.nullable ? `${kind}, may be empty` : kind;
}

// One input element for a scalar field; value() gives what JSON carries.
function scalar(field, id, example) {
  const given = example ?? null;
  if (field.type === "bool") {
    const options = ["true", "false", ...(field.nullable ? [""] : [])];
    const select = element("select", { id }, ...options.map((o) => element("option", { value: o }, o || "(empty)")));
    select.value = given === null ? "" : String(given);
    return { node: select, value: () => (select.value === "" ? null : select.value === "true") };
  }
  if (field.categories && field.closed) {
    const options = field.categories.map((each, i) => element("option", { value: i }, String(each)));
    if (field.nullable) options.push(element("option", { value: "" }, "(empty)"));
    const select = element("select", { id }, ...options);
    const place = field.categories.indexOf(given);
    select.value = place < 0 ? (field.nullable ? "" : "0") : String(place);
    return { node: select, value: () => (select.value === "" ? null : field.categories[Number(select.value)]) };
  }
  const number = /^(u?int|float)/.test(field.type);
  const input = element("input", { id, type: number ? "number" : "text", step: number ? "any" : null, list: field.categories ? `${id}-known` : null, autocomplete: "off", spellcheck: "false" });
  input.value = given === null ? "" : String(given);
  const node = field.categories
    ? element("div", {}, input, element("datalist", { id: `${id}-known` }, ...field.categories.map((each) => element("option", { value: String(each) }))))
    : input;
  const value = () => {
    const text = input.value;
    if (number) return text === "" ? null : Number(text);
    if (text === "" && field.nullable) return null;
    if (field.type === "any" && text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
    return text;
  };
  return { node, value };
}

function labelled(id, name, kind, node) {
  return element("div", { class: "field" }, element("label", { for: id, title: name }, name), node, element("span", { class: "kind" }, kind));
}

function written(id, example) {
  const area = element("textarea", { id, spellcheck: "false" });
  area.value = JSON.stringify(example);
  return { node: area, value: () => JSON.parse(area.value) };
}

// The form of a row, and the function that reads it.
function form(fields, row) {
  const box = at("fields");
  box.replaceChildren();
  box.classList.remove("many");
  const only = fields.length === 1 ? fields[0] : null;
  if (!model.named && only && only.shape.length === 1 && !model.open && row.length <= MANY) {
    box.classList.add("many");
    const places = row.map((value, i) => scalar({ ...only, shape: [] }, `f${i}`, value));
    places.forEach((place, i) => box.append(labelled(`f${i}`, `feature ${i + 1}`, kindOf(only), place.node)));
    return () => places.map((place) => place.value());
  }
  const parts = fields.map((field, i) => {
    const value = model.named ? row[field.name] : only ? row : row[i];
    const part = field.shape.length ? written(`f${i}`, value) : scalar(field, `f${i}`, value);
    box.append(labelled(`f${i}`, field.name, field.shape.length ? `${kindOf(field)} list, as JSON` : kindOf(field), part.node));
    return part;
  });
  if (model.named) return () => Object.fromEntries(fields.map((field, i) => [field.name, parts[i].value()]));
  return () => (only ? parts[0].value() : parts.map((part) => part.value()));
}

function body() {
  const outputs = [...document.querySelectorAll("#outputs input:checked")].map((box) => box.value);
  const row = read();
  const asked = model.named ? { rows: [row] } : { input: row };
  if (outputs.length && outputs.join() !== model.default_outputs.join()) asked.outputs = outputs;
  return asked;
}

function url() {
  return here(models[0] === model ? "/predict" : model.path);
}

function showCall() {
  let told;
  try {
    told = CALLS[tab](url(), body());
  } catch {
    told = "The row is not complete: a list must be valid JSON.";
  }
  at("call").textContent = told;
  at("call").setAttribute("aria-labelledby", `tab-${tab}`);
  for (const button of document.querySelectorAll("[role=tab]")) {
    button.setAttribute("aria-selected", String(button.id === `tab-${tab}`));
    button.tabIndex = button.id === `tab-${tab}` ? 0 : -1;
  }
}

function fill() {
  const example = model.named ? model.example.rows[0] : model.example.input;
  read = form(model.inputs, example);
  showCall();
}

function choose(name) {
  model = models.find((each) => each.name === name);
  at("about").textContent = `version ${model.version}, ${model.format}, runs as ${model.runtime}`;
  at("outputs").replaceChildren(
    ...model.outputs.map((output, i) => {
      const wanted = model.default_outputs.includes(output.name) || output.name === "probability";
      const box = element("input", { type: "checkbox", id: `o${i}`, value: output.name, checked: wanted });
      return element("label", { for: `o${i}` }, box, ` ${output.name} `);
    }),
  );
  at("answer").replaceChildren(element("p", { class: "quiet" }, "Press Predict."));
  at("times").replaceChildren(element("p", { class: "quiet" }, "Of each answer, in its header Server-Timing."));
  fill();
}

function shown(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return typeof value === "string" ? value : JSON.stringify(value);
}

function chances(values) {
  const rows = values.map((value, i) =>
    element("tr", {},
      element("th", { scope: "row" }, String(model.classes?.[i] ?? i)),
      element("td", { class: "wide" }, element("meter", { min: 0, max: 1, value, "aria-label": `class ${model.classes?.[i] ?? i}` })),
      element("td", { class: "number" }, shown(value))));
  return element("table", {}, element("tbody", {}, ...rows));
}

function showAnswer(answer) {
  const parts = [];
  for (const [name, values] of Object.entries(answer)) {
    const value = values[0];
    parts.push(element("h3", {}, name));
    const flat = Array.isArray(value) && value.every((each) => typeof each === "number");
    if (name === "probability" && flat) parts.push(chances(value));
    else parts.push(element("p", { class: "big", id: `is-${name}` }, shown(value)));
  }
  parts.push(element("details", {}, element("summary", { class: "quiet" }, "as JSON"), element("pre", {}, JSON.stringify(answer))));
  at("answer").replaceChildren(...parts);
}

function showTimes(header, total) {
  const told = stages(header);
  const inside = told.reduce((sum, [, ms]) => sum + ms, 0);
  const all = [...told, ["network", Math.max(0, total - inside)]];
  const space = "http://www.w3.org/2000/svg";
  const bar = document.createElementNS(space, "svg");
  bar.setAttribute("class", "times");
  bar.setAttribute("viewBox", "0 0 100 1");
  bar.setAttribute("preserveAspectRatio", "none");
  bar.setAttribute("aria-hidden", "true");
  let x = 0;
  const whole = all.reduce((sum, [, ms]) => sum + ms, 0) || 1;
  for (const [name, ms] of all) {
    const part = document.createElementNS(space, "rect");
    for (const [key, value] of Object.entries({ class: name, x, y: 0, height: 1, width: (100 * ms) / whole })) part.setAttribute(key, value);
    x += (100 * ms) / whole;
    bar.append(part);
  }
  const words = { parse: "reading the request", queue: "waiting for the model", predict: "the model", encode: "writing the answer", network: "network and browser" };
  const rows = all.map(([name, ms]) =>
    element("tr", {}, element("th", { scope: "row" }, element("span", { class: `swatch ${name}` }), words[name] ?? name), element("td", { class: "number" }, `${ms.toFixed(3)} ms`)));
  at("times").replaceChildren(bar, element("table", {}, element("tbody", {}, ...rows)));
}

function showError(told) {
  const parts = [element("p", { class: "bad", role: "alert" }, told.error ?? "No answer.")];
  if (told.code) parts.push(element("p", { class: "quiet" }, `code ${told.code}, request ${told.request_id}`));
  at("answer").replaceChildren(...parts);
}

async function predict(event) {
  event.preventDefault();
  showCall();
  at("predict").disabled = true;
  try {
    const asked = JSON.stringify(body());
    const start = performance.now();
    const response = await ask(url(), { method: "POST", headers: { "Content-Type": "application/json" }, body: asked });
    const answer = await response.json();
    const total = performance.now() - start;
    if (response.ok) {
      showAnswer(answer);
      showTimes(response.headers.get("Server-Timing"), total);
    } else showError(answer);
  } catch (error) {
    showError({ error: error instanceof SyntaxError ? "The row is not complete: a list must be valid JSON." : "The server gave no answer." });
  } finally {
    at("predict").disabled = false;
  }
}

async function copy(event) {
  try {
    await navigator.clipboard.writeText(at("call").textContent);
    event.target.textContent = "Copied";
  } catch {
    event.target.textContent = "Copy by hand";
  }
  setTimeout(() => (event.target.textContent = "Copy"), 1500);
}

function arrows(event) {
  const names = Object.keys(CALLS);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || event.target.role !== "tab") return;
  tab = names[(names.indexOf(tab) + step + names.length) % names.length];
  showCall();
  at(`tab-${tab}`).focus();
}

async function begin() {
  models = await load("/models");
  at("model").replaceChildren(...models.map((each) => element("option", { value: each.name }, each.name)));
  at("tabs").append(
    ...Object.keys(CALLS).map((name) => element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "call", on: { click: () => { tab = name; showCall(); } } }, name)),
    element("button", { type: "button", class: "plain", on: { click: copy } }, "Copy"),
  );
  at("tabs").addEventListener("keydown", arrows);
  at("model").addEventListener("change", (event) => choose(event.target.value));
  at("reset").addEventListener("click", fill);
  at("form").addEventListener("input", showCall);
  at("form").addEventListener("submit", predict);
  choose(models[0].name);
}

begin();
