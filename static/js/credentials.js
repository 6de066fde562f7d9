// The page that shows a secret once: whoever comes back to it or loads it again gets the page of
// the credential, which says so, and not a question about sending a form twice.

const { shownOnce } = document.querySelector("[data-shown-once]").dataset;

history.replaceState(null, "", shownOnce);
addEventListener("pageshow", (event) => {
  if (event.persisted) location.replace(shownOnce);
});
