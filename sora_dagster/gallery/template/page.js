// Ties it together: what people do, the address, and what is drawn.

let filters = filtersOf(location.hash);
let shown = [];

const form = byId("filters");

let drawnSize = "";

const windowSize = () => `${byId("canvas").clientWidth} ${innerHeight}`;

function relayout() {
  drawnSize = windowSize();
  const width = byId("canvas").clientWidth;
  const layout = filters.view === "families" ? familiesLayout(shown, width) : gridLayout(shown, width);
  canvas.show(layout, filters.view);
  showEmptiness(layout);
}

function apply() {
  shown = filtered(filters);
  showTotals(shown);
  for (const name of [...narrowing, "sort"]) {
    const field = form.elements[name];
    if (name === "failed") field.checked = filters.failed !== "";
    else if (field.value !== filters[name]) show(field, filters[name]);
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", button.dataset.view === filters.view);
  }
  byId("clear").hidden = !isNarrowed(filters);
  const hidden = narrowing.filter((name) => name !== "text" && filters[name] !== "").length;
  byId("more").textContent = hidden ? `Filters (${hidden})` : "Filters";
  relayout();
}

// A link may ask for a tag or model that no clip has any more: then the choice says so.
function show(field, value) {
  field.value = value;
  if (field.value === value || field.tagName !== "SELECT") return;
  field.append(element("option", "", value));
  field.value = value;
}

function showEmptiness(layout) {
  byId("empty").hidden = layout.items.length > 0;
  byId("empty-clear").hidden = !isNarrowed(filters);
  const [title, text] = !entries.length
    ? ["No clips yet", "The first one appears here when it is stored and the gallery is made again."]
    : !shown.length
      ? ["No clip matches", "Try fewer words, another tag, or other dates."]
      : ["No remixes here", "A clip that was made from another is drawn here, with its parent."];
  byId("empty-title").textContent = title;
  byId("empty-text").textContent = text;
}

function sayInAddress(clipId, { adds = false, state = null } = {}) {
  const method = adds ? "pushState" : "replaceState";
  history[method](state, "", hashOf(filters, clipId));
}

function change(changes) {
  filters = { ...filters, ...changes };
  sayInAddress(player.entry?.id, { state: history.state });
  apply();
}

const clear = () => change(Object.fromEntries(narrowing.map((name) => [name, ""])));

// The first clip that is opened adds an entry to the history, so that Back closes the dialog.
function open(entry, { plays = true } = {}) {
  const wasOpen = player.entry !== null;
  if (wasOpen) sayInAddress(entry.id, { state: history.state });
  else sayInAddress(entry.id, { adds: true, state: { opened: true } });
  player.open(entry, { plays });
}

function close() {
  const { entry } = player;
  player.close();
  if (entry === null) return;
  if (history.state?.opened) history.back();
  else sayInAddress(null);
  canvas.focus(canvas.itemOf.has(entry) ? entry : canvas.current);
}

function followAddress() {
  const asked = filtersOf(location.hash);
  if (hashOf(asked) !== hashOf(filters)) {
    filters = asked;
    apply();
  }
  const entry = entryById.get(clipOf(location.hash) ?? "");
  if (entry && player.entry !== entry) player.open(entry, { plays: false });
  else if (!entry && player.entry) close();
}

function neighbour(step) {
  const members = canvas.layout.items;
  const place = canvas.itemOf.get(player.entry);
  return place === undefined ? members[0]?.entry : members[place + step]?.entry;
}

function turnTo(step) {
  const entry = neighbour(step);
  if (entry) open(entry);
}

async function copyLink() {
  const link = location.href.replace(/#.*$/, "") + hashOf(unfiltered, player.entry.id);
  try {
    await navigator.clipboard.writeText(link);
    byId("copied").textContent = "Copied";
  } catch {
    // No clipboard on a page that came over plain HTTP: then the link can be copied by hand.
    byId("link-field").hidden = false;
    byId("link").value = link;
    byId("link").select();
  }
}

function chosen() {
  const values = [...narrowing, "sort"].map((name) => [name, form.elements[name].value]);
  return { ...Object.fromEntries(values), failed: form.elements.failed.checked ? "yes" : "" };
}

let typing = 0;
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => change(chosen()), event.target.name === "text" ? 120 : 0);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("click", (event) => {
  const view = event.target.closest("[data-view]")?.dataset.view;
  if (view) change({ view });
});
for (const id of ["clear", "empty-clear"]) {
  byId(id).addEventListener("click", () => {
    clear();
    form.elements.text.focus();
  });
}
byId("more").addEventListener("click", () => {
  const isOpen = form.classList.toggle("open");
  byId("more").setAttribute("aria-expanded", isOpen);
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  if (canvas.current) canvas.focus(canvas.current);
  else byId("clips").focus();
});

byId("cards").addEventListener("click", (event) => {
  const id = event.target.closest(".clip")?.dataset.id;
  if (id === undefined) return;
  canvas.current = entryById.get(id);
  open(canvas.current);
});
byId("cards").addEventListener("keydown", (event) => {
  const id = event.target.closest(".clip")?.dataset.id;
  const isMove = event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End";
  if (id === undefined || !isMove || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const entry = canvas.beyond(entryById.get(id), event.key);
  if (entry) canvas.focus(entry);
});
byId("cards").addEventListener("focusin", (event) => {
  const id = event.target.closest(".clip")?.dataset.id;
  if (id !== undefined) canvas.current = entryById.get(id);
});

player.dialog.addEventListener("close", close);
player.dialog.addEventListener("click", (event) => {
  const tag = event.target.closest("[data-tag]")?.dataset.tag;
  const id = event.target.closest(".relative")?.dataset.id;
  if (event.target === player.dialog) close();
  else if (tag !== undefined) {
    // Not `close`: its step back in the history would undo the filter.
    player.close();
    history.replaceState(null, "", location.href);
    change({ tag });
    canvas.focus(canvas.current);
  } else if (id !== undefined) open(entryById.get(id));
});
player.dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("video, input, a")) return;
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    event.preventDefault();
    turnTo(event.key === "ArrowRight" ? 1 : -1);
  } else if (event.key === " " && !event.target.closest("button") && player.entry.videos.length) {
    event.preventDefault();
    if (player.video.paused) player.video.play().catch(() => {});
    else player.video.pause();
  }
});
player.video.addEventListener("error", () => {
  if (player.video.hasAttribute("src")) player.note("This video could not be loaded here.");
});
byId("previous").addEventListener("click", () => turnTo(-1));
byId("next").addEventListener("click", () => turnTo(1));
byId("close").addEventListener("click", close);
byId("copy").addEventListener("click", copyLink);

let isDrawing = false;
addEventListener("scroll", () => {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    canvas.draw();
  });
}, { passive: true });

new ResizeObserver(() => {
  if (windowSize() !== drawnSize) relayout();
}).observe(byId("clips"));

addEventListener("popstate", followAddress);

optionsOf("tag", entries.flatMap((entry) => entry.tags), "Any tag");
optionsOf("model", entries.map((entry) => entry.model), "Any model");
byId("as-of").textContent = `As of ${timeOf(page.generated)}`;
apply();
followAddress();
