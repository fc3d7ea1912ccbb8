"use strict";

// Follow a load: at each of its events the page is asked for again, and its parts that change are replaced.
const progress = document.querySelector("[data-events]");
if (progress) {
  const events = new EventSource(progress.dataset.events);
  let asking = false;
  let again = false;
  const refresh = async () => {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    try {
      do {
        again = false;
        const response = await fetch(location.href);
        if (!response.ok) break;
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const next = fresh.getElementById(part.id);
          // A screen reader announces what is replaced, so parts that are the same stay.
          if (next && next.innerHTML !== part.innerHTML) part.replaceChildren(...next.childNodes);
        }
      } while (again);
    } finally {
      asking = false;
    }
  };
  events.addEventListener("job", (event) => {
    if (JSON.parse(event.data).status !== "running") events.close();
    refresh();
  });
  // Closed by an answer that is no stream, such as too many requests, or a token that has expired.
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
}

// Files that are dropped on the form are sent as if they had been chosen.
const drop = document.getElementById("drop");
if (drop) {
  const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  drop.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.elements.file.files = event.dataTransfer.files;
    drop.requestSubmit();
  });
  drop.addEventListener("submit", () => {
    drop.querySelector("button").textContent = "Uploading…";
  });
}
