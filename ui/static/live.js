// One stream of events for the page: several modules may listen to it.
let source = null;

export function subscribe(event, listener) {
  if (source === null) {
    const shown = document.body.dataset.class ?? "";
    source = new EventSource(`/events?class=${encodeURIComponent(shown)}`);
    addEventListener("pagehide", () => source.close());
  }
  source.addEventListener(event, (message) => listener(JSON.parse(message.data)));
}
