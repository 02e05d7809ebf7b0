// The live stream of one channel. Knows connections, not charts.

const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 30000;

export class LiveStream {
  // handlers: onOpen() when entries begin to flow, not when a broken stream goes on; onEntry(entry);
  // onResync() when entries are missing; onRefused() when the server answers with an error; onState("connecting" | "live" | "waiting" | "ended")
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.source = null;
    this.timer = 0;
    this.waitMs = FIRST_WAIT_MS;
  }

  open() {
    this.close();
    this.handlers.onState("connecting");
    const source = new EventSource(this.url);
    this.source = source;
    let isFirst = true;
    source.onopen = () => {
      this.waitMs = FIRST_WAIT_MS;
      this.handlers.onState("live");
      if (isFirst) this.handlers.onOpen();
      isFirst = false;
    };
    source.addEventListener("entry", (event) => this.handlers.onEntry(JSON.parse(event.data)));
    source.addEventListener("resync", () => this.handlers.onResync());
    source.addEventListener("end", () => {
      this.close();
      this.handlers.onState("ended");
    });
    source.onerror = () => {
      this.handlers.onState("waiting");
      // The browser comes back by itself after a broken connection, but not after an error status.
      if (source.readyState === EventSource.CLOSED) this.handlers.onRefused();
    };
  }

  retryLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), this.waitMs);
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}
