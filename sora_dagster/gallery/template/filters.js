// Filters, their form in the URL, and the totals.

const defaultFilters = { view: "grid", text: "", tag: "", model: "", from: "", to: "", failed: "", sort: "newest" };
const filterNames = ["text", "tag", "model", "from", "to", "failed"];

const isFiltered = (filters) => filterNames.some((name) => filters[name] !== "");

function parseFilters(hash) {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  const filters = { ...defaultFilters };
  for (const name of Object.keys(filters)) if (parameters.get(name)) filters[name] = parameters.get(name);
  for (const day of ["from", "to"]) if (!/^\d{4}-\d\d-\d\d$/.test(filters[day])) filters[day] = "";
  if (filters.view !== "families") filters.view = "grid";
  if (filters.failed) filters.failed = "yes";
  if (filters.sort !== "cost") filters.sort = "newest";
  return filters;
}

const parseClip = (hash) => new URLSearchParams(hash.replace(/^#/, "")).get("clip");

function formatHash(filters, clipId) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) {
    if (value !== defaultFilters[name]) parameters.set(name, value);
  }
  if (clipId) parameters.set("clip", clipId);
  return `#${parameters}`;
}

function searchedText(entry) {
  entry.searched ??= [entry.title, entry.id, entry.partition ?? "", entry.prompt, entry.removed ? "removed" : ""].join("\n").toLowerCase();
  return entry.searched;
}

function matchingEntries(filters) {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = entries.filter((entry) => {
    const day = entry.createdAt.slice(0, 10);
    return (
      (!filters.tag || entry.tags.includes(filters.tag)) &&
      (!filters.model || entry.model === filters.model) &&
      (!filters.from || day >= filters.from) &&
      (!filters.to || day <= filters.to) &&
      (!filters.failed || entry.state === "failed") &&
      words.every((word) => searchedText(entry).includes(word))
    );
  });
  const newest = (a, b) => (a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : a.index - b.index);
  return found.sort(filters.sort === "cost" ? (a, b) => b.costUsd - a.costUsd || newest(a, b) : newest);
}

function showTotals(shown) {
  let cost = 0;
  let wasted = 0;
  for (const entry of shown) {
    if (entry.state === "failed") wasted += entry.costUsd;
    else cost += entry.costUsd;
  }
  const isAll = shown.length === entries.length;
  const part = (figure, all) => (isAll ? all : `${figure} of ${all}`);
  const { totals } = page;
  byId("total-clips").textContent = part(integers.format(shown.length), integers.format(totals.clips));
  byId("total-cost").textContent = part(formatTotal(cost, shown), formatTotal(totals.costUsd, entries));
  const isUnknownWaste = (entry) => entry.state === "failed" && entry.costIsUnknown;
  const unknown = entries.filter(isUnknownWaste);
  byId("total-wasted").textContent = part(
    formatTotal(wasted, shown.filter(isUnknownWaste)), formatTotal(totals.wastedUsd, unknown));
  byId("wasted").hidden = totals.wastedUsd === 0 && unknown.length === 0;
  byId("result").textContent = isAll
    ? formatCount(totals.clips, "clip")
    : `${integers.format(shown.length)} of ${formatCount(totals.clips, "clip")}`;
}

const cents = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });

function formatTotal(usd, summed) {
  if (summed.some((entry) => entry.costIsUnknown)) return "≥ " + cents.format(usd);
  return (summed.some((entry) => entry.costIsEstimate) ? "≈ " : "") + cents.format(usd);
}

function fillOptions(name, values, all) {
  const select = byId("filters").elements[name];
  const sorted = [...new Set(values)].sort((a, b) => a.localeCompare(b));
  select.replaceChildren(
    ...["", ...sorted].map((value) => {
      const option = element("option", "", value || all);
      option.value = value;
      return option;
    }),
  );
}
