// Colours of a measure. Both ramps keep their order in grey and for the colour-blind; single colours are Okabe and Ito's.
const LIGHT = ["d3e7dc", "a9d5c8", "74bdb8", "429fa8", "237d97", "18597f", "152f5c"];
const DARK = ["21313e", "22506a", "266f8d", "3a93a8", "63b9b5", "a0dcc0", "e6f8da"];
const STEPS = 256;

export const OVER = [213, 94, 0]; // more used than there is
export const STATE_COLOURS = [
  [0, 158, 115], [153, 153, 153], [230, 159, 0], [204, 121, 167], [213, 94, 0], [90, 90, 90], [240, 228, 66], [0, 114, 178],
];

const parse = (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));

function ramp(dark) {
  const stops = (dark ? DARK : LIGHT).map(parse); // the strongest contrast with the ground is the most
  const found = [];
  for (let i = 0; i < STEPS; i += 1) {
    const place = (i / (STEPS - 1)) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    found.push(stops[low].map((value, at) => Math.round(value + (stops[low + 1][at] - value) * (place - low))));
  }
  return found;
}

export class Palette {
  constructor(dark) {
    this.dark = dark;
    this.ramp = ramp(dark);
    this.ground = dark ? [22, 27, 33] : [255, 255, 255];
    this.none = dark ? [30, 34, 39] : [241, 241, 242];
    this.text = dark ? "#e4e8ec" : "#1b1f23";
    this.muted = dark ? "#98a3ae" : "#566069";
    this.mark = dark ? "#ffffff" : "#000000";
  }

  // The colour of a share from 0 to 1.
  of(share) {
    return this.ramp[Math.max(0, Math.min(STEPS - 1, Math.round(share * (STEPS - 1))))];
  }

  // A colour that is drawn back towards the ground.
  pale(colour, by) {
    return colour.map((value, at) => value + (this.ground[at] - value) * by);
  }
}

export const css = (colour) => `rgb(${colour.map(Math.round).join(",")})`;
