// Sends the file in parts and shows how far everything is. Without it, the page is a form that works.
"use strict";

const PART = 4 * 1024 * 1024;
const here = location.pathname;
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u2009");
const size = (bytes) => bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.round(bytes / 1e3)} kB`;
const left = (seconds) => seconds < 90 ? `${Math.max(1, Math.round(seconds))} s left` : `${Math.round(seconds / 60)} minutes left`;

function meter(begun, from) {
  return (done, all) => {
    const passed = (performance.now() - begun) / 1000, rate = (done - from) / passed;
    return passed > 1 && rate > 0 ? `, ${size(rate)} a second, ${left((all - done) / rate)}` : "";
  };
}

async function send(form, file) {
  const bar = document.createElement("progress"), says = document.createElement("p"), stop = document.createElement("button");
  bar.max = file.size;
  bar.setAttribute("aria-label", "How much was sent");
  says.setAttribute("role", "status");
  stop.type = "button";
  stop.className = "plain";
  stop.textContent = "Cancel";
  stop.addEventListener("click", () => cancel());
  form.replaceChildren(bar, says, stop);
  const same = form.dataset.name === file.name && Number(form.dataset.size) === file.size;
  let at = same ? Number(form.dataset.received) : 0, pause = 1;
  const rest = meter(performance.now(), at);
  const query = (offset) => new URLSearchParams({ offset, size: file.size, name: file.name });
  for (;;) {
    bar.value = at;
    says.textContent = `${size(at)} of ${size(file.size)} sent${rest(at, file.size)}`;
    try {
      const answer = await fetch(`${here}/file?${query(at)}`, { method: "PUT", body: file.slice(at, at + PART) });
      if (answer.status === 409 || answer.ok) {
        const told = await answer.json();
        if (told.state !== "awaited") break;
        if (answer.status === 409 && told.received === at) { says.textContent = told.says; return; }
        at = told.received;
        pause = 1;
        continue;
      }
      if (answer.status < 500 && answer.status !== 408 && answer.status !== 429) break;
    } catch { /* the line broke: it goes on below */ }
    says.textContent = `${size(at)} of ${size(file.size)} sent. The line is broken; trying again in ${pause} s.`;
    await wait(pause);
    pause = Math.min(pause * 2, 30);
    try { at = (await (await fetch(`${here}/progress`)).json()).received; } catch { /* still broken */ }
  }
  location.replace(here);
}

async function cancel() {
  await fetch(`${here}/cancel`, { method: "POST" });
  location.replace(here);
}

async function watch(box) {
  const bar = box.querySelector("progress"), says = box.querySelector("p");
  let rest = null;
  for (;;) {
    await wait(1);
    let told;
    try { told = await (await fetch(`${here}/progress`)).json(); } catch { continue; }
    if (told.state !== box.dataset.state) break;
    rest ??= meter(performance.now(), told.done);
    bar.max = told.size;
    bar.value = told.done;
    says.textContent = `${size(told.done)} of ${size(told.size)}, ${number(told.records)} records${rest(told.done, told.size)}`;
  }
  location.replace(here);
}

for (const part of document.querySelectorAll("[data-import]")) {
  if (part.dataset.import === "watch") watch(part);
  if (part.dataset.import === "cancel") part.addEventListener("submit", (event) => { event.preventDefault(); cancel(); });
  if (part.dataset.import === "send") {
    const input = part.querySelector("input");
    part.addEventListener("submit", (event) => { event.preventDefault(); send(part, input.files[0]); });
    for (const kind of ["dragenter", "dragover"]) {
      part.addEventListener(kind, (event) => { event.preventDefault(); part.classList.add("over"); });
    }
    part.addEventListener("dragleave", () => part.classList.remove("over"));
    part.addEventListener("drop", (event) => {
      event.preventDefault();
      part.classList.remove("over");
      if (event.dataTransfer.files.length) send(part, event.dataTransfer.files[0]);
    });
  }
}
