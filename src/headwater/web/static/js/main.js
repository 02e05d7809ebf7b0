// What every page has: times in the reader's zone, copy buttons, the colour scheme, confirmations.

import { renderTime } from "./format.js";

const CLOCK_MS = 5000;
const COPIED_MS = 1600;

function renderTimes() {
  for (const element of document.querySelectorAll("time[data-time]")) renderTime(element);
}

// -- copying ---------------------------------------------------------------------------------------------------

async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Plain HTTP on a local network: browsers offer only the old way.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  (document.querySelector("dialog[open]") || document.body).append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("the browser refused to copy");
}

function announce(text) {
  document.getElementById("announcer").textContent = text;
}

async function handleCopy(button) {
  const source = button.dataset.copyFrom ? document.getElementById(button.dataset.copyFrom) : null;
  const text = source ? (source.value ?? source.textContent) : button.dataset.copy;
  const use = button.querySelector("use");
  try {
    await copyText(text);
    button.classList.add("is-done");
    use?.setAttribute("href", "/static/icons.svg#check");
    announce("Copied");
  } catch (error) {
    if (source) getSelection().selectAllChildren(source);
    announce("Could not copy; the text is selected");
  }
  setTimeout(() => {
    button.classList.remove("is-done");
    use?.setAttribute("href", "/static/icons.svg#copy");
  }, COPIED_MS);
}

function handleDownload(button) {
  const text = document.getElementById(button.dataset.downloadFrom).textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = button.dataset.fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// -- colour scheme ---------------------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];

function currentTheme() {
  return document.documentElement.dataset.theme || "system";
}

function labelTheme() {
  for (const label of document.querySelectorAll("[data-theme-label]")) {
    label.textContent = currentTheme()[0].toUpperCase() + currentTheme().slice(1);
  }
}

function switchTheme() {
  const next = THEMES[(THEMES.indexOf(currentTheme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("headwater-theme");
    else localStorage.setItem("headwater-theme", next);
  } catch (error) {
    announce("This browser does not let the choice be remembered");
  }
  labelTheme();
  announce(`Colour scheme: ${next}`);
  document.dispatchEvent(new Event("headwater:theme"));
}

// -- confirmations ---------------------------------------------------------------------------------------------

function askBefore(form, submitter) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("[data-confirm-text]").textContent = form.dataset.confirm;
  dialog.querySelector("[data-confirm-yes]").textContent = submitter?.textContent.trim() || "Continue";
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue === "yes") {
      form.dataset.isConfirmed = "yes";
      form.requestSubmit(submitter);
    }
  };
  dialog.showModal();
}

function guardTyped(input) {
  const button = document.getElementById(input.dataset.unlocks);
  const update = () => {
    button.disabled = input.value.trim() !== input.dataset.expected;
  };
  input.addEventListener("input", update);
  update();
}

// -- wiring ----------------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy !== undefined || button.dataset.copyFrom) handleCopy(button);
  else if (button.dataset.downloadFrom) handleDownload(button);
  else if (button.hasAttribute("data-switch-theme")) switchTheme();
  else if (button.hasAttribute("data-dismiss")) button.closest("[data-dismissible]").remove();
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.confirm && form.dataset.isConfirmed !== "yes") {
    event.preventDefault();
    askBefore(form, event.submitter);
  }
});

for (const input of document.querySelectorAll("[data-unlocks]")) guardTyped(input);

for (const select of document.querySelectorAll("[data-browser-zone]")) {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const option = select.querySelector("option[data-is-browser]");
  if (name && option) option.textContent = `This browser’s zone (${name.replaceAll("_", " ")})`;
}

// The page shows something once only: reloading must not send its form again.
const once = document.querySelector("[data-replace-url]");
if (once) history.replaceState(null, "", once.dataset.replaceUrl);

// On a phone a channel has more tabs than fit: the one that is open must be seen.
document.querySelector(".tabs .is-here")?.scrollIntoView({ block: "nearest", inline: "center" });

document.querySelector("[aria-invalid='true']")?.focus();

labelTheme();
renderTimes();
setInterval(renderTimes, CLOCK_MS);
