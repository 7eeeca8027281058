// An answer as an element: its versions, what was said of its end, copy, retry and thumbs.
// acts: what the buttons do, given by page.js.

import { iconButton, label, languageOf, make, say } from "./dom.js";
import { renderText } from "./rendering.js";
import { hintFor, isFixed, isJudgeable, savingHint } from "./votes.js";

const CUT = ["length", "context", "repetition", "time", "cancel"];

/** What is to be said of an answer beside its text. */
function notesOf(answer, { kept, versions }) {
  const place = versions.indexOf(answer);
  const before = versions[place - 1];
  const isSame = answer.text && before?.text === answer.text && before.model === answer.model;
  const notes = [];
  if (answer.numLeftOut) notes.push(say("leftOut", answer.numLeftOut));
  if (CUT.includes(answer.endedBy)) notes.push(say(`ended.${answer.endedBy}`));
  if (answer.endedBy === "stop" && !answer.text) notes.push(say("empty"));
  if (answer.endedBy && isSame) notes.push(say("same"));
  if (place !== kept) notes.push(say("continued", kept + 1));
  return notes.join(" ");
}

/** An alert is announced when it comes; one that was kept is read in its turn, as a note. */
function adviceBox(advice, isNew) {
  const role = isNew ? "alert" : "note";
  return make("div", { className: "advice", role, lang: languageOf(advice) }, advice);
}

/** What went wrong, with a button to try again. */
export function failureBox({ key, values }, onRetry) {
  const words = say(key === "error.token" ? "giveToken" : "again");
  const again = make("button", { type: "button", className: "again", onclick: onRetry }, words);
  return make("div", { className: "failure", role: "alert" }, `${say(key, ...values)} `, again);
}

/** The versions of an answer as ‹1/2›: { element, show }. */
function pagerView(onStep) {
  const count = make("span", { className: "count" });
  const previous = iconButton("back", "previous", () => onStep(-1));
  const next = iconButton("forth", "next", () => onStep(1));
  const element = make("span", { className: "pager", role: "group" }, previous, count, next);
  const show = (place, num, isBusy) => {
    element.hidden = num < 2;
    count.textContent = `${place + 1}/${num}`;
    label(element, say("version", place + 1, num));
    previous.setAttribute("aria-disabled", isBusy || place === 0);
    next.setAttribute("aria-disabled", isBusy || place === num - 1);
  };
  return { element, show };
}

/** Thumbs and what became of them: { elements, hint, show }. */
function thumbsView(chat, index, acts, onVote) {
  const turn = chat.turns[index];
  const hint = make("p", { className: "hint", role: "status" });
  const elements = [["up", 1], ["down", -1]].map(([name, value]) => {
    const button = iconButton(name, name, () => onVote(value));
    button.dataset.value = value;
    return button;
  });
  const show = (answer, name) => {
    const isHidden = !acts.collectsPreferences() || !isJudgeable(answer);
    for (const button of elements) {
      const value = Number(button.dataset.value);
      // To train on it as the better one would teach the model to break off.
      const isCut = value === 1 && answer.endedBy !== "stop";
      button.hidden = isHidden;
      button.setAttribute("aria-pressed", answer.vote === value);
      button.setAttribute("aria-disabled", isCut || isFixed(turn, answer, name, value));
      label(button, say(isCut ? "hint.cut" : button.dataset.action));
    }
    const key = isHidden ? "" : hintFor(chat, index, name);
    const words = savingHint(turn, name) || (key && say(key));
    if (hint.textContent !== words) hint.textContent = words;
    hint.classList.toggle("saved", key === "hint.saved");
  };
  return { elements, hint, show };
}

/** One side of a turn: { element, update }. update() shows what became of it. */
export function answerView(chat, index, s, acts) {
  const side = chat.turns[index].sides[s];
  let place = side.kept;
  let shown = null;
  let isNew = false;
  let drawn = "";

  const model = make("p", { className: "model" });
  const above = make("div");
  const text = make("div", { className: "text" });
  const notes = make("p", { className: "notes" });
  const below = make("div");
  const pager = pagerView((step) => {
    place += step;
    // Once the conversation went on from a version, the others are there to be read.
    if (acts.isLast(chat, index)) acts.keep(chat, index, s, place);
    else update();
  });
  const thumbs = thumbsView(chat, index, acts, (value) => {
    acts.vote(chat, index, `${s}.${place}`, value);
  });
  const copy = iconButton("copy", "copy", () => acts.copy(side.versions[place].text));
  const retry = iconButton("retry", "retry", () => acts.retry(chat, index, s));
  const actions = make(
    "div", { className: "actions" }, pager.element, copy, retry, ...thumbs.elements,
  );
  const element = make(
    "article", { className: "answer" }, model, above, text, notes, below, actions, thumbs.hint,
  );

  function updateText(answer) {
    if (shown === answer && drawn === answer.text) return;
    text.lang = languageOf(answer.text);
    text.replaceChildren(renderText(answer.text));
    drawn = answer.text;
  }

  function updateAround(answer) {
    if (shown !== answer) {
      isNew = !answer.endedBy;
      above.replaceChildren();
      below.replaceChildren();
    }
    if (answer.advice && !above.firstChild) above.append(adviceBox(answer.advice, isNew));
    if (answer.failure && !below.firstChild) {
      const again = () => acts.retry(chat, index, s);
      const isRefused = answer.failure.key === "error.token";
      below.append(failureBox(answer.failure, isRefused ? () => acts.askToken(again) : again));
    }
  }

  function update() {
    if (acts.isLast(chat, index) || !side.versions[place]) place = side.kept;
    const answer = side.versions[place];
    const isComing = !answer.endedBy;
    updateText(answer);
    updateAround(answer);
    shown = answer;
    label(element, say("answerOf", answer.model));
    element.setAttribute("aria-busy", isComing);
    model.textContent = answer.model;
    text.classList.toggle("waiting", isComing && !answer.text);
    notes.textContent = notesOf(answer, side);
    copy.hidden = !answer.text;
    // Shown while an answer comes too: who pressed it keeps the focus.
    retry.hidden = !acts.isLast(chat, index) || Boolean(answer.failure);
    const again = below.querySelector(".again");
    // Later answers followed what stands here: it is not written anew under them.
    if (again) again.hidden = !acts.isLast(chat, index);
    retry.setAttribute("aria-disabled", acts.isBusy(chat));
    pager.show(place, side.versions.length, acts.isBusy(chat));
    thumbs.show(answer, `${s}.${place}`);
  }

  update();
  return { element, update };
}
