// Questions with their answers, and the list of conversations, as elements.

import { answerView } from "./answers.js";
import { keptAnswer } from "./chat.js";
import { iconButton, label, languageOf, make, say } from "./dom.js";

/** Enter sends a form; Shift+Enter, and Enter that ends the composing of a word, do not. */
export function sendOnEnter(field, form) {
  field.addEventListener("keydown", (event) => {
    // 229: the key belongs to the input method; Safari says so after its composing has ended.
    const isComposing = event.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

function editor(question, onSend, onCancel) {
  const field = make("textarea", { value: question, rows: 3 });
  label(field, say("edit"));
  const send = make("button", { type: "submit", className: "main" }, say("editSend"));
  const cancel = make("button", { type: "button", onclick: onCancel }, say("cancel"));
  const buttons = make("div", { className: "buttons" }, send, cancel);
  const form = make("form", { className: "editor" }, field, buttons);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) onSend(field.value.trim());
  });
  sendOnEnter(field, form);
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.stopPropagation();
    onCancel();
  });
  return form;
}

function questionView(chat, index, acts) {
  const { question } = chat.turns[index];
  const asked = make("p", { className: "asked", lang: languageOf(question) }, question);
  const edit = iconButton("edit", "edit", () => {
    const form = editor(question, (changed) => acts.edit(chat, index, changed), () => {
      form.replaceWith(element);
      edit.focus();
    });
    element.replaceWith(form);
    form.firstChild.focus();
  });
  const element = make("div", { className: "question" }, edit, asked);
  const update = () => edit.setAttribute("aria-disabled", acts.isBusy(chat));
  update();
  return { element, update };
}

/** A turn of a conversation: { element, update }. acts: what the buttons do. */
export function turnView(chat, index, acts) {
  const { sides } = chat.turns[index];
  const question = questionView(chat, index, acts);
  const answers = sides.map((_, side) => answerView(chat, index, side, acts));
  const beside = make("div", { className: "answers" }, ...answers.map((one) => one.element));
  beside.classList.toggle("two", sides.length > 1);
  const heading = make("h2", { className: "unseen" }, say("question", index + 1));
  return {
    element: make("section", { className: "turn" }, heading, question.element, beside),
    update: () => [question, ...answers].forEach((one) => one.update()),
  };
}

/** A conversation in the list of them, named by its first question. */
export function chatEntry(chat, isCurrent, { open, remove }) {
  const title = chat.turns[0].question;
  const button = make("button", { type: "button", className: "open", onclick: open }, title);
  button.lang = languageOf(title);
  if (isCurrent) button.setAttribute("aria-current", "true");
  const bin = iconButton("trash", "deleteChat", remove);
  label(bin, say("deleteChat", title));
  return make("li", {}, button, bin);
}

/** What is read out when the answers of a turn have ended. */
export function announcement(turn) {
  return turn.sides
    .map((_, side) => keptAnswer(turn, side))
    .filter((answer) => answer.text)
    .map((answer) => say("announced", answer.model, answer.text))
    .join("\n");
}
