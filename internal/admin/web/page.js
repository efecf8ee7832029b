// Keeps the page up to date: the server sends the part that changes as HTML, and what is other than
// before is changed in place, so that focus, selection and what is unfolded stay as they are.
"use strict";

const place = document.getElementById("status");
const lost = document.getElementById("lost");

// Two nodes stand for the same thing if they are of one kind, and have the same id.
function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function follow(now, next) {
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.nodeValue !== next.nodeValue) now.nodeValue = next.nodeValue;
    return;
  }
  for (const a of next.attributes) {
    if (now.getAttribute(a.name) !== a.value) now.setAttribute(a.name, a.value);
  }
  for (const a of [...now.attributes]) {
    const unfolded = now.nodeName === "DETAILS" && a.name === "open";
    if (!next.hasAttribute(a.name) && !unfolded) now.removeAttribute(a.name);
  }
  followChildren(now, next);
}

function followChildren(now, next) {
  let at = now.firstChild;
  for (const child of [...next.childNodes]) {
    let found = at;
    while (found && !same(found, child)) found = child.id ? found.nextSibling : null;
    if (!found) {
      now.insertBefore(child, at);
      continue;
    }
    while (at !== found) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    follow(found, child);
    at = found.nextSibling;
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

const source = new EventSource("events");
source.addEventListener("open", () => { lost.hidden = true; });
source.addEventListener("error", () => {
  lost.hidden = false;
  // A browser gives up for good where the answer is no stream: too many pages are looked at.
  if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 30000);
});
source.addEventListener("status", (event) => {
  const next = new DOMParser().parseFromString("<main>" + event.data + "</main>", "text/html").querySelector("main");
  const focused = document.activeElement;
  const around = []; // the ids of what the focus is in, from the inside to the outside
  for (let e = focused; e && place.contains(e); e = e.parentElement) if (e.id) around.push(e.id);
  followChildren(place, next);
  // The control that had the focus is gone: whoever uses the keyboard goes on at what it was in.
  if (!focused.isConnected) around.map((id) => document.getElementById(id)).find((e) => e?.hasAttribute("tabindex"))?.focus({ preventScroll: true });
  document.title = document.getElementById("state").dataset.title;
});
