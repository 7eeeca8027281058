// What is around the conversation: dialogs, choices, notices, theme, and what leaves the page.

import { $, label, make, say } from "./dom.js";
import { TEXTS } from "./texts.js";

const ANNOUNCED_MS = 10_000;
const OPTIONS = ["temperature", "top_p", "top_k", "max_tokens", "repetition_penalty", "seed"];

/** Show a dialog; onSend gets its form's fields when it is sent, and not when it is left. */
function show(dialog, onSend) {
  const form = dialog.querySelector("form");
  form.onsubmit = (event) => {
    event.preventDefault();
    dialog.close();
    onSend(form.elements);
  };
  dialog.querySelector("[data-close]").onclick = () => dialog.close();
  dialog.showModal();
}

/** The server names its defaults as the program's options are named. */
export function defaultOf(defaults, name) {
  return defaults[name] ?? (name === "max_tokens" ? defaults.max_new_tokens : undefined);
}

/** Ask for the options; onChange gets { system, options }, options only those that were given. */
export function askSettings({ system, options }, defaults, onChange) {
  const dialog = $("sampling");
  const { elements } = dialog.querySelector("form");
  elements.system.value = system;
  for (const name of OPTIONS) {
    elements[name].value = options[name] ?? "";
    const standard = defaultOf(defaults, name);
    elements[name].placeholder = standard === undefined ? "" : say("unset", standard);
  }
  $("reset").onclick = () => {
    for (const name of ["system", ...OPTIONS]) elements[name].value = "";
  };
  show(dialog, () => {
    const given = OPTIONS.filter((name) => elements[name].value !== "");
    onChange({
      system: elements.system.value.trim(),
      options: Object.fromEntries(given.map((name) => [name, elements[name].valueAsNumber])),
    });
  });
}

export function askToken(onToken) {
  const { elements } = $("token").querySelector("form");
  elements.token.value = "";
  show($("token"), () => onToken(elements.token.value.trim()));
}

/** Fill the two choices of models; the second may be none. */
export function fillModels(names, { model, other }) {
  const option = (name) => new Option(name, name);
  $("model").replaceChildren(...names.map(option));
  $("other").replaceChildren(new Option(say("noOther"), ""), ...names.map(option));
  $("model").value = names.includes(model) ? model : names[0];
  $("other").value = names.includes(other) ? other : "";
}

/** The whole disclaimer in both languages: the server's, before it answered the page's own. */
export function showDisclaimer(disclaimer) {
  for (const paragraph of $("disclaimer").querySelectorAll("p")) {
    const key = paragraph.dataset.in;
    paragraph.textContent = disclaimer[key] ?? TEXTS[key].disclaimer;
  }
}

/** Dark or light; "" follows the system. */
export function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

export function otherTheme(theme) {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  return (theme || (isDark ? "dark" : "light")) === "dark" ? "light" : "dark";
}

/** A button that was pressed and went away must not take the keyboard's place with it. */
export function keepFocus() {
  const { activeElement, body } = document;
  if (activeElement === body || !activeElement.checkVisibility()) $("conversation").focus();
}

/** One line under the conversation: what happened, with a way back where there is one. */
export function notify(words, onUndo) {
  const notice = $("notice");
  notice.textContent = words;
  if (!onUndo) return;
  const undo = () => {
    notify("");
    onUndo();
    keepFocus();
  };
  const button = make("button", { type: "button", onclick: undo }, say("undo"));
  notice.append(" ", button);
  button.focus();
}

/** Read out for those who do not see; not left there to be read a second time. */
export function announce(words) {
  $("announcer").textContent = words;
  setTimeout(() => {
    if ($("announcer").textContent === words) $("announcer").textContent = "";
  }, ANNOUNCED_MS);
}

/** Put text on the clipboard; true if the browser did. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS, on another host, there is no clipboard but this one.
  }
  const field = make("textarea", { value: text });
  label(field, say("copy"));
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  return isCopied;
}

/** Save a text as a file of the browser's downloads. */
export function download(text, name) {
  const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
