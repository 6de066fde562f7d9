// What Tenant Registration gains from scripts: it is saved and checked while one types, an error is shown
// once its field is left, and nothing typed is lost with the page. It works without this file.

const form = document.getElementById("wizard");

if (form) {
  let unsaved = false;
  let saving = null;
  let waiting = null;

  const isStale = () => document.querySelector("[data-stale]") !== null;

  // The form's own first fault is in focus already; from then on each field is checked as it is left.
  const fieldOf = (element) => element.closest?.(".field-live");
  let last = null;

  function showFaults() {
    for (const field of form.querySelectorAll(".field-live")) {
      const input = field.querySelector("input, select, textarea");
      const isWrong = "left" in field.dataset && field.querySelector(".error").textContent.trim() !== "";
      if (isWrong) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
  }

  form.addEventListener("focusin", (event) => {
    // Not when a button takes the focus: what appears above it would move it from under the pointer.
    if (event.target.matches("button")) return;
    const field = fieldOf(event.target);
    if (last && last !== field) {
      last.dataset.left = "";
      showFaults();
    }
    last = field;
  });

  // A fragment that says what is there already is not put in, so that it is not read out again.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    if (!target.matches(".error, .confirmation, #wizard-domain")) return;
    const words = (element) => element.textContent.replace(/\s+/g, " ").trim();
    if (words(target) === words(fragment)) event.detail.shouldSwap = false;
  });

  form.addEventListener("input", () => {
    unsaved = true;
  });
  form.addEventListener("change", () => {
    unsaved = true;
  });

  form.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target !== form) return;
    if (isStale() || "sent" in form.dataset) {
      event.preventDefault();
      return;
    }
    saving = event.detail.xhr;
    unsaved = false;
  });

  form.addEventListener("htmx:afterRequest", (event) => {
    if (event.target !== form || event.detail.xhr !== saving) return;
    if (!event.detail.successful) unsaved = true;
    saving = null;
    showFaults();
    if (waiting) {
      const button = waiting;
      waiting = null;
      form.requestSubmit(button);
    }
  });

  // A button waits for a saving that is under way: the form is sent with the draft's newest version. This
  // listener comes before the one that lets a form be sent only once.
  addEventListener("submit", (event) => {
    if (event.target !== form) return;
    if (saving) {
      event.preventDefault();
      event.stopImmediatePropagation();
      waiting = event.submitter;
      return;
    }
    unsaved = false;
  }, true);

  // Whoever leaves keeps what the pause after the last key had no time to save. A link waits for it, since
  // the page it leads to may show the draft; a reload or the back button only lets it go first.
  async function save() {
    unsaved = false;
    const body = new URLSearchParams(new FormData(form));
    const options = { method: "POST", body, keepalive: true, headers: { "HX-Request": "true" } };
    await fetch(form.getAttribute("hx-post"), options).catch(() => undefined);
  }

  const mustSave = () => unsaved && !isStale();

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[href]");
    const isPlain = !event.defaultPrevented && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (!link || !isPlain || link.target || link.getAttribute("href").startsWith("#")) return;
    if (!mustSave() && !saving) return;
    event.preventDefault();
    while (saving) await new Promise((resolve) => form.addEventListener("htmx:afterRequest", resolve, { once: true }));
    if (mustSave()) await Promise.race([save(), new Promise((resolve) => setTimeout(resolve, 5000))]);
    location.assign(link.href);
  });

  // A page that is loaded again may be made before that saving arrives: it takes over what was typed here.
  const JUST_NOW_MS = 10_000;

  for (const name of ["beforeunload", "pagehide"]) {
    addEventListener(name, () => {
      if (!mustSave()) return;
      const typed = [...form.querySelectorAll("input:not([type=hidden], [type=password], [type=radio], [type=checkbox])")];
      const values = typed.map((field) => [field.id, field.value]);
      sessionStorage.setItem("wizard", JSON.stringify({ at: Date.now(), url: form.action, values }));
      save();
    });
  }

  const left = JSON.parse(sessionStorage.getItem("wizard") ?? "null");
  sessionStorage.removeItem("wizard");
  if (left?.url === form.action && Date.now() - left.at < JUST_NOW_MS && !isStale()) {
    const late = left.values.filter(([id, value]) => id && document.getElementById(id)?.value !== value);
    for (const [id, value] of late) {
      const field = document.getElementById(id);
      if (!field) continue;
      field.value = value;
      unsaved = true;
    }
    if (unsaved) addEventListener("load", () => form.dispatchEvent(new Event("input")), { once: true });
  }

  // What the browser kept of a page is older than the draft.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-fills]");
    if (!button) return;
    const input = document.getElementById(button.dataset.fills);
    event.preventDefault();
    input.value = button.value;
    input.focus();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });

  // A refused form answers with the tab that has to be mended, which has an address of its own.
  if (form.dataset.address) history.replaceState(null, "", form.dataset.address);
}
