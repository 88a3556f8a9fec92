// The numbers beside the map: totals of groups, sums of classes. They are changed where they are, so nothing moves.
import { number, short } from "../numbers.js";

const OPEN = 0;

export function groupTotals(data) {
  const empty = () => ({ nodes: 0, total: 0, reserved: 0, capacity: 0, used: 0, free: 0 });
  const found = data.groups.map(empty);
  const sum = empty();
  for (let node = 0; node < data.size; node += 1) {
    const one = found[data.group[node]];
    one.nodes += 1;
    one.total += data.total[node];
    one.reserved += data.reserved[node];
    one.capacity += data.capacity[node];
    one.used += data.used[node];
    if (data.state[node] === OPEN) one.free += Math.max(0, data.capacity[node] - data.used[node]);
  }
  for (const one of found) for (const name of Object.keys(sum)) sum[name] += one[name];
  return { groups: found, sum };
}

function set(place, text) {
  if (place && place.textContent !== text) place.textContent = text;
}

function setBar(bar, used, capacity) {
  if (!bar) return;
  const share = capacity ? Math.min(100, (100 * used) / capacity) : used ? 100 : 0;
  bar.querySelector(".used").setAttribute("width", share);
  bar.classList.toggle("over", used > capacity);
}

export function showTotals(data, totals) {
  const rows = new Map();
  for (const row of document.querySelectorAll("[data-group-row]")) rows.set(row.dataset.groupRow, row);
  const show = (row, one) => {
    if (!row) return;
    set(row.querySelector('[data-of="nodes"]'), number(one.nodes));
    for (const name of ["total", "reserved", "used", "free"]) set(row.querySelector(`[data-of="${name}"]`), short(one[name]));
    setBar(row.querySelector(".bar"), one.used, one.capacity);
  };
  const all = document.querySelector("tfoot [data-group-row]");
  const list = document.querySelector(".totals tbody");
  if (list && all && list.dataset.leftOut === undefined) {
    const there = data.groups.filter((_, at) => totals.groups[at].nodes);
    const shown = [...rows.keys()].filter(Boolean);
    if (there.length !== shown.length || there.some((name, at) => name !== shown[at])) {
      // A group came or went: rows are in the order of the groups.
      list.replaceChildren(...there.map((name) => rows.get(name) ?? newRow(all, name)));
      for (const row of list.rows) rows.set(row.dataset.groupRow, row);
    }
  }
  totals.groups.forEach((one, at) => show(rows.get(data.groups[at]), one));
  show(all, totals.sum);
}

function newRow(all, name) {
  const row = all.cloneNode(true);
  row.dataset.groupRow = name;
  row.querySelector("th").textContent = name;
  return row;
}

export function showClasses(classes) {
  for (const one of classes) {
    const card = document.querySelector(`[data-class-card="${CSS.escape(one.name)}"]`);
    if (!card) continue;
    set(card.querySelector('[data-of="free"]'), short(one.free));
    set(card.querySelector('[data-of="capacity"]'), short(one.capacity));
    setBar(card.querySelector(".bar"), one.used, one.capacity);
  }
}
