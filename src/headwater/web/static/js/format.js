// Times and numbers for people. Knows no page.

const zone = document.documentElement.dataset.timeZone || undefined;

function formatter(options) {
  try {
    return new Intl.DateTimeFormat(undefined, { ...options, timeZone: zone });
  } catch (error) {
    // The server knows a zone this browser does not: fall back to the browser's own.
    return new Intl.DateTimeFormat(undefined, options);
  }
}

const full = formatter({
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const clock = formatter({
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
  timeZoneName: "short",
});
const day = formatter({ day: "numeric", month: "short", year: "numeric" });
const six = new Intl.NumberFormat("en", { maximumSignificantDigits: 6, useGrouping: false });
const whole = new Intl.NumberFormat("en");

export const timeZone = zone;

export function formatTime(seconds) {
  return full.format(new Date(seconds * 1000));
}

export function formatNumber(number) {
  const size = Math.abs(number);
  if (size !== 0 && (size >= 1e9 || size < 1e-4)) return number.toExponential(3).replace("-", "−");
  return six.format(number).replace("-", "−");
}

// What a device sent, as it sent it, unless it is a number too long to read at a glance.
export function formatReading(text, number) {
  return number !== null && text.length > 9 ? formatNumber(number) : text;
}

export function formatCount(number) {
  return whole.format(number).replaceAll(",", "\u202f");
}

export function ago(seconds, nowSeconds = Date.now() / 1000) {
  const age = nowSeconds - seconds;
  if (age < -60) return formatTime(seconds);
  if (age < 2) return "now";
  if (age < 60) return `${Math.floor(age)} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  if (age < 86400 * 14) return `${Math.floor(age / 86400)} d ago`;
  return day.format(new Date(seconds * 1000));
}

// <time datetime="…" data-time="ago|day|clock|full"> in the reader's own zone; the exact time stands in the title.
export function renderTime(element) {
  const seconds = Date.parse(element.dateTime) / 1000;
  if (Number.isNaN(seconds)) return;
  const style = element.dataset.time;
  element.title = formatTime(seconds);
  const fixed = { day, clock, full }[style];
  const text = fixed ? fixed.format(new Date(seconds * 1000)) : ago(seconds);
  if (element.textContent !== text) element.textContent = text;
}

export function setTime(element, seconds) {
  element.dateTime = new Date(seconds * 1000).toISOString();
  renderTime(element);
}
