"use strict";

const root = document.documentElement;
const NAMES = { zh: "zh-CN", en: "en" };

function stored() {
  try { return localStorage.getItem("medtune-language"); } catch { return null; }
}

function store(language) {
  try { localStorage.setItem("medtune-language", language); } catch { /* not allowed: not kept */ }
}

function speak(language) {
  root.dataset.language = language;
  root.lang = NAMES[language];
  for (const element of document.querySelectorAll("[data-zh]")) {
    const words = element.dataset[language];
    if (element.dataset.attribute) element.setAttribute(element.dataset.attribute, words);
    else element.textContent = words;
  }
}

const asked = new URLSearchParams(location.hash.slice(1)).get("lang");
speak([asked, stored(), root.dataset.language].find((language) => Object.hasOwn(NAMES, language)));

const button = document.getElementById("language");
button.hidden = false;
button.addEventListener("click", () => {
  const language = root.dataset.language === "zh" ? "en" : "zh";
  speak(language);
  store(language);
});

for (const form of document.querySelectorAll("[data-filter]")) {
  const questions = [...form.parentElement.querySelectorAll(".question")];
  const more = form.parentElement.querySelector("[data-more]");
  const filter = () => {
    const { task, words, changed } = form.elements;
    const sought = words.value.trim().toLowerCase();
    // What fits must not stay folded.
    if (more && (task.value || changed.checked || sought)) more.open = true;
    let shown = 0;
    for (const question of questions) {
      const fits = (!task.value || question.dataset.task === task.value)
        && (!changed.checked || question.dataset.changed === "yes")
        && (!sought || question.textContent.toLowerCase().includes(sought));
      question.hidden = !fits;
      shown += fits;
    }
    form.elements.shown.textContent = `${shown} / ${questions.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.reset();
  filter();
}

// What is folded is printed too, but for the questions, of which those that are open are.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details.folded:not([open])")];
  for (const element of folded) element.open = true;
});
addEventListener("afterprint", () => {
  for (const element of folded) element.open = false;
});
