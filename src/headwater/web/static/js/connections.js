// The Connections page: rates from the counters that the server tells every moment, and rows that come and go.

import { formatCount, renderTime, setTime } from "./format.js";

const POLL_MS = 2000;
const FIRST_POLL_MS = 500;
const LONGEST_WAIT_MS = 30000;
// Long enough that a device which sends every few seconds does not seem to stop in between.
const WINDOW_S = 10;
// How long a row stays after its connection has ended.
const GONE_MS = 10000;
const UNITS = ["B", "kB", "MB", "GB", "TB"];

// As `size_of` on the server.
function formatBytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)}\u00a0${UNITS[unit]}`;
}

function formatRate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "< 0.1";
  return perSecond < 100 ? perSecond.toFixed(1) : formatCount(Math.round(perSecond));
}

// Counters of one connection, or of all, over the last seconds.
class Samples {
  constructor() {
    this.samples = [];
  }

  add(atS, counters) {
    this.samples.push({ atS, counters });
    while (this.samples.length > 2 && this.samples[1].atS <= atS - WINDOW_S) this.samples.shift();
  }

  perSecond(name) {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (last.atS <= first.atS) return null;
    // Counters that have gone back belong to a server that was started anew.
    return Math.max(0, last.counters[name] - first.counters[name]) / (last.atS - first.atS);
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function showRates(element, samples) {
  for (const cell of element.querySelectorAll("[data-rate]")) {
    const direction = cell.dataset.rate;
    const messages = samples.perSecond(`messages_${direction}`);
    if (messages === null) continue;
    const bytes = samples.perSecond(`bytes_${direction}`);
    setText(cell, `${formatRate(messages)}/s · ${formatBytes(bytes)}/s`);
    cell.classList.toggle("is-idle", messages === 0 && bytes === 0);
  }
}

class Row {
  constructor(element) {
    this.element = element;
    this.samples = new Samples();
    this.goneAtMs = 0;
  }

  show(atS, counters) {
    this.samples.add(atS, counters);
    showRates(this.element, this.samples);
    for (const cell of this.element.querySelectorAll("[data-count]")) {
      setText(cell, formatCount(counters[cell.dataset.count]));
    }
    for (const cell of this.element.querySelectorAll("[data-messages]")) {
      const count = counters[cell.dataset.messages];
      setText(cell, `${formatCount(count)} ${count === 1 ? "message" : "messages"}`);
    }
    for (const cell of this.element.querySelectorAll("[data-bytes]")) {
      setText(cell, formatBytes(counters[cell.dataset.bytes]));
    }
    setTime(this.element.querySelector("small time"), counters.active_at_s);
    this.showDropped(counters.dropped);
  }

  showDropped(dropped) {
    const element = this.element.querySelector("[data-dropped]");
    const lines = Object.entries(dropped).map(([limit, number]) => `${formatCount(number)} dropped: ${limit}`);
    element.hidden = lines.length === 0;
    element.replaceChildren(...lines.flatMap((line, index) => (index ? [document.createElement("br"), line] : [line])));
  }

  showGone() {
    this.goneAtMs = Date.now();
    this.element.classList.add("is-gone");
    for (const cell of this.element.querySelectorAll("[data-rate]")) setText(cell, "–");
    const gone = document.createElement("span");
    gone.className = "badge";
    gone.textContent = "Gone";
    this.element.querySelector("form")?.replaceWith(gone);
  }
}

class ConnectionsView {
  constructor(summary, table) {
    this.summary = summary;
    this.body = table.tBodies[0];
    this.most = Number(table.dataset.most);
    this.query = new URLSearchParams(table.dataset.query);
    this.server = table.dataset.server;
    this.state = table.dataset.state;
    this.total = Number(table.dataset.total);
    this.totals = new Samples();
    // By number; those that are gone are not among them.
    this.rows = new Map([...this.body.rows].map((element) => [element.dataset.connection, new Row(element)]));
    this.gone = new Set();
    this.waitMs = POLL_MS;
    this.timer = 0;
  }

  start() {
    document.addEventListener("visibilitychange", () => this.pollSoon());
    this.pollSoon();
  }

  pollSoon() {
    if (document.hidden) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), FIRST_POLL_MS);
  }

  async poll() {
    this.timer = 0;
    if (document.hidden) return; // goes on when somebody looks again
    const query = new URLSearchParams(this.query);
    query.set("numbers", [...this.rows.keys()].join(","));
    query.set("state", this.state);
    try {
      const response = await fetch(`/connections/data?${query}`);
      if (response.status === 401) {
        this.showState("is-off", "Signed out");
        return;
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      this.show(await response.json());
      this.showState("is-live", "Live");
      this.waitMs = POLL_MS;
    } catch (error) {
      // The server is away or being restarted: what is shown stays, and the page asks again less often.
      this.showState("is-waiting", "Waiting for the server");
      this.waitMs = Math.min(this.waitMs * 2, LONGEST_WAIT_MS);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), this.waitMs);
  }

  show({ at_s: atS, counters, clients, server, state, list }) {
    const isSameServer = server === this.server;
    if (!isSameServer) this.totals = new Samples();
    this.totals.add(atS, counters);
    showRates(this.summary, this.totals);
    for (const cell of this.summary.querySelectorAll("[data-total]")) {
      setText(cell, formatCount(counters[cell.dataset.total]));
    }
    for (const [number, row] of [...this.rows]) {
      if (isSameServer && clients[number]) row.show(atS, clients[number]);
      else this.part(number, row);
    }
    // A server that was started anew gives the old numbers to others: the next answer has all its rows.
    this.state = isSameServer ? state : "";
    this.server = server;
    if (list && isSameServer) this.showList(list);
    this.removeGone();
    this.showParts();
  }

  part(number, row) {
    row.showGone();
    this.rows.delete(number);
    this.gone.add(row);
  }

  // Rows that are shown stay where they are, so that nothing moves under a hand; new ones go where the order has them.
  showList({ total, numbers, rows, pager }) {
    this.total = total;
    const template = document.createElement("template");
    template.innerHTML = rows;
    const fresh = new Map([...template.content.children].map((element) => [element.dataset.connection, element]));
    let after = null;
    let more = 0;
    for (const number of numbers.map(String)) {
      if (!this.rows.has(number)) {
        const element = fresh.get(number);
        if (!element || this.rows.size >= this.most) {
          more += 1;
          continue;
        }
        this.body.insertBefore(element, after ? after.nextSibling : this.body.firstChild);
        for (const time of element.querySelectorAll("time[data-time]")) renderTime(time);
        this.rows.set(number, new Row(element));
      }
      after = this.rows.get(number).element;
    }
    const line = document.querySelector("[data-more]");
    line.hidden = more === 0;
    setText(line.querySelector("a"), `${formatCount(more)}${more === this.most ? " or more" : " more"}: Show`);
    const pages = document.querySelector("[data-pager]");
    if (!pages.contains(document.activeElement)) pages.innerHTML = pager;
  }

  removeGone() {
    for (const row of this.gone) {
      if (Date.now() - row.goneAtMs < GONE_MS || row.element.contains(document.activeElement)) continue;
      row.element.remove();
      this.gone.delete(row);
    }
  }

  showParts() {
    const nothing = this.total ? "unmatched" : "nothing";
    const state = this.body.rows.length ? "listed" : nothing;
    for (const part of document.querySelectorAll("[data-shown-when]")) {
      const states = part.dataset.shownWhen.split(" ");
      part.hidden = !states.includes(state) && !states.includes("always");
    }
  }

  showState(name, text) {
    const element = document.querySelector("[data-live-state]");
    element.classList.remove("is-live", "is-waiting", "is-off");
    element.classList.add(name);
    setText(element.querySelector("[data-live-text]"), text);
  }
}

const filters = document.querySelector("[data-filters]");

if (filters) {
  for (const select of filters.querySelectorAll("select")) {
    select.addEventListener("change", () => filters.requestSubmit());
  }
  // Short addresses: what says nothing stays out.
  filters.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) {
      if (value === "" || (name === "sort" && value === "newest")) event.formData.delete(name);
    }
  });
}

new ConnectionsView(document.querySelector("[data-summary]"), document.querySelector("[data-connections]")).start();
