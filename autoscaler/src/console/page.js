// Renews the page: only what changed is replaced, so that focus, selection and open parts stay.
"use strict";
{
  const PERIOD_MS = 15000;
  const PARTS = ["top", "main"];

  const merge = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.adoptNode(fresh));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    attributes(old, fresh);
    children(old, fresh);
  };

  const attributes = (old, fresh) => {
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // The reader opened it.
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
  };

  // Children with an id are matched by it, the others by their place.
  const children = (old, fresh) => {
    const named = new Map();
    for (const child of old.children) if (child.id) named.set(child.id, child);
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const known = child.id ? named.get(child.id) : null;
      if (known && known !== place) old.insertBefore(known, place);
      const match = known ?? (place && !(place.id && fresh.ownerDocument.getElementById(place.id)) ? place : null);
      if (!match) {
        old.insertBefore(document.adoptNode(child), place);
        continue;
      }
      place = match.nextSibling;
      merge(match, child);
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  };

  const lost = (text) => {
    const line = document.getElementById("lost");
    if (line.textContent !== text) line.textContent = text;
  };

  const renew = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!PARTS.every((id) => page.getElementById(id))) throw new Error(answer.statusText);
      if (document.title !== page.title) document.title = page.title;
      for (const id of PARTS) merge(document.getElementById(id), page.getElementById(id));
      lost("");
    } catch {
      lost("The controller does not answer: what is shown is not renewed.");
    }
  };

  setInterval(renew, PERIOD_MS);
  document.addEventListener("visibilitychange", renew);
  // For tests, and for the impatient.
  document.addEventListener("renew", renew);
}
