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
