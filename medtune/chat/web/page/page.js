// The page: what is shown now, and what its controls do.

import { failureBox } from "./answers.js";
import { Failure, loadModels, setToken, takeToken } from "./api.js";
import {
  announce, askSettings, askToken, copyText, defaultOf, download, fillModels, keepFocus, notify,
  otherTheme, showDisclaimer, showTheme,
} from "./around.js";
import { answerTurn, isBusy, stop } from "./asking.js";
import { exported, keptAnswer, newChat } from "./chat.js";
import { $, icon, make, say, speak, spoken } from "./dom.js";
import {
  changedChat, deleteChat, loadChats, loadSettings, noteOpened, openedId, saveChat,
  saveSettings,
} from "./store.js";
import { EXAMPLES, TEXTS } from "./texts.js";
import { announcement, chatEntry, sendOnEnter, turnView } from "./turns.js";
import { castVote } from "./votes.js";

const NEAR_END_PX = 90;
const STANDARD_SEED = 42;

const settings = loadSettings();
let server = { data: [], medtune: { collects_preferences: false } };
let chats = [];
let current = newChat();
let views = [];

// -- what is kept

function keep(chat) {
  if (!chats.includes(chat)) return;
  if (!saveChat(chat)) notify(say("full"));
}

function change(changed) {
  Object.assign(settings, changed);
  if (!saveSettings(settings)) notify(say("full"));
}

function readChats() {
  const stored = loadChats();
  chats = stored.chats;
  if (stored.numUnreadable) notify(say("unreadable", stored.numUnreadable));
}

/** Follow what another tab did to a conversation, but for one that is answered in this tab. */
function follow(changed) {
  if (!changed || isBusy(changed)) return;
  chats = chats.filter(({ id }) => id !== changed.id);
  if (changed.chat) chats.push(changed.chat);
  // What was deleted there stays on show here; if it comes back, that is the one to go on with.
  if (changed.chat?.id === current.id) open(changed.chat);
  else showList();
}

// -- what is shown

function showControls() {
  const [shown, hidden] = isBusy(current) ? ["stop", "send"] : ["send", "stop"];
  const isHeld = document.activeElement === $(hidden);
  $(shown).hidden = false;
  $(hidden).hidden = true;
  if (isHeld) $(shown).focus();
  $("welcome").hidden = current.turns.length > 0;
  $("export").disabled = $("clear").disabled = current.turns.length === 0;
}

function showList() {
  const sorted = [...chats].sort((one, other) => other.updated - one.updated);
  $("chats").replaceChildren(...sorted.map((chat) => chatEntry(chat, chat === current, {
    open: () => open(chat),
    remove: () => remove(chat, "deleted"),
  })));
}

function showEnd() {
  $("conversation").scrollTop = $("conversation").scrollHeight;
}

function open(chat) {
  current = chat;
  noteOpened(chat);
  $("conversations").hidePopover?.();
  showAll();
  showEnd();
  keepFocus();
}

function updateViews() {
  for (const view of views) view.update();
}

/** Show the turns that are not shown yet, and what is new of the others. */
function showNew() {
  updateViews();
  for (let index = views.length; index < current.turns.length; index += 1) {
    views.push(turnView(current, index, acts));
    $("turns").append(views[index].element);
  }
  showControls();
  showList();
}

function clearTurns() {
  views = [];
  $("turns").replaceChildren();
}

function showAll() {
  clearTurns();
  showNew();
}

let isDrawing = false;
/** Show what came of a conversation, at most once a frame, and stay at its end. */
function draw(chat) {
  if (chat !== current || isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const main = $("conversation");
    const isAtEnd = main.scrollHeight - main.scrollTop - main.clientHeight < NEAR_END_PX;
    updateViews();
    if (isAtEnd) showEnd();
  });
}

/** Say everything in a language, with what the server told. */
function showLanguage(language) {
  speak(language);
  showDisclaimer(server.medtune.disclaimer ?? {});
  $("examples").replaceChildren(...EXAMPLES[language].map((question) =>
    make("li", {}, make("button", { type: "button", onclick: () => ask(question) }, question))));
  fillModels(server.data.map(({ id }) => id), settings);
  showAll();
}

// -- what the controls do

async function run(chat, index, asked) {
  const { seed = defaultOf(server.medtune.defaults ?? {}, "seed") ?? STANDARD_SEED, ...options } =
    settings.options;
  const turn = chat.turns[index];
  chat.updated = Date.now();
  notify("");
  const ending = answerTurn(
    chat, index, asked, { system: settings.system, seed, options }, () => draw(chat),
  );
  keep(chat);
  if (chat === current) {
    showNew();
    showEnd();
    keepFocus();
  }
  await ending;
  keep(chat);
  draw(chat);
  if (chat === current) showControls();
  announce(announcement(turn));
}

function chosenModels() {
  return [$("model").value, $("other").value].filter(Boolean);
}

/** Whether the current conversation can be asked now. Without models, they are sought again. */
function canAsk() {
  if (!server.data.length) connect();
  return server.data.length > 0 && !isBusy(current);
}

/** Ask the current conversation; false if nothing was asked. */
function ask(question) {
  if (!question || !canAsk()) return false;
  const models = chosenModels();
  const sides = models.map(() => ({ kept: 0, versions: [] }));
  const index = current.turns.push({ question, pairs: [], sides }) - 1;
  if (!chats.includes(current)) chats.push(current);
  noteOpened(current);
  run(current, index, models.map((model, side) => ({ side, model })));
  return true;
}

function remove(chat, key) {
  stop(chat);
  $("conversations").hidePopover?.();
  chats = chats.filter((one) => one !== chat);
  deleteChat(chat);
  if (chat === current) open(newChat());
  else showList();
  notify(say(key), () => {
    chats.push(chat);
    keep(chat);
    open(chat);
  });
}

const acts = {
  isBusy,
  askToken: (again) => askToken((token) => {
    setToken(token);
    again();
  }),
  collectsPreferences: () => server.medtune.collects_preferences,
  isLast: (chat, index) => index === chat.turns.length - 1,
  copy: async (text) => notify(say(await copyText(text) ? "copied" : "notCopied")),
  keep: (chat, index, side, place) => {
    chat.turns[index].sides[side].kept = place;
    keep(chat);
    updateViews();
  },
  retry: (chat, index, side) => {
    const models = chosenModels();
    // The model chosen now answers, so that a version may be of another one.
    const model = models[side] ?? keptAnswer(chat.turns[index], side).model;
    if (!isBusy(chat)) run(chat, index, [{ side, model }]);
  },
  edit: (chat, index, question) => {
    if (!canAsk()) return;
    chat.turns.length = index;
    // Asking shows them again. Until then the list could not name a conversation without turns.
    clearTurns();
    ask(question);
    $("ask").focus();
  },
  vote: (chat, index, name, value) => castVote(chat, index, name, value, () => {
    keep(chat);
    draw(chat);
  }),
};

function exportCurrent() {
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  download(`${JSON.stringify(exported(current))}\n`, `medtune-${time}.json`);
}

/** Learn the models; what fails is said where the next question would be. */
async function connect() {
  try {
    server = await loadModels();
    $("startup").replaceChildren();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const again = error.key === "error.token" ? () => acts.askToken(connect) : connect;
    $("startup").replaceChildren(failureBox(error, again));
  }
  showLanguage(spoken());
  showEnd();
}

function listen() {
  const field = $("ask");
  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + 2}px`;
  };
  field.addEventListener("input", fit);
  sendOnEnter(field, $("composer"));
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!ask(field.value.trim())) return;
    field.value = "";
    fit();
  });
  $("stop").onclick = () => {
    stop(current);
    field.focus();
  };
  $("new").onclick = () => {
    open(newChat());
    field.focus();
  };
  $("clear").onclick = () => remove(current, "cleared");
  $("export").onclick = exportCurrent;
  $("settings").onclick = () => askSettings(settings, server.medtune.defaults ?? {}, change);
  $("model").onchange = () => change({ model: $("model").value });
  $("other").onchange = () => change({ other: $("other").value });
  $("language").onclick = () => {
    change({ language: spoken() === "zh" ? "en" : "zh" });
    showLanguage(settings.language);
  };
  $("theme").onclick = () => {
    change({ theme: otherTheme(settings.theme) });
    showTheme(settings.theme);
  };
  addEventListener("keydown", (event) => {
    const isElsewhere = event.isComposing || document.querySelector("dialog[open]");
    if (event.key === "Escape" && !isElsewhere) stop(current);
  });
  addEventListener("pagehide", () => chats.filter(isBusy).forEach(saveChat));
  addEventListener("storage", (event) => follow(changedChat(event)));
}

for (const element of document.querySelectorAll("[data-icon]")) {
  element.prepend(icon(element.dataset.icon));
}
takeToken();
showTheme(settings.theme);
const preferred = navigator.language.startsWith("zh") ? "zh" : "en";
speak(Object.hasOwn(TEXTS, settings.language) ? settings.language : preferred);
readChats();
current = chats.find(({ id }) => id === openedId()) ?? current;
listen();
connect();
showLanguage(spoken());
