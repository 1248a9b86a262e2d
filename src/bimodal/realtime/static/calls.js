// Small things that the pages use: addresses, elements, the key, and one call as curl, Python and JavaScript.

// The whole address of a path of the server, which may itself be mounted below a path.
export function here(path) {
  return new URL(path.slice(1), document.baseURI).href;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// The key, where the server asks for one: in the memory of this page alone, and gone with it.
let key = null;
let asking = null;

// The field for the key, above all else; its promise ends when one is given.
function askKey(told) {
  asking ??= new Promise((give) => {
    const input = element("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false" });
    const submit = (event) => {
      event.preventDefault();
      if (!/^[\x21-\x7e]+$/.test(input.value.trim())) return;
      key = input.value.trim();
      asking = null;
      box.remove();
      give();
    };
    const label = element("label", { for: "key" }, "API key (this page forgets it when it is closed)");
    const form = element("form", { on: { submit } }, label, element("div", { class: "row" }, input, element("button", { type: "submit", id: "unlock" }, "Use this key")));
    const box = element("section", { class: "key" }, element("p", { role: "alert", class: "quiet" }, told), form);
    document.querySelector("main").before(box);
    input.focus();
  });
  return asking;
}

// fetch() with the key. Where the server knows none, or this one no longer, the page asks for one and goes on.
export async function ask(url, options = {}) {
  const sent = key;
  const headers = { ...options.headers, ...(sent ? { Authorization: `Bearer ${sent}` } : {}) };
  const response = await fetch(url, { ...options, headers });
  if (response.status !== 401) return response;
  const told = await response.json();
  if (sent === key) await askKey(told.error?.message ?? told.error);
  return ask(url, options);
}

// The JSON of a path that the page cannot do without.
export async function load(path) {
  for (;;) {
    const response = await ask(here(path));
    const told = await response.json();
    if (response.ok) return told;
    await askKey(told.error?.message ?? told.error);
  }
}

function python(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${python(v)}`).join(", ")}}`;
  return JSON.stringify(value);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export const CALLS = {
  curl: (url, body) =>
    `curl ${quoted(url)} \\\n  -H 'Content-Type: application/json' \\\n${key ? "  -H 'Authorization: Bearer KEY' \\\n" : ""}  -d ${quoted(JSON.stringify(body))}`,
  Python: (url, body) =>
    `import json, urllib.request\n\nbody = ${python(body)}\nrequest = urllib.request.Request(\n    ${JSON.stringify(url)}, json.dumps(body).encode(), {"Content-Type": "application/json"${key ? ', "Authorization": "Bearer KEY"' : ""}}\n)\nwith urllib.request.urlopen(request) as response:\n    print(json.load(response))`,
  JavaScript: (url, body) =>
    `const response = await fetch(${JSON.stringify(url)}, {\n  method: "POST",\n  headers: { "Content-Type": "application/json"${key ? ', Authorization: "Bearer KEY"' : ""} },\n  body: JSON.stringify(${JSON.stringify(body)}),\n});\nconsole.log(await response.json());`,
};

export function stages(header) {
  return (header ?? "").split(",").map((part) => {
    const [name, ...values] = part.trim().split(";");
    const told = values.find((value) => value.startsWith("dur="));
    return [name, told ? Number(told.slice(4)) : 0];
  }).filter(([name]) => name);
}
