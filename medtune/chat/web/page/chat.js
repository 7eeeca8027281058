// A conversation as it is kept: turns of a question and one side per model asked, each side with
// the versions of its answer. kept: the version that the conversation goes on from.
//   { id, updated, turns: [{ question, pairs, sides: [{ kept, versions: [answer] }] }] }

export function newChat() {
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
  return { id, updated: Date.now(), turns: [] };
}

/** An answer to be. endedBy is "" while it comes. seed + how often its model answered before. */
export function newAnswer(model, system) {
  return {
    model, system, text: "", advice: "", numLeftOut: 0, endedBy: "", failure: null, vote: 0,
  };
}

/** The side that a model continues; where one model answered alone, that of the other too. */
function sideOf(turn, side) {
  return turn.sides[side] ?? turn.sides[0];
}

export function keptAnswer(turn, side) {
  const { kept, versions } = sideOf(turn, side);
  return versions[kept];
}

/** [question, answer] of the turns before one, as a side goes on from them. */
export function historyOf(chat, index, side) {
  return chat.turns
    .slice(0, index)
    .map((turn) => [turn.question, keptAnswer(turn, side).text])
    .filter(([, answer]) => answer);
}

function messagesOf(system, history) {
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...history.flatMap(([question, answer]) => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]),
  ];
}

/** The messages that ask the question of a turn. */
export function messagesFor(chat, index, side, system) {
  const question = { role: "user", content: chat.turns[index].question };
  return [...messagesOf(system, historyOf(chat, index, side)), question];
}

/** What is written to a file: an object of messages; a list of two where two models answered. */
export function exported(chat) {
  const numSides = Math.max(...chat.turns.map((turn) => turn.sides.length));
  const conversations = [...Array(numSides).keys()].map((side) => {
    const { system } = keptAnswer(chat.turns.at(-1), side);
    return { messages: messagesOf(system, historyOf(chat, chat.turns.length, side)) };
  });
  return numSides === 1 ? conversations[0] : conversations;
}

/** How many answers to this question a model has given: added to the seed, for another answer. */
export function numAnswersOf(turn, model) {
  return turn.sides.flatMap((side) => side.versions).filter((one) => one.model === model).length;
}

/** Mark what was still coming when the page was closed. */
export function endInterrupted(chat) {
  for (const answer of chat.turns.flatMap((turn) => turn.sides).flatMap((side) => side.versions)) {
    if (answer.endedBy) continue;
    answer.endedBy = "cancel";
    if (!answer.text) answer.failure = { key: "error.interrupted", values: [] };
  }
}
