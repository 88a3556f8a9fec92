// Pointer and keyboard: pan, zoom, choose. Without zoom one finger scrolls the page, as people expect.
export function listen(canvas, map) {
  const pointers = new Map();
  let moved = 0;
  let pinch = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return [Math.hypot(a[0] - b[0], a[1] - b[1]), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  };

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    canvas.setPointerCapture(event.pointerId);
    moved = 0;
    if (pointers.size === 2) [pinch] = spread();
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      map.point(...now);
      return;
    }
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) {
      const [wide, x, y] = spread();
      map.zoom(wide / (pinch || wide), x, y);
      pinch = wide;
      moved = 99;
      return;
    }
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (moved > 4) {
      canvas.classList.add("grabbed");
      map.move(now[0] - before[0], now[1] - before[1]);
    }
  });
  const end = (event) => {
    const was = pointers.delete(event.pointerId);
    canvas.classList.remove("grabbed");
    if (was && event.type === "pointerup" && moved <= 4) map.choose(...place(event));
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => { if (!pointers.size) map.point(-1, -1); });
  canvas.addEventListener("dblclick", () => map.open());
  canvas.addEventListener("wheel", (event) => {
    // The wheel scrolls the page, until the map was chosen.
    if (!event.ctrlKey && document.activeElement !== canvas) return;
    event.preventDefault();
    map.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...place(event));
  }, { passive: false });
  const keys = {
    ArrowLeft: () => map.step(-1, 0), ArrowRight: () => map.step(1, 0), ArrowUp: () => map.step(0, -1), ArrowDown: () => map.step(0, 1),
    "+": () => map.zoom(1.5), "=": () => map.zoom(1.5), "-": () => map.zoom(1 / 1.5), 0: () => map.fit(), Enter: () => map.open(),
  };
  canvas.addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  document.getElementById("zoom-in").addEventListener("click", () => map.zoom(1.6));
  document.getElementById("zoom-out").addEventListener("click", () => map.zoom(1 / 1.6));
  document.getElementById("zoom-fit").addEventListener("click", () => map.fit());
}
