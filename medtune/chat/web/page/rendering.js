// What a model wrote, as paragraphs, lists, bold and code. Nodes are built from text alone:
// markup in it stays text, addresses are not made links, nothing is loaded.

import { make } from "./dom.js";

const FENCE = /^\s*```/;
const HEADING = /^\s*#{1,6}\s+(.*)$/;
const BULLET = /^\s*[-*+\u2022]\s+(.*)$/;
// "1. one", "1) one", and with the Chinese enumeration comma no blank is needed.
const NUMBERED = /^\s*(\d{1,4})(?:[.)]\s+|\u3001\s*)(.*)$/;
const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*/g;

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, bold] = match;
    nodes.push(text.slice(end, match.index));
    nodes.push(code ? make("code", {}, code) : make("strong", {}, bold));
    end = match.index + whole.length;
  }
  return [...nodes, text.slice(end)];
}

function itemOf(line) {
  const numbered = NUMBERED.exec(line);
  if (numbered) return ["ol", make("li", { value: Number(numbered[1]) }, ...inline(numbered[2]))];
  const bullet = BULLET.exec(line);
  return bullet ? ["ul", make("li", {}, ...inline(bullet[1]))] : null;
}

function paragraph(lines) {
  return make("p", {}, ...lines.flatMap((line, n) => (n ? [make("br"), ...line] : line)));
}

/** The text as nodes. A fence of code that is still open reaches to the end. */
export function renderText(text) {
  const shown = document.createDocumentFragment();
  let lines = [];
  const close = () => {
    if (lines.length) shown.append(paragraph(lines));
    lines = [];
  };
  const rows = text.split("\n");
  for (let n = 0; n < rows.length; n += 1) {
    const heading = HEADING.exec(rows[n]);
    const item = itemOf(rows[n]);
    if (FENCE.test(rows[n])) {
      close();
      const from = n + 1;
      do n += 1; while (n < rows.length && !FENCE.test(rows[n]));
      shown.append(make("pre", {}, make("code", {}, rows.slice(from, n).join("\n"))));
    } else if (item) {
      close();
      const last = shown.lastChild;
      const list = last?.localName === item[0] ? last : shown.appendChild(make(item[0]));
      list.append(item[1]);
    } else if (heading) {
      close();
      shown.append(make("p", { className: "heading" }, ...inline(heading[1])));
    } else if (rows[n].trim()) {
      lines.push(inline(rows[n]));
    } else {
      close();
    }
  }
  close();
  return shown;
}
