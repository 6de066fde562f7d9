// What lists gain from scripts: after a swap the focus is where it was, or as near as can be, and the
// search field says what is searched. Lists work without this file.

let openedFrom = "";

document.addEventListener("htmx:beforeRequest", (event) => {
  openedFrom = event.target.closest?.("details.menu")?.querySelector("summary").id ?? "";
});

document.addEventListener("htmx:afterSettle", (event) => {
  const region = event.target;
  if (!region.matches?.(".region")) return;
  if (document.activeElement === document.body) {
    (document.getElementById(openedFrom) ?? region).focus({ preventScroll: true });
  }
  const search = document.querySelector("[data-search]");
  if (search && "searched" in region.dataset && document.activeElement !== search) {
    search.value = region.dataset.searched;
  }
});

// An answer about rows that are about to go would find them no more.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (!event.detail.target.matches(".region")) return;
  for (const news of document.querySelectorAll(".list-news")) htmx.trigger(news, "htmx:abort");
});

// A tick is saved a moment after it was made. Whoever leaves before the answer keeps it, too: a request
// under way may be dropped with its page, so it is sent once more, and saving twice is saving once.
let unsaved = null;

document.addEventListener("change", (event) => {
  const rows = event.target.closest?.(".selectable tbody[hx-post]");
  if (rows) unsaved = { form: rows.closest("form"), url: rows.getAttribute("hx-post") };
});

document.addEventListener("htmx:beforeSend", (event) => {
  if (unsaved && event.target.closest?.(".selectable")) unsaved.sentBy = event.detail.xhr;
});

document.addEventListener("htmx:afterOnLoad", (event) => {
  if (unsaved?.sentBy === event.detail.xhr) unsaved = null;
});

document.addEventListener("submit", () => {
  unsaved = null;
});

window.addEventListener("pagehide", () => {
  if (!unsaved) return;
  const body = new URLSearchParams(new FormData(unsaved.form));
  fetch(unsaved.url, { method: "POST", body, keepalive: true, headers: { "HX-Request": "true" } });
  unsaved = null;
});
