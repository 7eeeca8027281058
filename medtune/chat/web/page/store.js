// What this browser keeps: a conversation a key, so that two tabs do not overwrite each other.

import { endInterrupted } from "./chat.js";

const CHAT = "medtune.chat.";
const SETTINGS = "medtune.settings";
const OPENED = "medtune.opened";

function isAnswer(answer) {
  return typeof answer?.text === "string" && typeof answer.model === "string";
}

function isTurn(turn) {
  return (
    typeof turn?.question === "string" &&
    Array.isArray(turn.pairs) &&
    turn.sides.length > 0 &&
    turn.sides.every((side) => side.versions.every(isAnswer) && side.versions[side.kept])
  );
}

/** The conversation of a stored text; null if it is none. */
function parseChat(stored) {
  try {
    const chat = JSON.parse(stored);
    if (typeof chat.id !== "string" || !chat.turns.every(isTurn)) return null;
    endInterrupted(chat);
    return chat;
  } catch {
    return null;
  }
}

/** All conversations, the last one changed first, and how many could not be read. */
export function loadChats() {
  let keys = [];
  try {
    keys = Object.keys(localStorage).filter((key) => key.startsWith(CHAT));
  } catch {
    // The browser allows no storage: nothing was kept.
  }
  const read = keys.map((key) => parseChat(localStorage.getItem(key)));
  const chats = read.filter(Boolean).sort((one, other) => other.updated - one.updated);
  return { chats, numUnreadable: read.length - chats.length };
}

/** Keep a value; false if the storage is full or not allowed. */
function keep(key, value, storage = "localStorage") {
  try {
    window[storage].setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function saveChat(chat) {
  return keep(CHAT + chat.id, chat);
}

export function deleteChat(chat) {
  try {
    localStorage.removeItem(CHAT + chat.id);
  } catch {
    // Not allowed: it was not kept either.
  }
}

/** What a storage event says of a conversation: { id, chat }, chat null if deleted; or null. */
export function changedChat({ key, newValue }) {
  return key?.startsWith(CHAT) ? { id: key.slice(CHAT.length), chat: parseChat(newValue) } : null;
}

export function loadSettings() {
  const empty = { model: "", other: "", language: "", theme: "", system: "", options: {} };
  try {
    return { ...empty, ...JSON.parse(localStorage.getItem(SETTINGS)) };
  } catch {
    return empty;
  }
}

export function saveSettings(settings) {
  return keep(SETTINGS, settings);
}

/** Remember which conversation this tab shows, for when it is loaded again. */
export function noteOpened({ id }) {
  keep(OPENED, id, "sessionStorage");
}

export function openedId() {
  try {
    return JSON.parse(sessionStorage.getItem(OPENED));
  } catch {
    return null;
  }
}
