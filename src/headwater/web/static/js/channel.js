// A channel's page: opens the live stream, loads the newest entries, draws a chart for each field, and keeps up.

import { FieldChart } from "./field_chart.js";
import { formatCount, formatReading, setTime } from "./format.js";
import { LiveStream } from "./live.js";

const SEEN_LIMIT = 20000;
const RELOAD_WAIT_MS = 1000;
const OWN_WAIT_MS = 5000; // between loads for charts that the server makes
const ALONE_S = 60; // room on both sides of a single reading

const STATES = {
  connecting: ["is-waiting", "Connecting"],
  live: ["is-live", "Live"],
  waiting: ["is-waiting", "Reconnecting"],
  ended: ["is-off", "Ended"],
};

function markOf(entryId, atS) {
  return `${entryId} ${atS}`;
}

class ChannelView {
  constructor(root) {
    this.root = root;
    this.limit = Number(root.dataset.results);
    this.lastEntryId = 0; // what the channel counts
    this.newestId = 0; // the greatest that is on the charts
    this.newestAt = -Infinity;
    this.loadTimer = 0;
    this.seen = new Set();
    this.waiting = [];
    this.zoom = null;
    this.frame = 0;
    this.loading = null;
    this.cards = new Map();
    for (const element of root.querySelectorAll("[data-field]")) {
      const chart = new FieldChart(
        element.querySelector("[data-plot]"),
        element.querySelector("[data-cursor]"),
        this,
        JSON.parse(element.dataset.options ?? "{}"),
        element.dataset.unit ?? "",
      );
      this.cards.set(element.dataset.field, {
        chart,
        element,
        reading: element.querySelector("[data-last-value]"),
        time: element.querySelector("time"),
        note: element.querySelector("[data-note]"),
        lastAt: -Infinity,
      });
    }
    this.stream = new LiveStream(root.dataset.liveUrl, {
      onOpen: () => this.load(),
      onEntry: (entry) => this.takeEntry(entry),
      onResync: () => this.loadSoon(),
      onRefused: () => this.load(),
      onState: (state) => this.showState(state),
    });
  }

  start() {
    this.stream.open();
  }

  // -- loading and following -----------------------------------------------------------------------------------

  // For a channel that is faster than this browser: loads again, but not all the time.
  loadSoon(waitMs = RELOAD_WAIT_MS) {
    if (this.loading || this.loadTimer) return;
    this.loadTimer = setTimeout(() => {
      this.loadTimer = 0;
      this.load();
    }, waitMs);
  }

  // One load at a time; the newest wish wins. Entries that arrive meanwhile wait for it.
  async load() {
    const ticket = {};
    this.loading = ticket;
    this.root.setAttribute("aria-busy", "true");
    let data = null;
    try {
      const response = await fetch(`${this.root.dataset.dataUrl}?results=${this.limit}`, {
        headers: { Accept: "application/json" },
      });
      if (response.status === 401 || response.status === 404) {
        this.stream.close();
        this.showState("ended", response.status === 401 ? "Signed out" : "Channel deleted");
        return;
      }
      if (response.ok) data = await response.json();
    } catch (error) {
      data = null; // no connection: told by the state, and tried again
    }
    if (this.loading !== ticket) return;
    this.loading = null;
    this.root.removeAttribute("aria-busy");
    const waiting = this.waiting.splice(0);
    if (data === null) {
      this.stream.close();
      this.showState("waiting");
      this.stream.retryLater();
      return;
    }
    this.show(data);
    for (const entry of waiting) this.addEntry(entry);
    if (this.stream.source === null || this.stream.source.readyState === EventSource.CLOSED) this.stream.retryLater();
  }

  show(data) {
    this.lastEntryId = data.last_entry_id;
    this.newestId = Math.max(0, ...data.entry_ids);
    this.newestAt = data.at_s.at(-1) ?? -Infinity;
    this.seen = new Set(data.entry_ids.map((id, index) => markOf(id, data.at_s[index])));
    for (const [number, card] of this.cards) {
      const columns = data.fields[number] ?? { at_s: [], numbers: [], last: null };
      card.chart.setColumns(columns.at_s, columns.numbers);
      card.chart.isOwn = columns.is_own === true;
      card.lastAt = -Infinity;
      const lastNumber = card.chart.isOwn ? null : columns.numbers.at(-1);
      if (columns.last) this.showReading(card, columns.last.text, lastNumber, columns.last.at_s);
      else this.clearReading(card);
    }
    this.showCount(data.at_s.at(-1));
    this.draw();
  }

  takeEntry(entry) {
    if (this.loading) this.waiting.push(entry);
    else this.addEntry(entry);
  }

  addEntry(entry) {
    const mark = markOf(entry.entry_id, entry.at_s);
    const isChange = this.seen.has(mark); // it comes twice, or something was merged into it
    if (!isChange && entry.entry_id <= this.newestId) {
      // A new time with an old number: the channel was cleared and counts from 1 again. Otherwise it came late and is
      // older than what is shown.
      if (entry.at_s > this.newestAt) this.loadSoon();
      return;
    }
    if (this.seen.size >= SEEN_LIMIT) this.seen.clear();
    this.seen.add(mark);
    this.newestId = Math.max(this.newestId, entry.entry_id);
    this.newestAt = Math.max(this.newestAt, entry.at_s);
    this.lastEntryId = Math.max(this.lastEntryId, entry.entry_id);
    for (const [number, field] of Object.entries(entry.fields)) {
      const card = this.cards.get(number);
      if (!card) continue;
      if (card.chart.isOwn) this.loadSoon(OWN_WAIT_MS);
      else card.chart.add(entry.at_s, field.number, this.limit, isChange);
      if (entry.at_s >= card.lastAt) this.showReading(card, field.text, field.number, entry.at_s);
    }
    this.showCount(entry.at_s);
    this.drawSoon();
  }

  // -- what the charts share -----------------------------------------------------------------------------------

  // One range for all, but for charts that show data of their own.
  range(asking) {
    if (this.zoom) return this.zoom;
    let [min, max] = [Infinity, -Infinity];
    for (const { chart } of this.cards.values()) {
      if (chart.times.length === 0 || (asking.isOwn ? chart !== asking : chart.isOwn)) continue;
      min = Math.min(min, chart.times[0]);
      max = Math.max(max, chart.times.at(-1));
    }
    return min < max ? [min, max] : [min - ALONE_S, max + ALONE_S];
  }

  zoomTo(min, max) {
    this.zoom = [min, max];
    this.draw();
  }

  zoomOut() {
    this.zoom = null;
    this.draw();
  }

  setLimit(limit) {
    this.limit = limit;
    this.zoom = null;
    this.load();
  }

  // -- showing -------------------------------------------------------------------------------------------------

  drawSoon() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    for (const card of this.cards.values()) {
      card.chart.draw();
      const hasEntries = card.chart.times.length > 0;
      card.note.hidden = card.chart.hasNumbers();
      card.element.classList.toggle("is-empty", !card.chart.hasNumbers());
      card.note.textContent = hasEntries ? "Texts only: no numbers to draw." : "No entries yet.";
    }
    document.querySelector("[data-zoom-out]").hidden = this.zoom === null;
    document.querySelector("[data-zoom-hint]").hidden = ![...this.cards.values()].some((card) => card.chart.hasNumbers());
  }

  rebuild() {
    for (const { chart } of this.cards.values()) chart.rebuild();
  }

  showReading(card, text, number, atS) {
    card.lastAt = atS;
    const reading = card.chart.round(text) ?? (formatReading(text, number) || "(empty)");
    card.reading.textContent = reading;
    card.reading.title = text;
    card.reading.classList.toggle("is-long", reading.length > 9);
    card.reading.classList.toggle("is-text", typeof number !== "number"); // of which the unit says nothing
    setTime(card.time, atS);
    card.time.hidden = false;
  }

  clearReading(card) {
    card.reading.textContent = "–";
    card.reading.classList.add("is-text");
    card.time.hidden = true;
  }

  showCount(atS) {
    document.querySelector("[data-entry-count]").textContent = formatCount(this.lastEntryId);
    const times = [...this.cards.values()].map((card) => card.lastAt);
    const last = Math.max(atS ?? -Infinity, ...times);
    const element = document.querySelector("[data-last-entry]");
    if (Number.isFinite(last)) setTime(element, last);
    document.querySelector("[data-first-steps]")?.toggleAttribute("hidden", this.lastEntryId > 0);
  }

  showState(state, text) {
    const [name, label] = STATES[state];
    const element = document.querySelector("[data-live-state]");
    element.classList.remove("is-live", "is-waiting", "is-off");
    element.classList.add(name);
    element.querySelector("[data-live-text]").textContent = text ?? label;
  }
}

const root = document.querySelector("[data-channel]");

if (root) {
  const view = new ChannelView(root);
  for (const button of document.querySelectorAll("[data-results-choice]")) {
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll("[data-results-choice]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      view.setLimit(Number(button.dataset.resultsChoice));
    });
  }
  document.querySelector("[data-zoom-out]").addEventListener("click", () => view.zoomOut());
  document.addEventListener("headwater:theme", () => view.rebuild());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.rebuild());
  view.start();
}
