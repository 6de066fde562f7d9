// What the command window gains from scripts: an example joins what stands there, an error leads to
// its characters in the window, and Ctrl+Enter submits. The window works without this file.

const field = document.getElementById("text");

// What is typed this way can be undone with the browser's own Undo.
function type(text) {
  field.focus();
  const end = field.value.length;
  field.setSelectionRange(end, end);
  const gap = field.value && !field.value.endsWith("\n") ? "\n" : "";
  if (!document.execCommand("insertText", false, gap + text)) field.setRangeText(gap + text, end, end, "end");
}

// Lines break as the commands' language breaks them; columns count characters, not code units.
function find(line, column, length) {
  const breaks = /\r\n|[\n\r\x85\u2028\u2029]/g;
  let start = 0;
  for (let number = 1; number < line; number += 1) {
    if (!breaks.exec(field.value)) return null;
    start = breaks.lastIndex;
  }
  const width = (text, count) => [...text].slice(0, count).join("").length;
  const rest = field.value.slice(start);
  const from = start + width(rest, column - 1);
  return [from, from + width(field.value.slice(from), length)];
}

document.addEventListener("click", (event) => {
  if (!field || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const example = event.target.closest("[data-example]");
  const place = event.target.closest("[data-place]");
  if (example) {
    event.preventDefault();
    type(example.dataset.example);
  } else if (place) {
    const range = find(...place.dataset.place.split(" ").map(Number));
    if (!range) return;
    event.preventDefault();
    field.focus();
    field.setSelectionRange(...range);
  }
});

field?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) field.form.requestSubmit();
});
