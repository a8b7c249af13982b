// Keyboard shortcuts for a page: reports a key to Python unless the reader is typing or working a widget with it.

const TYPING = new Set(["INPUT", "TEXTAREA", "SELECT"]);
const OWN_ARROWS = '[role="slider"], [role="tab"], [role="radio"], [role="listbox"], [role="menu"], .noUi-handle, [contenteditable]';

function isTyping(event) {
  // Panel's widgets live in shadow roots: the element that has the focus is the first of the composed path.
  const element = event.composedPath()[0];
  if (!(element instanceof Element)) return false;
  if (TYPING.has(element.tagName)) return true;
  if (element.closest(OWN_ARROWS)) return true;
  return (element.tagName === "BUTTON" || element.tagName === "A") && (event.key === "Enter" || event.key === " ");
}

export function render({ model }) {
  const listen = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    if (!model.active || !model.keys.includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    model.send_msg({ key: event.key, shift: event.shiftKey });
  };
  document.addEventListener("keydown", listen, true); // before the viewer's canvas takes the key
  model.on("remove", () => document.removeEventListener("keydown", listen, true));
  const element = document.createElement("span");
  element.hidden = true;
  return element;
}
