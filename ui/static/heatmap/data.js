// The fleet as typed arrays: decoded from the server's bytes (see ui/heat_map/payload.py), and kept up to date.
const ARRAYS = { f64: Float64Array, i32: Int32Array, u16: Uint16Array, u8: Uint8Array };
const AMOUNTS = ["total", "reserved", "capacity", "used"];

export class FleetData {
  constructor(bytes) {
    const length = new DataView(bytes).getUint32(0, true);
    const decoder = new TextDecoder();
    const header = JSON.parse(decoder.decode(new Uint8Array(bytes, 4, length)));
    const base = 4 + length;
    Object.assign(this, { className: header.class, grouping: header.group, groups: header.groups, states: header.states });
    this.regrouped = false;
    this.generation = header.generation;
    this.asOfMs = header.as_of_ms;
    this.size = header.nodes;
    this.bytes = bytes.byteLength;
    for (const [name, { type, offset, length: count }] of Object.entries(header.columns)) {
      this[name] = new ARRAYS[type](bytes, base + offset, count);
    }
    // Amounts may grow beyond the type that they came in.
    for (const name of AMOUNTS) this[name] = Float64Array.from(this[name]);
    this.heard = Float64Array.from(this.heard);
    this.presentMs = header.present_ms;
    this.aheadMs = header.present_ms - Date.now(); // the server's clock counts, not this machine's
    const { offset, length: size } = header.names;
    this.names = size ? decoder.decode(new Uint8Array(bytes, base + offset, size)).split("\n") : null;
  }

  nameOf(node) {
    return this.names ? this.names[node] : `node ${node + 1}`;
  }

  // Seconds since the last event of a node, as of now or of these tables; -1 for none.
  silent(node, live) {
    if (this.heard[node] <= 0) return -1;
    const present = live ? Date.now() + this.aheadMs : this.presentMs;
    return Math.max(0, present / 1000 - this.heard[node]);
  }

  // Apply what changed on the server; returns whether it fits these nodes. Where nodes are grouped by their state, a new
  // state is a new group: `regrouped` says so, until it is reset.
  apply(changes) {
    if (changes.generation !== this.generation) return false;
    const at = decode(changes.nodes, Uint32Array);
    for (const name of AMOUNTS) {
      const values = decode(changes[name], Float64Array);
      for (let i = 0; i < at.length; i += 1) this[name][at[i]] = values[i];
    }
    const heard = decode(changes.heard, Int32Array);
    const state = decode(changes.state, Uint8Array);
    for (let i = 0; i < at.length; i += 1) {
      this.heard[at[i]] = heard[i];
      this.state[at[i]] = state[i];
      if (this.grouping === "state" && this.group[at[i]] !== state[i]) {
        this.group[at[i]] = state[i];
        this.regrouped = true;
      }
    }
    return true;
  }
}

function decode(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return new Kind(bytes.buffer);
}
