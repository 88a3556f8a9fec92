// The heat map of the fleet: fetches the nodes, draws them, and keeps them up to date.
import { subscribe } from "../live.js";
import { number, short, duration } from "../numbers.js";
import { Camera } from "./camera.js";
import { Palette } from "./colours.js";
import { listen } from "./controls.js";
import { FleetData } from "./data.js";
import { Layout } from "./layout.js";
import { legend, paint } from "./measures.js";
import { Painter } from "./painter.js";
import { groupTotals, showClasses, showTotals } from "./totals.js";

const body = document.body;
const live = body.dataset.asOf === "";
const redacted = body.dataset.redacted !== undefined;
const canvas = document.getElementById("canvas");
const readout = document.getElementById("readout");
const darkness = matchMedia("(prefers-color-scheme: dark)");
const STALE_REPAINT_MS = 5000;
const WITHOUT_STREAM_MS = 1500;

class FleetMap {
  constructor() {
    this.camera = new Camera();
    this.painter = new Painter(canvas);
    this.palette = new Palette(darkness.matches);
    this.measure = body.dataset.measure;
    this.search = body.dataset.search;
    this.chosen = -1;
    this.pointed = -1;
    this.matches = null;
    this.frames = 0;
    this.drawing = false;
    this.loading = false;
    this.again = false;
    this.waiting = [];
  }

  // Fetch the nodes, one time after the other. What changes meanwhile is applied to them when they are there.
  async load() {
    this.again = true;
    if (this.loading) return;
    this.loading = true;
    try {
      while (this.again) {
        this.again = false;
        this.waiting = [];
        await this.fetch();
        const waited = this.waiting.filter((changes) => this.data?.apply(changes));
        if (waited.length) this.redraw();
      }
    } catch (error) {
      if (!this.data) readout.textContent = `The nodes cannot be shown: ${error.message}.`;
    } finally {
      this.loading = false;
    }
  }

  changed(changes) {
    if (this.loading) this.waiting.push(changes);
    else if (this.data?.apply(changes)) this.redraw();
  }

  redraw() {
    if (this.data.regrouped) this.arrange();
    this.data.regrouped = false;
    this.recolour();
  }

  async fetch() {
    const began = performance.now();
    const asked = new URLSearchParams({ class: body.dataset.class, group: body.dataset.group });
    if (!live) asked.set("as_of", body.dataset.asOf);
    const response = await fetch(`/fleet.bin?${asked}`);
    if (response.status === 202) {
      setTimeout(() => this.load(), 1000);
      return;
    }
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const name = this.chosen >= 0 ? this.data.nameOf(this.chosen) : body.dataset.selected;
    const isFirst = !this.data;
    this.data = new FleetData(await response.arrayBuffer());
    this.pixels = new Uint32Array(this.data.size);
    this.chosen = name && this.data.names ? this.data.names.indexOf(name) : -1;
    this.find(this.search);
    this.arrange();
    this.recolour();
    if (isFirst) this.showChosen();
    else if (this.chosen >= 0) this.show(this.chosen);
    performance.measure("fleet", { start: began });
    body.dataset.drawn = String(this.data.size);
  }

  arrange() {
    const [wide, tall] = this.painter.resize();
    this.layout = new Layout(this.data.group, this.data.groups, this.data.size, wide, tall);
    this.camera.keep(this.layout, wide, tall);
    this.setTouch();
  }

  recolour() {
    paint(this.measure, this.data, this.palette, live, this.matches, this.pixels);
    this.painter.setColours(this.layout, this.pixels);
    this.totals = groupTotals(this.data);
    showTotals(this.data, this.totals);
    legend(this.measure, this.data, this.palette, document.getElementById("legend"));
    this.draw();
  }

  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      this.frames += 1;
      const marked = this.chosen >= 0 ? this.chosen : this.pointed;
      this.painter.draw(this.layout, this.camera, this.palette, (block) => this.label(block), marked, this.data);
    });
  }

  label(block) {
    const one = this.totals.groups[block.group];
    const share = one.capacity ? `${Math.round((100 * one.used) / one.capacity)} % used` : "";
    return [this.data.groups[block.group], `${share}, ${short(one.free)} free`];
  }

  // -- what controls.js calls -------------------------------------------------------------------------------------------

  zoom(by, x, y) {
    if (!this.layout) return;
    this.camera.zoom(by, x, y);
    this.setTouch();
    this.draw();
  }

  fit() {
    if (!this.layout) return;
    this.camera.fit(this.layout, this.camera.wide, this.camera.tall);
    this.setTouch();
    this.draw();
  }

  // A finger scrolls the page while all of the map is there, and moves the map when it is larger.
  setTouch() {
    canvas.style.touchAction = this.camera.fitted ? "pan-y" : "none";
  }

  move(dx, dy) {
    if (!this.layout) return;
    this.camera.move(dx, dy);
    this.draw();
  }

  nodeAt(x, y) {
    if (!this.layout || x < 0) return -1;
    return this.layout.nodeAt((x - this.camera.x) / this.camera.scale, (y - this.camera.y) / this.camera.scale);
  }

  point(x, y) {
    const node = this.nodeAt(x, y);
    if (node === this.pointed) return;
    this.pointed = node;
    if (this.chosen < 0) {
      this.show(node);
      this.draw();
    }
  }

  choose(x, y) {
    const node = this.nodeAt(x, y);
    this.chosen = node === this.chosen ? -1 : node;
    this.chosenChanged();
  }

  step(dx, dy) {
    if (!this.layout || !this.data.size) return;
    if (this.chosen < 0) {
      this.chosen = this.layout.nodes[0];
    } else {
      let place = this.layout.places[this.chosen] + dx + dy * this.layout.cells;
      place = Math.max(0, Math.min(this.data.size - 1, place));
      this.chosen = this.layout.nodes[place];
    }
    this.chosenChanged();
  }

  chosenChanged() {
    if (this.chosen >= 0) this.camera.show(...this.layout.at(this.chosen));
    this.show(this.chosen);
    this.draw();
    remember("node", this.chosen >= 0 && !redacted ? this.data.nameOf(this.chosen) : "");
  }

  showChosen() {
    if (this.chosen < 0) return;
    this.camera.show(...this.layout.at(this.chosen));
    this.show(this.chosen);
    this.draw();
  }

  open() {
    if (this.chosen >= 0 && !redacted) location.assign(nodeAddress(this.data.nameOf(this.chosen)));
  }

  show(node) {
    if (node < 0) {
      readout.textContent = redacted ? "" : "Choose a node for its numbers.";
      return;
    }
    const { capacity, used, total, reserved, state, states, group, groups } = this.data;
    const silent = this.data.silent(node, live);
    const name = redacted ? document.createElement("b") : document.createElement("a");
    name.textContent = this.data.nameOf(node);
    if (!redacted) name.href = nodeAddress(name.textContent);
    const text = ` ${groups[group[node]]}, ${states[state[node]]}: ${number(used[node])} used, ${number(capacity[node] - used[node])} free, `
      + `${number(total[node])} total, ${number(reserved[node])} reserved${silent >= 0 ? `, last report ${duration(silent)} ago` : ""}`;
    readout.replaceChildren(name, text);
  }

  // Mark the nodes whose names have a text in them; one alone is chosen.
  find(text) {
    this.search = text;
    const found = document.getElementById("found");
    if (!text || !this.data.names) {
      this.matches = null;
      if (found) found.textContent = "";
      return;
    }
    this.matches = new Uint8Array(this.data.size);
    let count = 0;
    let last = -1;
    this.data.names.forEach((name, node) => {
      if (name.includes(text)) {
        this.matches[node] = 1;
        count += 1;
        if (last < 0 || name === text) last = node;
      }
    });
    if (found) found.textContent = `${number(count)} found`;
    if (last >= 0 && (count === 1 || this.data.names[last] === text)) this.chosen = last;
    else if (!body.dataset.selected) this.chosen = -1;
  }
}

function nodeAddress(name) {
  const asked = new URLSearchParams({ id: name });
  if (!live) asked.set("as_of", body.dataset.asOf);
  return `/node?${asked}`;
}

// The address has the state of the page, so that a link shows what its sender saw.
function remember(name, value) {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  history.replaceState(null, "", address);
}

function start() {
  const map = new FleetMap();
  globalThis.fleetMap = map; // for the tests, and for those who are curious
  listen(canvas, map);
  document.getElementById("measure").addEventListener("change", (event) => {
    map.measure = event.target.value;
    remember("measure", map.measure === "used" ? "" : map.measure);
    if (map.data) map.recolour();
  });
  document.getElementById("group").addEventListener("change", (event) => {
    remember("group", event.target.value === "cell" ? "" : event.target.value);
    location.reload();
  });
  document.getElementById("search")?.addEventListener("input", (event) => {
    if (!map.data) return;
    map.find(event.target.value.trim());
    remember("search", map.search);
    map.recolour();
    map.showChosen();
  });
  darkness.addEventListener("change", () => {
    map.palette = new Palette(darkness.matches);
    if (map.data) map.recolour();
  });
  new ResizeObserver(() => {
    if (!map.data) return;
    map.arrange();
    map.recolour();
  }).observe(canvas.parentElement);
  if (!live) {
    map.load();
    return;
  }
  let painted = 0;
  // The nodes are fetched when the stream of changes has begun, so that none is missed; without a stream they are shown as well.
  subscribe("hello", () => map.load());
  setTimeout(() => { if (!map.data) map.load(); }, WITHOUT_STREAM_MS);
  subscribe("fleet", (changes) => {
    painted = performance.now();
    map.changed(changes);
  });
  subscribe("reload", () => map.load());
  subscribe("health", (data) => {
    showClasses(data.classes);
    if (map.data && data.generation > map.data.generation && !map.loading) map.load();
    if (map.data && map.measure === "staleness" && performance.now() - painted > STALE_REPAINT_MS) {
      painted = performance.now();
      map.recolour();
    }
  });
}

if (canvas) start();
