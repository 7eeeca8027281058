// Thumbs: two answers to one question, one up and one down, make a pair to train on.
// An answer is named "side.version"; turn.pairs lists the pairs that were saved.

import { Failure, postPreference } from "./api.js";
import { historyOf } from "./chat.js";
import { say } from "./dom.js";

// The pair of a turn that is on its way to the server or did not get there.
const underway = new WeakMap();

function answersOf(turn) {
  return turn.sides.flatMap((side, s) =>
    side.versions.map((answer, v) => ({ answer, side: s, name: `${s}.${v}` })),
  );
}

/** Whether an answer may be judged at all: one that was stopped says nothing of its model. */
export function isJudgeable({ text, endedBy, failure }) {
  return Boolean(text && endedBy && endedBy !== "cancel" && !failure);
}

export function isSaved(turn, name) {
  return turn.pairs.flat().includes(name);
}

/** Whether a vote can no longer be cast. One whose further pairs were not saved can, once more. */
export function isFixed(turn, { vote }, name, value) {
  const isUp = turn.pairs.some(([up]) => up === name);
  return isSaved(turn, name) && (vote !== 0 || isUp !== (value === 1));
}

/** Why two answers make no pair; "" if they do. */
function obstacle(chat, index, one, other) {
  const histories = [one, other].map(({ side }) => JSON.stringify(historyOf(chat, index, side)));
  if (histories[0] !== histories[1] || one.answer.system !== other.answer.system) {
    return "hint.differs";
  }
  return one.answer.text === other.answer.text ? "hint.same" : "";
}

/** Set a vote or take it back. An up marks what the other model shows as the worse one. */
function setVote(chat, index, own, value) {
  const turn = chat.turns[index];
  own.answer.vote = own.answer.vote === value ? 0 : value;
  if (own.answer.vote !== 1) return;
  for (const other of answersOf(turn)) {
    const { kept, versions } = turn.sides[other.side];
    const isBeside = other.side !== own.side && versions[kept] === other.answer;
    const isFree = isJudgeable(other.answer) && !isSaved(turn, other.name);
    if (isBeside && isFree && !obstacle(chat, index, own, other)) other.answer.vote = -1;
  }
}

/** The pairs of a turn that are not saved yet: { names, body } of the request. */
function pairsToSave(chat, index) {
  const turn = chat.turns[index];
  const answers = answersOf(turn).filter((one) => isJudgeable(one.answer));
  const bodyOf = (up, down) => ({
    system: up.answer.system,
    history: historyOf(chat, index, up.side),
    question: turn.question,
    chosen: up.answer.text,
    rejected: down.answer.text,
  });
  return answers
    .flatMap((up) => answers.map((down) => [up, down]))
    .filter(([up, down]) => up.answer.vote === 1 && down.answer.vote === -1)
    .filter(([up, down]) => !obstacle(chat, index, up, down))
    .map(([up, down]) => ({ names: [up.name, down.name], body: bodyOf(up, down) }))
    .filter(({ names }) => !turn.pairs.some((pair) => pair.join() === names.join()));
}

/** Vote for an answer and save the pairs that this makes, each once. */
export async function castVote(chat, index, name, value, onChange) {
  const turn = chat.turns[index];
  const own = answersOf(turn).find((one) => one.name === name);
  // Until the server has taken a pair, a second press would send it again.
  if (underway.get(turn)?.isSaving) return;
  underway.delete(turn);
  setVote(chat, index, own, value);
  onChange();
  for (const { names, body } of pairsToSave(chat, index)) {
    underway.set(turn, { name, isSaving: true });
    onChange();
    try {
      await postPreference(body);
      turn.pairs.push(names);
      underway.delete(turn);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      // Taken back, so that the next press tries anew: this pair and those after it.
      own.answer.vote = 0;
      underway.set(turn, { name, failure: error });
      onChange();
      return;
    }
    onChange();
  }
}

/** What is said of a pair that is being saved, or was not; "" of others. */
export function savingHint(turn, name) {
  const state = underway.get(turn);
  if (state?.name !== name) return "";
  const { failure } = state;
  return failure ? say("hint.unsaved", say(failure.key, ...failure.values)) : say("hint.saving");
}

/** The key of the sentence that says what became of a vote; "" where there is none. */
export function hintFor(chat, index, name) {
  const turn = chat.turns[index];
  const answers = answersOf(turn);
  const own = answers.find((one) => one.name === name);
  if (own.answer.vote && isSaved(turn, name)) return "hint.saved";
  if (!own.answer.vote || !isJudgeable(own.answer)) return "";
  const others = answers.filter((one) => one !== own && isJudgeable(one.answer));
  if (!others.length) return "hint.single";
  const obstacles = others.map((other) => obstacle(chat, index, own, other));
  return obstacles.includes("") ? "hint.opposite" : obstacles[0];
}
