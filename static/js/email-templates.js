// What the editor of e-mail templates gains from scripts: the frame shows what is typed, and a click puts
// a placeholder where the cursor is. The editor works without this file.

const form = document.getElementById("editor");

// A frame of its own for each state: a new one adds nothing to the browser's history, and what it holds
// comes as the answer to a form, because it is long.
function showMail() {
  const old = form.querySelector("[data-frame]");
  const frame = old.cloneNode();
  old.replaceWith(frame);
  const sender = document.createElement("form");
  Object.assign(sender, { method: "post", action: frame.dataset.frame, target: frame.name, hidden: true });
  sender.enctype = "multipart/form-data";
  for (const [name, value] of new FormData(form)) {
    const field = document.createElement("textarea");
    field.name = name;
    field.value = value;
    sender.append(field);
  }
  document.body.append(sender);
  sender.submit();
  sender.remove();
}

if (form) {
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "template-check") showMail();
  });

  let field = form.querySelector("[data-placeholders]");
  form.addEventListener("focusin", (event) => {
    if (event.target.matches("[data-placeholders]")) field = event.target;
  });

  // What is put in this way can be undone with the browser's own Undo.
  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-insert]");
    if (!button) return;
    field.closest("details")?.setAttribute("open", "");
    field.focus();
    const text = button.dataset.insert;
    if (!document.execCommand("insertText", false, text)) {
      field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  });

  // The preview follows the language that is being written.
  form.addEventListener("focusin", (event) => {
    const language = event.target.getAttribute("lang");
    const choice = document.getElementById("language");
    if (!language || choice.value === language) return;
    choice.value = language;
    choice.dispatchEvent(new Event("change", { bubbles: true }));
  });
}
