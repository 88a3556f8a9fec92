// Where the map is looked at from: the place of its corner on the canvas, and the pixels of one cell.
const SCALE_MAX = 160;
const SCALE_FIT_MAX = 44;
const EDGE = 12; // pixels of the frame that stay free

export class Camera {
  constructor() {
    Object.assign(this, { x: 0, y: 0, scale: 1, wide: 1, tall: 1, fitted: true });
  }

  fit(layout, wide, tall) {
    let scale = Math.min((wide - EDGE) / layout.width, (tall - EDGE) / layout.height, SCALE_FIT_MAX);
    if (scale >= 2) scale = Math.floor(scale * 2) / 2; // cells of equal size look calm
    Object.assign(this, { layout, wide, tall, scale, least: scale, fitted: true });
    this.x = Math.round(Math.max(0, (wide - layout.width * scale) / 2));
    this.y = Math.round(Math.max(0, (tall - layout.height * scale) / 2));
    if (scale === SCALE_FIT_MAX) this.y = EDGE / 2;
  }

  // The layout has changed: who has zoomed in goes on looking at the same part of it.
  keep(layout, wide, tall) {
    const { fitted, scale } = this;
    const across = fitted ? 0 : (this.wide / 2 - this.x) / (scale * this.layout.width);
    const down = fitted ? 0 : (this.tall / 2 - this.y) / (scale * this.layout.height);
    this.fit(layout, wide, tall);
    if (fitted || scale <= this.least) return;
    Object.assign(this, { scale, fitted: false });
    this.x = wide / 2 - across * layout.width * scale;
    this.y = tall / 2 - down * layout.height * scale;
    this._keep();
  }

  zoom(by, x = this.wide / 2, y = this.tall / 2) {
    const scale = Math.max(this.least, Math.min(SCALE_MAX, this.scale * by));
    if (scale <= this.least) {
      this.fit(this.layout, this.wide, this.tall);
      return;
    }
    const factor = scale / this.scale;
    this.x = x - (x - this.x) * factor;
    this.y = y - (y - this.y) * factor;
    this.scale = scale;
    this.fitted = false;
    this._keep();
  }

  move(dx, dy) {
    if (this.fitted) return;
    this.x += dx;
    this.y += dy;
    this._keep();
  }

  // Show a place, with some room around it.
  show(x, y) {
    const [px, py] = [this.x + x * this.scale, this.y + y * this.scale];
    const room = Math.min(40, this.wide / 4);
    if (px < room || px > this.wide - room - this.scale) this.x += this.wide / 2 - px;
    if (py < room || py > this.tall - room - this.scale) this.y += this.tall / 2 - py;
    if (!this.fitted) this._keep();
  }

  _keep() {
    const [width, height] = [this.layout.width * this.scale, this.layout.height * this.scale];
    this.x = Math.min(this.wide * 0.5, Math.max(this.wide * 0.5 - width, this.x));
    this.y = Math.min(this.tall * 0.5, Math.max(this.tall * 0.5 - height, this.y));
  }
}
