// Answers that are being written: each conversation has one job at most, which can be stopped.

import { Failure, streamAnswer } from "./api.js";
import { messagesFor, newAnswer, numAnswersOf } from "./chat.js";

const jobs = new Map();

export function isBusy(chat) {
  return jobs.has(chat.id);
}

export function stop(chat) {
  jobs.get(chat.id)?.abort();
}

/** A place for an answer. What failed or is empty is replaced, not kept as a version. */
function addAnswer(side, model, system) {
  const { versions } = side;
  if (versions.length && (versions.at(-1).failure || !versions.at(-1).text)) versions.pop();
  const answer = newAnswer(model, system);
  side.kept = versions.push(answer) - 1;
  return answer;
}

async function write(answer, request, signal, onChange) {
  let ended = "error";
  try {
    for await (const { endedBy, ...come } of streamAnswer(request, signal)) {
      Object.assign(answer, come);
      ended = endedBy;
      onChange();
    }
    answer.endedBy = ended || "stop";
  } catch (error) {
    answer.endedBy = error.name === "AbortError" ? "cancel" : "error";
    if (error instanceof Failure) answer.failure = { key: error.key, values: error.values };
    else if (answer.endedBy === "error") throw error;
  } finally {
    onChange();
  }
}

/** Have models answer a turn, all at once; ends when all have.
 *  asked: [{ side, model }]; settings: { system, seed, options }; onChange() when more came. */
export async function answerTurn(chat, index, asked, settings, onChange) {
  const turn = chat.turns[index];
  const job = new AbortController();
  jobs.set(chat.id, job);
  const { system, seed, options } = settings;
  const writing = asked.map(({ side, model }) => {
    // The same model draws another answer each time, by the next seed.
    const ownSeed = seed + numAnswersOf(turn, model);
    const messages = messagesFor(chat, index, side, system);
    const answer = addAnswer(turn.sides[side], model, system);
    return write(answer, { model, messages, ...options, seed: ownSeed }, job.signal, onChange);
  });
  onChange();
  try {
    await Promise.all(writing);
  } finally {
    jobs.delete(chat.id);
  }
}
