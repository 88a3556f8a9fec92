// What all views have: the slider of time, buttons that copy, parts that come later, and what is new on the server.
import { subscribe } from "./live.js";

const body = document.body;
const past = body.dataset.asOf !== "";

function timeSlider() {
  const slider = document.getElementById("slider");
  if (!slider) return;
  const shown = document.getElementById("slider-text");
  const text = (ms) => new Date(ms).toISOString();
  slider.addEventListener("input", () => {
    shown.textContent = text(Number(slider.value)).replace("T", " ").replace("Z", "");
    slider.setAttribute("aria-valuetext", shown.textContent);
  });
  slider.addEventListener("change", () => {
    const address = new URL(location.href);
    if (Number(slider.value) >= Number(slider.max)) address.searchParams.delete("as_of");
    else address.searchParams.set("as_of", text(Number(slider.value)));
    location.assign(address);
  });
}

async function copy(button, text) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select the text instead";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy !== undefined) copy(button, button.dataset.copy);
  if (button.dataset.copyAddress !== undefined) {
    const address = new URL(location.href);
    address.searchParams.set("as_of", body.dataset.position || button.dataset.copyAddress);
    copy(button, address.href);
  }
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && !typing) {
    const field = document.getElementById("search") ?? document.getElementById("find");
    if (field) { event.preventDefault(); field.focus(); }
  }
});

// A part of the page as HTML from this server, which has escaped all text in it.
async function fetchPart(address) {
  const response = await fetch(address);
  const text = await response.text();
  const part = new DOMParser().parseFromString(text, "text/html");
  return response.status === 200 ? part.body : part.querySelector("main") ?? part.body;
}

async function partsThatComeLater() {
  for (const place of document.querySelectorAll("[data-later]")) {
    try {
      place.replaceChildren(...(await fetchPart(place.dataset.later)).childNodes);
    } catch { /* the server is away: the link stays */ }
  }
}

let refreshing = false;
async function refreshLiveParts() {
  const places = document.querySelectorAll("[data-live]");
  if (refreshing || past || document.hidden || !places.length) return;
  refreshing = true;
  try {
    for (const place of places) {
      if (place.contains(document.activeElement) && document.activeElement !== document.body) continue;
      const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.parentElement.id));
      const part = await fetchPart(place.dataset.live);
      for (const one of part.querySelectorAll("details")) if (open.has(one.parentElement.id)) one.open = true;
      if (part.innerHTML !== place.innerHTML) place.replaceChildren(...part.childNodes);
    }
  } catch { /* the server is away: what is shown stays */ } finally { refreshing = false; }
}

function healthOf(data) {
  body.dataset.position = Object.entries(data.as_of).map(([p, o]) => `${p}:${o}`).join(",");
  const strip = document.getElementById("strip");
  if (strip && strip.dataset.seen !== data.strip) {
    const focused = strip.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const part = new DOMParser().parseFromString(data.strip, "text/html").body;
    strip.replaceChildren(...part.childNodes);
    strip.dataset.seen = data.strip;
    if (focused) [...strip.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused)?.focus();
  }
  const text = data.problems.length ? `${data.problems.length} problems: ${data.problems.join(", ")}` : "All is well";
  const announced = document.getElementById("announced");
  if (announced && announced.textContent !== text) announced.textContent = text;
  const output = document.getElementById("slider-text");
  const slider = document.getElementById("slider");
  if (slider && output && document.activeElement !== slider && data.as_of_ms) {
    slider.max = Math.max(Date.now(), data.as_of_ms);
    slider.value = slider.max;
    const shown = new Date(data.as_of_ms).toISOString().replace("T", " ").replace("Z", "");
    if (output.textContent.trim() !== shown) output.textContent = shown;
  }
  refreshLiveParts();
}

// What is shown may be old: say so.
function notLive(text) {
  const strip = document.getElementById("strip");
  if (!strip.dataset.seen?.startsWith("not live") && strip.contains(document.activeElement)) document.activeElement.blur();
  if (strip.dataset.seen === `not live: ${text}`) return;
  strip.dataset.seen = `not live: ${text}`;
  const list = document.createElement("ul");
  list.className = "problems";
  const item = document.createElement("li");
  item.className = "bad";
  item.append(Object.assign(document.createElement("span"), { textContent: text }));
  list.append(item);
  strip.replaceChildren(list);
  document.getElementById("announced").textContent = text;
}

timeSlider();
partsThatComeLater();
if (!past && document.getElementById("strip")) {
  subscribe("health", healthOf);
  subscribe("unreadable", () => notLive("the tables cannot be read"));
  subscribe("error", () => notLive("this page's server does not answer"));
}
