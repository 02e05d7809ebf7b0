// One field's chart: columns in, a drawn line out. Knows uPlot, not where data comes from.

import { formatNumber, formatTime, timeZone } from "./format.js";

const HEIGHT = 220;
const MINUTE = 60;
const DAY = 86400;
const SMALLEST_DRAG_PX = 6;
const LINE_PX = 1.75;
const TICK_SPACE_PX = 72;
const FINE_TICK_SPACE_PX = 96; // room for milliseconds
const FINE_RANGE_S = 20;

// Smallest tick distance, text, then what is added at the first tick of a new year, month, day, hour, minute, second.
const TICKS = [
  [DAY * 365, "{YYYY}", null, null, null, null, null, null, 1],
  [DAY * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [DAY, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [MINUTE, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [0.001, "{HH}:{mm}:{ss}.{fff}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
];

function tickSpace(_plot, _axis, min, max) {
  return max - min < FINE_RANGE_S ? FINE_TICK_SPACE_PX : TICK_SPACE_PX;
}

function numberOf(text) {
  const number = text === undefined || String(text).trim() === "" ? NaN : Number(text);
  return Number.isFinite(number) ? number : null;
}

function isColumns(options) {
  return options.type === "column" || options.type === "bar";
}

function pathsOf(options) {
  if (options.step) return uPlot.paths.stepped({ align: 1 });
  if (options.type === "spline") return uPlot.paths.spline();
  return isColumns(options) ? uPlot.paths.bars({ size: [0.7, 40] }) : uPlot.paths.linear();
}

// Dark or light ink, whichever can be read on a background like "#ffffff" or "#fff".
function inkOn(background) {
  const digits = background.length === 4 ? [...background.slice(1)].map((digit) => digit + digit).join("") : background.slice(1);
  const [red, green, blue] = [0, 2, 4].map((place) => parseInt(digits.slice(place, place + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#111111" : "#f2f2f2";
}

function applyColours(article, options) {
  if (options.color) article.style.setProperty("--series", options.color);
  if (!options.bgcolor) return;
  const ink = inkOn(options.bgcolor);
  for (const name of ["--surface", "--on-accent"]) article.style.setProperty(name, options.bgcolor);
  for (const name of ["--ink", "--accent", "--accent-hover"]) article.style.setProperty(name, ink);
  for (const [name, share] of [["--ink-soft", 85], ["--muted", 75], ["--line", 18], ["--grid", 10], ["--inset", 6], ["--line-strong", 55], ["--accent-soft", 12]]) {
    article.style.setProperty(name, `color-mix(in srgb, ${ink} ${share}%, ${options.bgcolor})`);
  }
}

export class FieldChart {
  // `group` has zoomTo(min, max), zoomOut() and range(chart) -> [min, max], shared by all charts of the page.
  // `options` are the parameters of a chart's address that its owner chose; `unit` stands behind every value.
  constructor(element, cursorText, group, options = {}, unit = "") {
    this.element = element;
    this.cursorText = cursorText;
    this.group = group;
    this.options = options;
    this.isOwn = false; // shows other data than the charts beside it
    applyColours(element.closest("article"), options);
    this.unit = unit && `\u00a0${unit}`;
    this.times = [];
    this.numbers = [];
    this.plot = null;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(element);
  }

  setColumns(times, numbers) {
    this.times = times;
    this.numbers = numbers;
  }

  // Adds a reading in its place by time; keeps at most `limit`. `isChange`: in place of the one of that time, if any.
  add(time, number, limit, isChange) {
    let place = this.times.length;
    while (place > 0 && this.times[place - 1] > time) place -= 1;
    if (isChange && this.times[place - 1] === time) {
      this.numbers[place - 1] = number;
      return;
    }
    this.times.splice(place, 0, time);
    this.numbers.splice(place, 0, number);
    const surplus = this.times.length - limit;
    if (surplus > 0) {
      this.times.splice(0, surplus);
      this.numbers.splice(0, surplus);
    }
  }

  hasNumbers() {
    return this.numbers.some((number) => number !== null);
  }

  draw() {
    if (!this.hasNumbers()) {
      this.destroy();
      return;
    }
    if (this.plot === null) this.build();
    const [min, max] = this.group.range(this);
    this.plot.batch(() => {
      this.plot.setData([this.times, this.numbers], false);
      this.plot.setScale("x", { min, max });
    });
  }

  destroy() {
    this.plot?.destroy();
    this.plot = null;
  }

  // Colours are read when a chart is built, so a new colour scheme needs a new chart.
  rebuild() {
    this.destroy();
    this.draw();
  }

  resize() {
    const width = this.element.clientWidth;
    if (this.plot !== null && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  build() {
    const style = getComputedStyle(this.element);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--muted"),
      font: `11px ${style.fontFamily}`,
      labelFont: `11px ${style.fontFamily}`,
      ticks: { stroke: colour("--line"), width: 1, size: 5 },
      grid: { stroke: colour("--grid"), width: 1 },
    };
    const line = colour("--series");
    const options = {
      width: this.element.clientWidth,
      height: HEIGHT,
      padding: [10, 10, 0, 0],
      legend: { show: false },
      tzDate: (seconds) => (timeZone ? uPlot.tzDate(new Date(seconds * 1000), timeZone) : new Date(seconds * 1000)),
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 8, width: 2, stroke: line, fill: colour("--surface") },
        bind: { dblclick: () => () => (this.group.zoomOut(), null) },
        sync: {
          key: "headwater-channel",
          scales: ["x", null],
          filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
        },
      },
      scales: {
        x: { time: true },
        y: { range: (_plot, min, max) => this.valueRange(min, max) },
      },
      axes: [
        { ...axis, values: TICKS, space: tickSpace, size: 40 },
        {
          ...axis,
          size: 56,
          space: 36,
          values: (_plot, splits) => splits.map((split) => (split === null ? "" : formatNumber(split))),
        },
      ],
      series: [
        {},
        {
          stroke: line,
          width: LINE_PX,
          fill: isColumns(this.options) ? line : colour("--series-soft"),
          paths: pathsOf(this.options),
          points: isColumns(this.options) ? { show: false } : { size: 5, width: 0, fill: line },
        },
      ],
      hooks: {
        setCursor: [(plot) => this.showCursor(plot.cursor.idx)],
        setSelect: [(plot) => this.zoomToSelection(plot)],
      },
    };
    this.plot = new uPlot(options, [this.times, this.numbers], this.element);
  }

  valueRange(min, max) {
    const [low, high] = min === null ? [0, 1] : uPlot.rangeNum(isColumns(this.options) ? Math.min(min, 0) : min, max, 0.12, true);
    const [from, to] = [numberOf(this.options.yaxismin) ?? low, numberOf(this.options.yaxismax) ?? high];
    return from < to ? [from, to] : [from, from + 1];
  }

  // A reading with the decimals that were chosen; null where none were, or where it is no number.
  round(text) {
    const [number, decimals] = [numberOf(text), numberOf(this.options.round)];
    return number === null || decimals === null ? null : number.toFixed(decimals);
  }

  showCursor(index) {
    const number = index === null || index === undefined ? undefined : this.numbers[index];
    this.cursorText.textContent =
      number === undefined ? "" : `${number === null ? "not a number" : formatNumber(number) + this.unit} · ${formatTime(this.times[index])}`;
  }

  zoomToSelection(plot) {
    const { left, width } = plot.select;
    if (width < SMALLEST_DRAG_PX) return;
    const min = plot.posToVal(left, "x");
    const max = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.group.zoomTo(min, max);
  }
}
