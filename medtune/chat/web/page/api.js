// The server: models, answers as they come, preferences. What fails is thrown as a Failure.

const TOKEN = "medtune.token";
let token = "";

/** key: of the sentence in texts.js that says it; values: what stands in its places. */
export class Failure extends Error {
  constructor(key, ...values) {
    super(key);
    this.key = key;
    this.values = values;
  }
}

export function setToken(given) {
  token = given;
  try {
    sessionStorage.setItem(TOKEN, token);
  } catch {
    // Not allowed: kept until the page is left.
  }
}

/** Take the token from the address (#token=...), which then no longer shows it. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    setToken(given);
    history.replaceState(null, "", location.pathname);
    return;
  }
  try {
    token = sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    // Not allowed: there is none.
  }
}

async function failureOf(response) {
  const body = await response.json().catch(() => ({}));
  const { code, message } = body.error ?? {};
  const { status } = response;
  if (status === 401) return new Failure("error.token");
  if (status === 429) return new Failure("error.busy", response.headers.get("Retry-After") ?? "5");
  if (status === 413 || code === "context_length_exceeded") return new Failure("error.long");
  if (status === 403 || status === 421) return new Failure("error.address");
  if (status >= 500) return new Failure("error.server", status);
  return new Failure("error.refused", message ?? status);
}

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failure("error.network");
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** What GET /v1/models says: data (the models) and medtune (defaults, disclaimer, ...). */
export async function loadModels() {
  return (await call("/v1/models")).json();
}

export async function postPreference(pair) {
  await post("/v1/preferences", pair);
}

/** The data of the events of a stream, each parsed; ends at [DONE]. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Failure("error.lost");
    const events = (rest + value).split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      if (data !== event) yield JSON.parse(data);
    }
  }
}

/** Advice stands before the answer too, for clients that know no field for it. */
function withoutAdvice(content, advice) {
  const before = advice ? `${advice}\n\n` : "";
  if (content.startsWith(before)) return content.slice(before.length);
  return before.startsWith(content) ? "" : content;
}

/** Ask, and give { text, advice, numLeftOut, endedBy } again each time that more came. */
export async function* streamAnswer(request, signal) {
  const response = await post("/v1/chat/completions", { ...request, stream: true }, signal);
  const answer = { text: "", advice: "", numLeftOut: 0, endedBy: "" };
  let content = "";
  try {
    for await (const event of eventsOf(response)) {
      if (event.error) throw new Failure("error.server", event.error.code ?? event.error.type);
      const choice = event.choices?.[0];
      answer.advice = event.medtune?.advice ?? answer.advice;
      answer.numLeftOut = event.medtune?.num_left_out ?? answer.numLeftOut;
      answer.endedBy = event.medtune?.ended_by || choice?.finish_reason || answer.endedBy;
      content += choice?.delta?.content ?? "";
      answer.text = withoutAdvice(content, answer.advice);
      yield answer;
    }
  } catch (error) {
    const isKnown = error instanceof Failure || error.name === "AbortError";
    throw isKnown ? error : new Failure("error.lost");
  }
}
