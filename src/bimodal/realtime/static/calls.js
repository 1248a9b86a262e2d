// Small things that both pages use: addresses, elements, and one call as curl, Python and JavaScript.

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
    `curl ${quoted(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`,
  Python: (url, body) =>
    `import json, urllib.request\n\nbody = ${python(body)}\nrequest = urllib.request.Request(\n    ${JSON.stringify(url)}, json.dumps(body).encode(), {"Content-Type": "application/json"}\n)\nwith urllib.request.urlopen(request) as response:\n    print(json.load(response))`,
  JavaScript: (url, body) =>
    `const response = await fetch(${JSON.stringify(url)}, {\n  method: "POST",\n  headers: { "Content-Type": "application/json" },\n  body: JSON.stringify(${JSON.stringify(body)}),\n});\nconsole.log(await response.json());`,
};

export function stages(header) {
  return (header ?? "").split(",").map((part) => {
    const [name, ...values] = part.trim().split(";");
    const told = values.find((value) => value.startsWith("dur="));
    return [name, told ? Number(told.slice(4)) : 0];
  }).filter(([name]) => name);
}
