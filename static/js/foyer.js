// What the pages gain from scripts. Every page works without this file.

const typing = (element) =>
  element.isContentEditable ||
  (element.matches("input, textarea, select") && !element.matches("[type=checkbox], [type=radio]"));

// Polling partials listen to this event, so that a hidden tab asks for nothing.
setInterval(() => {
  if (!document.hidden) document.body.dispatchEvent(new CustomEvent("foyer-tick"));
}, 1000);

// Messages go by themselves after a while, except what went wrong.
const TOAST_MS = 8000;

function watchToast(toast) {
  if (toast.dataset.toast === "bad" || toast.dataset.watched) return;
  toast.dataset.watched = "";
  let timer;
  const start = () => {
    clearTimeout(timer);
    timer = setTimeout(() => toast.remove(), TOAST_MS);
  };
  const stop = () => clearTimeout(timer);
  toast.addEventListener("pointerenter", stop);
  toast.addEventListener("focusin", stop);
  toast.addEventListener("pointerleave", start);
  toast.addEventListener("focusout", start);
  start();
}

function showToast(template) {
  document.getElementById("toasts").append(document.getElementById(template).content.cloneNode(true));
}

const toasts = document.getElementById("toasts");
if (toasts) {
  const watchAll = () => toasts.querySelectorAll("[data-toast]").forEach(watchToast);
  new MutationObserver(watchAll).observe(toasts, { childList: true });
  watchAll();
}

document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.getResponseHeader("HX-Redirect")) return;
  showToast(event.detail.xhr.status === 403 ? "toast-forbidden" : "toast-refused");
});
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    // A poll comes again in a second; its failure is not news.
    const trigger = event.target.getAttribute("hx-trigger") ?? "";
    if (!trigger.includes("foyer-tick")) showToast("toast-unreachable");
  });
}

// A form with data-once is sent once; only for forms that a page answers, since after a download
// nothing would release it. The page that comes back from the browser's cache may send again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!("once" in form.dataset)) return;
  if ("sent" in form.dataset) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  form.dataset.sent = "";
  event.submitter?.setAttribute("aria-busy", "true");
}, true);

function release(form) {
  delete form.dataset.sent;
  form.querySelectorAll("[aria-busy]").forEach((button) => button.removeAttribute("aria-busy"));
}

addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-sent]").forEach(release);
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.matches("form[data-sent]")) release(event.target);
});

// Selection.
const rowBoxes = (scope) => [...scope.querySelectorAll("[data-select-row]")];
let lastBox = null;

function showSelection(scope) {
  const boxes = rowBoxes(scope);
  const ticked = boxes.filter((box) => box.checked).length;
  const page = scope.querySelector("[data-select-page]");
  if (page) {
    page.checked = boxes.length > 0 && ticked === boxes.length;
    page.indeterminate = ticked > 0 && ticked < boxes.length;
  }
  const bar = scope.querySelector("[data-selection]");
  if (!bar) return;
  const count = Number(bar.dataset.elsewhere) + ticked;
  const shown = bar.querySelector("[data-selection-count]");
  if (shown.textContent !== String(count)) shown.textContent = count;
  bar.querySelector("[data-selection-over]").hidden = count <= Number(bar.dataset.limit);
}

function tick(boxes, checked) {
  for (const box of boxes) {
    if (box.checked === checked) continue;
    box.checked = checked;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

document.addEventListener("click", (event) => {
  const box = event.target.closest("[data-select-row]");
  if (!box) return;
  const boxes = rowBoxes(box.closest(".selectable") ?? document);
  const from = boxes.indexOf(lastBox);
  if (event.shiftKey && from >= 0) {
    const to = boxes.indexOf(box);
    tick(boxes.slice(Math.min(from, to), Math.max(from, to) + 1), box.checked);
  }
  lastBox = box;
});

document.addEventListener("change", (event) => {
  const scope = event.target.closest(".selectable");
  if (!scope) return;
  if (event.target.matches("[data-select-page]")) tick(rowBoxes(scope), event.target.checked);
  if (event.target.matches("[data-select-page], [data-select-row]")) showSelection(scope);
});

// Menus: one open at a time, closed by Escape, by a click elsewhere and by leaving them.
const openMenus = () => document.querySelectorAll("details[data-menu][open]");

function closeMenus(except) {
  for (const menu of openMenus()) {
    if (menu === except) continue;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  }
}

document.addEventListener("click", (event) => closeMenus(event.target.closest("details[data-menu]")));
document.addEventListener("focusin", (event) => {
  for (const menu of openMenus()) if (!menu.contains(event.target)) menu.open = false;
});

// Buttons that only scripts can serve.
function openDialog(id) {
  closeMenus();
  document.getElementById(id)?.showModal();
}

async function copy(button) {
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  const word = button.querySelector("[data-copy-word]");
  const before = word.textContent;
  button.dataset.copied = "";
  word.textContent = "Copied";
  word.setAttribute("role", "status");
  setTimeout(() => {
    delete button.dataset.copied;
    word.textContent = before;
  }, 2000);
}

function toggleBar() {
  const root = document.documentElement;
  const isWide = document.querySelector(".sidebar").offsetWidth > 100;
  root.dataset.nav = isWide ? "narrow" : "wide";
  document.cookie = `nav=${root.dataset.nav}; path=/; max-age=31536000; samesite=lax`;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("dismiss" in button.dataset) button.closest("[data-toast]").remove();
  if ("copy" in button.dataset) copy(button);
  if ("opens" in button.dataset) openDialog(button.dataset.opens);
  if ("navToggle" in button.dataset) toggleBar();
  if ("clearSelection" in button.dataset) tick(rowBoxes(button.closest(".selectable")), false);
});

// Keys.
const keysChoice = document.querySelector("[data-keys-enabled]");
if (keysChoice) {
  keysChoice.checked = localStorage.getItem("keys") !== "off";
  keysChoice.addEventListener("change", () => localStorage.setItem("keys", keysChoice.checked ? "on" : "off"));
}

const keys = {
  "/": () => {
    const field = document.querySelector("[data-search]");
    field?.focus();
    field?.select();
    return Boolean(field);
  },
  "?": () => {
    openDialog("keys");
    return true;
  },
  x: () => {
    const box = document.activeElement.closest("[data-row]")?.querySelector("[data-select-row]");
    box?.click();
    return Boolean(box);
  },
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    closeMenus();
    return;
  }
  const enabled = keysChoice?.checked ?? true;
  if (!enabled || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  if (Object.hasOwn(keys, event.key) && keys[event.key]()) event.preventDefault();
});

// A new page or a new fragment: counts as they stand, and the errors in focus.
function settle(root) {
  root.querySelectorAll(".selectable").forEach(showSelection);
  root.closest?.(".selectable") && showSelection(root.closest(".selectable"));
  root.querySelector("[data-focus]")?.focus();
}

settle(document);
document.addEventListener("htmx:load", (event) => settle(event.target));
addEventListener("pageshow", (event) => event.persisted && settle(document));
