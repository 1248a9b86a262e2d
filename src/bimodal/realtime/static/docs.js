import { ask, element, here, load } from "./calls.js";

const at = (id) => document.getElementById(id);
const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
const BINARY = ["application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"];
let count = 0;

// A form that sends one request and shows what came back.
function tryOut(method, path, operation) {
  const id = `try${++count}`;
  const content = Object.entries(operation.requestBody?.content ?? {}).filter(([kind]) => !BINARY.includes(kind));
  const parts = [];
  let kind = null;
  let area = null;
  if (content.length) {
    const examples = Object.fromEntries(content.map(([name, media]) => [name, pretty(media.example ?? "")]));
    kind = element("select", { id: `${id}-kind` }, ...content.map(([name]) => element("option", {}, name)));
    area = element("textarea", { id: `${id}-body`, spellcheck: "false" });
    area.value = examples[kind.value];
    kind.addEventListener("change", () => (area.value = examples[kind.value]));
    parts.push(element("label", { for: `${id}-kind` }, "Content type"), kind, element("label", { for: `${id}-body` }, "Body"), area);
  }
  const fields = (operation.parameters ?? []).filter((each) => each.in === "query").map((each) => {
    const input = element("input", { type: "text", id: `${id}-${each.name}`, autocomplete: "off" });
    parts.push(element("label", { for: input.id }, `?${each.name}= `, element("span", { class: "quiet" }, each.description)), input);
    return [each.name, input];
  });
  const output = element("div", { "aria-live": "polite" });
  const button = element("button", { type: "submit" }, "Send");
  const send = async (event) => {
    event.preventDefault();
    button.disabled = true;
    const query = new URLSearchParams(fields.filter(([, input]) => input.value).map(([name, input]) => [name, input.value]));
    try {
      const response = await ask(here(path) + (query.size ? `?${query}` : ""), { method: method.toUpperCase(), headers: kind ? { "Content-Type": kind.value } : {}, body: area ? area.value : null });
      const text = await response.text();
      let told = text;
      if (response.headers.get("Content-Type")?.startsWith("application/json")) told = pretty(JSON.parse(text));
      const headers = ["content-type", "server-timing", "x-model", "x-request-id", "retry-after"].filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}`);
      output.replaceChildren(element("h3", {}, `${response.status} ${response.statusText}`), element("pre", {}, headers.join("\n")), element("pre", { class: "told", tabindex: 0 }, told));
    } catch {
      output.replaceChildren(element("p", { class: "bad", role: "alert" }, "The server gave no answer."));
    }
    button.disabled = false;
  };
  return element("form", { on: { submit: send }, class: "try" }, ...parts, element("div", {}, button), output);
}

function answers(operation) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, told]) => element("tr", {}, element("th", { scope: "row" }, status), element("td", {}, told.description ?? "")));
  return element("table", {}, element("tbody", {}, ...rows));
}

function schemas(operation) {
  const asked = operation.requestBody?.content?.["application/json"]?.schema;
  if (!asked) return [];
  return [element("details", {}, element("summary", { class: "quiet" }, "Schema of the JSON body"), element("pre", { tabindex: 0 }, pretty(asked)))];
}

function route(method, path, operation) {
  const box = element("details", { class: "route" },
    element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path), element("span", { class: "quiet" }, operation.summary ?? "")));
  // made when it is opened: a server of many models has many routes
  box.addEventListener("toggle", () => {
    if (box.open && box.childElementCount === 1) {
      box.append(element("p", {}, operation.description ?? ""), tryOut(method, path, operation), ...schemas(operation), element("h3", {}, "Answers"), answers(operation));
    }
  });
  return box;
}

async function begin() {
  const told = await load("/openapi.json");
  at("about").textContent = `${told.info.description} Version ${told.info.version}.`;
  const groups = new Map();
  for (const [path, methods] of Object.entries(told.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "server";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(route(method, path, operation));
    }
  }
  at("groups").replaceChildren(...[...groups].map(([tag, routes]) => element("section", {}, element("h2", {}, tag), element("div", { class: "routes" }, ...routes))));
  at("groups").querySelector("details")?.setAttribute("open", "");
}

begin();
