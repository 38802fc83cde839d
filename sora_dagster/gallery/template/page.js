// Events of the page, the URL and the drawing of the clips.

let filters = parseFilters(location.hash);
let shown = [];

const form = byId("filters");

let layoutSize = "";

const windowSize = () => `${byId("canvas").clientWidth} ${innerHeight}`;

function relayout() {
  layoutSize = windowSize();
  const width = byId("canvas").clientWidth;
  const layout = filters.view === "families" ? familiesLayout(shown, width) : gridLayout(shown, width);
  canvas.show(layout, filters.view);
  showEmptyMessage(layout);
}

function apply() {
  shown = matchingEntries(filters);
  showTotals(shown);
  for (const name of [...filterNames, "sort"]) {
    const field = form.elements[name];
    if (name === "failed") field.checked = filters.failed !== "";
    else if (field.value !== filters[name]) show(field, filters[name]);
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", button.dataset.view === filters.view);
  }
  byId("clear").hidden = !isFiltered(filters);
  const hidden = filterNames.filter((name) => name !== "text" && filters[name] !== "").length;
  byId("more").textContent = hidden ? `Filters (${hidden})` : "Filters";
  relayout();
}

// The URL may contain a tag or model that no clip has any more: then it becomes an option.
function show(field, value) {
  field.value = value;
  if (field.value === value || field.tagName !== "SELECT") return;
  field.append(element("option", "", value));
  field.value = value;
}

function showEmptyMessage(layout) {
  byId("empty").hidden = layout.items.length > 0;
  byId("empty-clear").hidden = !isFiltered(filters);
  const [title, text] = !entries.length
    ? ["No clips yet", "Clips appear here after they are stored and the gallery is refreshed."]
    : !shown.length
      ? ["No matching clips", "Try fewer words, another tag or other dates."]
      : ["No remixes", "Remixes are shown here, each with its parent."];
  byId("empty-title").textContent = title;
  byId("empty-text").textContent = text;
}

function updateAddress(clipId, { adds = false, state = null } = {}) {
  const method = adds ? "pushState" : "replaceState";
  history[method](state, "", formatHash(filters, clipId));
}

function change(changes) {
  filters = { ...filters, ...changes };
  updateAddress(player.entry?.id, { state: history.state });
  apply();
}

const clear = () => change(Object.fromEntries(filterNames.map((name) => [name, ""])));

// Opening the dialog adds an entry to the history, so that Back closes it.
function open(entry, { plays = true } = {}) {
  const wasOpen = player.entry !== null;
  if (wasOpen) updateAddress(entry.id, { state: history.state });
  else updateAddress(entry.id, { adds: true, state: { opened: true } });
  player.open(entry, { plays });
}

function close() {
  const { entry } = player;
  player.close();
  if (entry === null) return;
  if (history.state?.opened) history.back();
  else updateAddress(null);
  canvas.focus(canvas.itemOf.has(entry) ? entry : canvas.current);
}

function applyAddress() {
  const wanted = parseFilters(location.hash);
  if (formatHash(wanted) !== formatHash(filters)) {
    filters = wanted;
    apply();
  }
  const entry = entryById.get(parseClip(location.hash) ?? "");
  if (entry && player.entry !== entry) player.open(entry, { plays: false });
  else if (!entry && player.entry) close();
}

function neighbour(step) {
  const members = canvas.layout.items;
  const place = canvas.itemOf.get(player.entry);
  return place === undefined ? members[0]?.entry : members[place + step]?.entry;
}

function openNeighbour(step) {
  const entry = neighbour(step);
  if (entry) open(entry);
}

async function copyLink() {
  const link = location.href.replace(/#.*$/, "") + formatHash(defaultFilters, player.entry.id);
  try {
    await navigator.clipboard.writeText(link);
    byId("copied").textContent = "Copied";
  } catch {
    // No clipboard on a page served over plain HTTP: the link can be copied by hand.
    byId("link-field").hidden = false;
    byId("link").value = link;
    byId("link").select();
  }
}

function formFilters() {
  const values = [...filterNames, "sort"].map((name) => [name, form.elements[name].value]);
  return { ...Object.fromEntries(values), failed: form.elements.failed.checked ? "yes" : "" };
}

let typing = 0;
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => change(formFilters()), event.target.name === "text" ? 120 : 0);
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
  const entry = canvas.neighbourOf(entryById.get(id), event.key);
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
    // Not `close`, which goes back in the history and would undo the filter.
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
    openNeighbour(event.key === "ArrowRight" ? 1 : -1);
  } else if (event.key === " " && !event.target.closest("button") && player.entry.videos.length) {
    event.preventDefault();
    if (player.video.paused) player.video.play().catch(() => {});
    else player.video.pause();
  }
});
player.video.addEventListener("error", () => {
  if (player.video.hasAttribute("src")) player.setNote("This video could not be loaded.");
});
byId("previous").addEventListener("click", () => openNeighbour(-1));
byId("next").addEventListener("click", () => openNeighbour(1));
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
  if (windowSize() !== layoutSize) relayout();
}).observe(byId("clips"));

addEventListener("popstate", applyAddress);

fillOptions("tag", entries.flatMap((entry) => entry.tags), "Any tag");
fillOptions("model", entries.map((entry) => entry.model), "Any model");
byId("as-of").textContent = `As of ${formatTime(page.generatedAt)}`;
apply();
applyAddress();
