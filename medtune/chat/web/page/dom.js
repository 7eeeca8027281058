// Elements, icons and the language of the page. Text becomes a text node, never markup.

import { LANGUAGES, TEXTS } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  menu: "M4 6h16M4 12h16M4 18h16",
  plus: "M12 5v14M5 12h14",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v5M14 11v5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  clear: "M7 20h13M5 15l9-9 5 5-7 7H8z",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M13 7a2 2 0 1 0 4 0 2 2 0 1 0-4 0M7 17a2 2 0 1 0 4 0 2 2 0 1 0-4 0",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  retry: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  copy: "M9 9h10v11H9zM15 9V5H5v11h4",
  up: "M7 11v9H4v-9zM7 11l4-7c2 0 2 1 2 2v4h6l-1 8c0 1-1 2-2 2H7",
  down: "M7 13V4H4v9zM7 13l4 7c2 0 2-1 2-2v-4h6l-1-8c0-1-1-2-2-2H7",
  back: "M14 6l-6 6 6 6",
  forth: "M10 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
};

let language = "zh";

export const $ = (id) => document.getElementById(id);

/** An element. Names of properties that hold a hyphen, and role, become attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  picture.append(path);
  return picture;
}

/** A button that shows an icon and is named by a text. */
export function iconButton(name, key, onClick) {
  const button = make("button", { type: "button", className: "icon" });
  // aria-disabled, unlike disabled, leaves the focus where it is.
  button.onclick = () => button.getAttribute("aria-disabled") === "true" || onClick();
  button.dataset.action = key;
  button.append(icon(name));
  label(button, say(key));
  return button;
}

/** Name an element that shows no words, for screen readers; a button by a tip too. */
export function label(element, words) {
  element.setAttribute("aria-label", words);
  if (element.localName === "button") element.title = words;
}

export function say(key, ...values) {
  return TEXTS[language][key].replace(/\{(\d)\}/g, (_, number) => values[number]);
}

export function spoken() {
  return language;
}

/** Show all texts that index.html names in a language. */
export function speak(chosen) {
  language = chosen;
  document.documentElement.lang = LANGUAGES[chosen];
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = say(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    label(element, say(element.dataset.label));
  }
  for (const element of document.querySelectorAll("[data-placeholder]")) {
    element.placeholder = say(element.dataset.placeholder);
  }
}

/** The language that a text seems to be in, for its lang attribute. */
export function languageOf(text) {
  return /[\u3400-\u9fff]/.test(text) ? LANGUAGES.zh : LANGUAGES.en;
}
