// Draws the map: one pixel a node in a picture of its own, which is drawn larger. So a frame costs the same with any zoom.
import { css } from "./colours.js";

const LINES_FROM = 5; // pixels of a cell from which cells are apart
const NAMES_FROM = 64;
const MARKS_FROM = 9;

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.picture = document.createElement("canvas");
    this.pictureContext = this.picture.getContext("2d");
  }

  // Returns the size in CSS pixels.
  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const [wide, tall] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
    if (this.canvas.width !== wide) this.canvas.width = wide;
    if (this.canvas.height !== tall) this.canvas.height = tall;
    this.ratio = ratio;
    return [width, height];
  }

  // Put the colours of all nodes into the picture.
  setColours(layout, pixels) {
    const [width, height] = [Math.max(1, layout.width), Math.max(1, layout.height)];
    if (this.picture.width !== width || this.picture.height !== height || !this.image) {
      this.picture.width = width;
      this.picture.height = height;
      this.image = this.pictureContext.createImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
    }
    this.words.fill(0);
    for (const block of layout.blocks) {
      for (let place = 0; place < block.count; place += 1) {
        const at = (block.y + Math.floor(place / layout.cells)) * width + block.x + (place % layout.cells);
        this.words[at] = pixels[layout.nodes[block.start + place]];
      }
    }
    this.pictureContext.putImageData(this.image, 0, 0);
  }

  draw(layout, camera, palette, labels, marked, data) {
    const { context, ratio } = this;
    const [wide, tall] = [this.canvas.width / ratio, this.canvas.height / ratio];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = css(palette.ground);
    context.fillRect(0, 0, wide, tall);
    context.imageSmoothingEnabled = camera.scale < 1;
    context.drawImage(this.picture, camera.x, camera.y, layout.width * camera.scale, layout.height * camera.scale);
    if (camera.scale >= LINES_FROM) this._lines(layout, camera, palette, wide, tall);
    if (camera.scale >= MARKS_FROM) this._cells(layout, camera, palette, data, wide, tall);
    this._labels(layout, camera, palette, labels, wide, tall);
    if (marked >= 0) this._mark(layout, camera, palette, marked);
  }

  _lines(layout, camera, palette, wide, tall) {
    const { context } = this;
    const step = camera.scale;
    context.lineWidth = Math.min(3, Math.max(0.75, step * 0.09));
    context.strokeStyle = css(palette.ground);
    context.beginPath();
    const first = Math.max(0, Math.floor(-camera.x / step));
    const last = Math.min(layout.width, Math.ceil((wide - camera.x) / step));
    const top = Math.max(0, camera.y);
    const bottom = Math.min(tall, camera.y + layout.height * step);
    for (let x = first; x <= last; x += 1) {
      context.moveTo(camera.x + x * step, top);
      context.lineTo(camera.x + x * step, bottom);
    }
    const begin = Math.max(0, Math.floor(-camera.y / step));
    const end = Math.min(layout.height, Math.ceil((tall - camera.y) / step));
    for (let y = begin; y <= end; y += 1) {
      context.moveTo(Math.max(0, camera.x), camera.y + y * step);
      context.lineTo(Math.min(wide, camera.x + layout.width * step), camera.y + y * step);
    }
    context.stroke();
  }

  // Each node that is seen, large enough to have more than a colour: a stroke where it takes no claims, and its name.
  _cells(layout, camera, palette, data, wide, tall) {
    const { context } = this;
    const step = camera.scale;
    context.lineWidth = 1.25;
    context.strokeStyle = palette.mark;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.beginPath();
    const [left, top] = [Math.max(0, Math.floor(-camera.x / step)), Math.max(0, Math.floor(-camera.y / step))];
    const right = Math.min(layout.width - 1, Math.floor((wide - camera.x) / step));
    const bottom = Math.min(layout.height - 1, Math.floor((tall - camera.y) / step));
    const names = [];
    for (let y = top; y <= bottom; y += 1) {
      for (let x = left; x <= right; x += 1) {
        const node = layout.nodeAt(x + 0.5, y + 0.5);
        if (node < 0) continue;
        const [px, py] = [camera.x + x * step, camera.y + y * step];
        if (data.state[node] !== 0) {
          context.moveTo(px + step * 0.25, py + step * 0.75);
          context.lineTo(px + step * 0.75, py + step * 0.25);
        }
        if (step >= NAMES_FROM) names.push([node, px, py]);
      }
    }
    context.stroke();
    for (const [node, px, py] of names) {
      const text = fitted(context, data.nameOf(node), step - 10);
      const width = context.measureText(text).width;
      context.fillStyle = css(palette.ground);
      context.fillRect(px + 4, py + step - 20, width + 4, 15);
      context.fillStyle = palette.text;
      context.fillText(text, px + 6, py + step - 12);
    }
  }

  _labels(layout, camera, palette, labels, wide, tall) {
    const { context } = this;
    context.textBaseline = "alphabetic";
    const room = layout.cells * camera.scale;
    if (room < 26) return;
    for (const block of layout.blocks) {
      const x = camera.x + block.x * camera.scale;
      const above = camera.y + block.y * camera.scale;
      const below = above + block.rows * camera.scale;
      if (x > wide || x + room < 0 || above - 20 > tall || below < 0) continue;
      const y = Math.max(12, above - 4); // it stays in sight while its block is
      const [name, detail] = labels(block);
      const left = Math.max(x, 4);
      const space = x + room - left;
      if (y > above - 4) {
        context.fillStyle = css(palette.ground);
        context.fillRect(left - 2, 0, Math.min(space, 190), 16);
      }
      context.font = "600 11px system-ui, sans-serif";
      context.fillStyle = palette.text;
      const text = fitted(context, name, space);
      context.fillText(text, left, y);
      const used = context.measureText(text).width + 6;
      context.font = "11px system-ui, sans-serif";
      if (context.measureText(detail).width < space - used) {
        context.fillStyle = palette.muted;
        context.fillText(detail, left + used, y);
      }
    }
  }

  _mark(layout, camera, palette, node) {
    const [x, y] = layout.at(node);
    const { context } = this;
    const size = Math.max(camera.scale, 7);
    const off = (size - camera.scale) / 2;
    context.lineWidth = 3;
    context.strokeStyle = css(palette.ground);
    context.strokeRect(camera.x + x * camera.scale - off - 1, camera.y + y * camera.scale - off - 1, size + 2, size + 2);
    context.lineWidth = 1.75;
    context.strokeStyle = palette.mark;
    context.strokeRect(camera.x + x * camera.scale - off - 1, camera.y + y * camera.scale - off - 1, size + 2, size + 2);
  }
}

function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let kept = text.length;
  while (kept > 1 && context.measureText(`${text.slice(0, kept)}…`).width > room) kept = Math.floor(kept * 0.8);
  return kept > 1 ? `${text.slice(0, kept)}…` : "";
}
