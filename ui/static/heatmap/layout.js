// Where each node is: groups are blocks of equal width in a few columns, nodes are cells of 1 by 1 in them, in their order.
const GAP = 1;
const LABEL = 17; // pixels

export class Layout {
  // `groupOf`: node -> group. The blocks fill a canvas of `width` by `height` pixels as well as they can.
  constructor(groupOf, groups, size, width, height) {
    this.size = size;
    this._order(groupOf, groups.length);
    const filled = [];
    for (let group = 0; group < groups.length; group += 1) {
      if (this.counts[group]) filled.push(group);
    }
    this.filled = filled;
    let best = null;
    for (let across = 1; across <= Math.min(filled.length, 64); across += 1) {
      const found = this._arranged(filled, across, width, height);
      if (best === null || found.scale > best.scale * 1.02) best = found;
    }
    Object.assign(this, best ?? { across: 1, cells: 1, label: 1, tops: [0], width: 1, height: 1, scale: 1, shelves: [] });
    this.blocks = filled.map((group, at) => ({
      group,
      x: (at % this.across) * (this.cells + GAP),
      y: this.tops[Math.floor(at / this.across)] + this.label,
      rows: Math.ceil(this.counts[group] / this.cells),
      count: this.counts[group],
      start: this.starts[group],
    }));
    this.blockOf = new Int32Array(groups.length).fill(-1);
    this.blocks.forEach((block, at) => { this.blockOf[block.group] = at; });
    this.groupOf = groupOf;
  }

  // Nodes by group, in their order: `nodes` has them all, `starts` where each group begins, `places` the place of each node.
  _order(groupOf, count) {
    this.counts = new Uint32Array(count);
    for (let node = 0; node < this.size; node += 1) this.counts[groupOf[node]] += 1;
    this.starts = new Uint32Array(count + 1);
    for (let group = 0; group < count; group += 1) this.starts[group + 1] = this.starts[group] + this.counts[group];
    const next = this.starts.slice();
    this.nodes = new Uint32Array(this.size);
    this.places = new Uint32Array(this.size);
    for (let node = 0; node < this.size; node += 1) {
      const place = next[groupOf[node]]++;
      this.nodes[place] = node;
      this.places[node] = place;
    }
  }

  _arranged(filled, across, width, height) {
    const shelves = Math.ceil(filled.length / across);
    let scale = Math.sqrt((width * height) / Math.max(1, this.size));
    let best = null;
    for (let turn = 0; turn < 12; turn += 1) {
      const cells = Math.max(1, Math.floor((width / scale + GAP) / across) - GAP);
      const label = Math.max(1, Math.ceil(LABEL / scale));
      const tops = [0];
      for (let shelf = 0; shelf < shelves; shelf += 1) {
        let rows = 1;
        for (const group of filled.slice(shelf * across, (shelf + 1) * across)) rows = Math.max(rows, Math.ceil(this.counts[group] / cells));
        tops.push(tops[shelf] + label + rows + GAP);
      }
      const tall = tops[shelves] - GAP;
      const wide = across * (cells + GAP) - GAP;
      const fits = Math.min(width / wide, height / tall);
      // Labels have a size in pixels: where cells become smaller than was thought, a label has too little room.
      const readable = label * fits >= LABEL - 1;
      const better = best === null || (readable === best.readable ? fits > best.scale : readable);
      if (better) best = { across, cells, label, tops, width: wide, height: tall, scale: fits, shelves, readable };
      if (Math.abs(fits - scale) < 0.005 * scale) break;
      scale = fits < scale ? (2 * fits + scale) / 3 : (fits + scale) / 2;
    }
    return best;
  }

  // The place of a node: [x, y] of its cell.
  at(node) {
    const block = this.blocks[this.blockOf[this.groupOf[node]]];
    const place = this.places[node] - block.start;
    return [block.x + (place % this.cells), block.y + Math.floor(place / this.cells)];
  }

  // The node at a place, or -1.
  nodeAt(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return -1;
    const column = Math.floor(x / (this.cells + GAP));
    const across = Math.floor(x - column * (this.cells + GAP));
    let shelf = this.tops.findLastIndex((top) => top <= y);
    shelf = Math.min(shelf, this.tops.length - 2);
    const block = this.blocks[shelf * this.across + column];
    if (!block || across >= this.cells) return -1;
    const row = Math.floor(y - block.y);
    const place = row * this.cells + across;
    return row >= 0 && place < block.count ? this.nodes[block.start + place] : -1;
  }
}
