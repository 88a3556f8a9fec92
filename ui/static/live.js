// One stream of events for the page: several modules may listen to it. A page that is not seen has none: a browser keeps only
// some connections to one host, and many pages may be open.
let source = null;
let greeted = false;
const listeners = [];

function listen([event, listener]) {
  source.addEventListener(event, (message) => {
    if (message.data !== undefined) listener(JSON.parse(message.data));
    else listener(null); // an error of the connection
  });
}

function open() {
  if (source !== null || document.hidden || !listeners.length) return;
  const shown = new URLSearchParams({ class: document.body.dataset.class ?? "", group: document.body.dataset.group ?? "" });
  source = new EventSource(`/events?${shown}`);
  source.addEventListener("hello", () => { greeted = true; });
  listeners.forEach(listen);
}

function close() {
  source?.close();
  source = null;
  greeted = false;
}

addEventListener("pagehide", close);
addEventListener("pageshow", open);
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));

export function subscribe(event, listener) {
  listeners.push([event, listener]);
  if (source === null) open();
  else listen([event, listener]);
  if (event === "hello" && greeted) listener({});
}
