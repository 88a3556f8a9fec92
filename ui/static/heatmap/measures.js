// What the heat map shows: the colour of each node, and the legend.
import { css, OVER, STATE_COLOURS } from "./colours.js";
import { duration, short } from "../numbers.js";

const HOUR = 3600;

function most(values) {
  let found = 1;
  for (let i = 0; i < values.length; i += 1) if (values[i] > found) found = values[i];
  return found;
}

const log = (value, top) => Math.log1p(Math.max(0, value)) / Math.log1p(top);

// Returns a function: node -> colour, or null where the node has none of the class.
function colouring(measure, data, palette, live) {
  const { capacity, used, total, reserved, state } = data;
  const has = (node) => capacity[node] > 0 || used[node] > 0 || total[node] > 0;
  if (measure === "state") return (node) => STATE_COLOURS[state[node]];
  if (measure === "staleness") {
    return (node) => {
      const silent = data.silent(node, live);
      if (silent < 0) return null;
      return silent > HOUR ? OVER : palette.of(log(silent, HOUR));
    };
  }
  if (measure === "free") {
    const top = most(capacity);
    return (node) => (has(node) ? palette.of(Math.max(0, capacity[node] - used[node]) / top) : null);
  }
  if (measure === "total") {
    const top = most(total);
    return (node) => (has(node) ? palette.of(total[node] / top) : null);
  }
  if (measure === "reserved") {
    return (node) => (total[node] > 0 ? palette.of(reserved[node] / total[node]) : has(node) ? palette.of(0) : null);
  }
  return (node) => {
    if (!has(node)) return null;
    return used[node] > capacity[node] ? OVER : palette.of(used[node] / (capacity[node] || 1));
  };
}

// Fill `pixels` (one number a node) with colours. Nodes that take no claims are pale, and so are those a search leaves out.
export function paint(measure, data, palette, live, matches, pixels) {
  const colour = colouring(measure, data, palette, live);
  const palePixel = measure !== "state";
  for (let node = 0; node < data.size; node += 1) {
    let found = colour(node);
    if (found === null) found = palette.none;
    else if (palePixel && data.state[node] !== 0) found = palette.pale(found, 0.6);
    if (matches !== null && !matches[node]) found = palette.pale(found, 0.86);
    pixels[node] = (255 << 24) | (found[2] << 16) | (found[1] << 8) | found[0];
  }
}

const item = (text, colour) => {
  const span = document.createElement("span");
  const box = document.createElement("i");
  box.style.background = css(colour);
  span.append(box, text);
  return span;
};

function gradient(palette, low, high) {
  const span = document.createElement("span");
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  canvas.width = 256;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  for (let i = 0; i < 256; i += 1) {
    context.fillStyle = css(palette.of(i / 255));
    context.fillRect(i, 0, 1, 1);
  }
  span.append(low, canvas, high);
  return span;
}

export function legend(measure, data, palette, place) {
  const parts = [];
  if (measure === "state") {
    const counts = new Array(data.states.length).fill(0);
    for (let node = 0; node < data.size; node += 1) counts[data.state[node]] += 1;
    counts.forEach((count, at) => { if (count) parts.push(item(`${data.states[at]} ${short(count)}`, STATE_COLOURS[at])); });
  } else if (measure === "staleness") {
    parts.push(gradient(palette, "now", duration(HOUR)), item("longer", OVER));
  } else if (measure === "free") {
    parts.push(gradient(palette, "0", `${short(most(data.capacity))} free`));
  } else if (measure === "total") {
    parts.push(gradient(palette, "0", short(most(data.total))));
  } else {
    parts.push(gradient(palette, "0 %", measure === "used" ? "100 % used" : "100 % reserved"));
    if (measure === "used") parts.push(item("over capacity", OVER));
  }
  if (measure !== "state") parts.push(item("none", palette.none), "pale: takes no claims");
  place.replaceChildren(...parts);
}
