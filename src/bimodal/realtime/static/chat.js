// A conversation with a model that streams text. What it says is only ever text on the page, never markup.
import * as calls from "./calls.js";
import { element, here } from "./calls.js";

const at = (id) => document.getElementById(id);
const [models, said, text, send, stop] = ["model", "said", "text", "send", "stop"].map(at);
let messages = [];
let asking = null;

function show(role, content) {
  const made = element("p", { class: `turn ${role}` }, content);
  said.append(made);
  said.scrollTop = said.scrollHeight; // not scrollIntoView: it moves the page too, and the buttons with it
  return made;
}

// The values of the events of a body, as they arrive.
async function* events(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const blocks = (rest + part.value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data && data !== "data: [DONE]") yield JSON.parse(data.slice(6));
    }
  }
}

async function answer(turn) {
  const response = await calls.ask(here("/v1/chat/completions"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ model: models.value, messages, stream: true }),
    signal: asking.signal,
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  for await (const event of events(response.body)) {
    if (event.error) throw new Error(event.error.message);
    turn.textContent += event.choices[0]?.delta.content ?? "";
    said.scrollTop = said.scrollHeight;
  }
}

async function ask() {
  const content = text.value.trim();
  if (!content || asking) return;
  text.value = "";
  messages.push({ role: "user", content });
  show("user", content);
  const turn = show("assistant", "");
  asking = new AbortController();
  send.disabled = true;
  stop.disabled = false;
  try {
    await answer(turn);
  } catch (error) {
    if (error.name !== "AbortError") show("bad", error.message);
  }
  if (turn.textContent) messages.push({ role: "assistant", content: turn.textContent });
  else messages.pop();  // a question without an answer is not part of the conversation
  asking = null;
  send.disabled = false;
  stop.disabled = true;
  text.focus();
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
stop.addEventListener("click", () => asking?.abort());
at("anew").addEventListener("click", () => { asking?.abort(); messages = []; said.replaceChildren(); text.focus(); });
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});

const { data } = await calls.load("/v1/models");
models.append(...data.map((each) => element("option", {}, each.id)));
if (!data.length) show("bad", "No model here streams text.");
send.disabled = !data.length;
