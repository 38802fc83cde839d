// What is shown: the filters, their place in the address, and the totals.

const unfiltered = { view: "grid", text: "", tag: "", model: "", from: "", to: "", failed: "", sort: "newest" };
const narrowing = ["text", "tag", "model", "from", "to", "failed"];

const isNarrowed = (filters) => narrowing.some((name) => filters[name] !== "");

function filtersOf(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const filters = { ...unfiltered };
  for (const name of Object.keys(filters)) if (asked.get(name)) filters[name] = asked.get(name);
  for (const day of ["from", "to"]) if (!/^\d{4}-\d\d-\d\d$/.test(filters[day])) filters[day] = "";
  if (filters.view !== "families") filters.view = "grid";
  if (filters.failed) filters.failed = "yes";
  if (filters.sort !== "cost") filters.sort = "newest";
  return filters;
}

const clipOf = (hash) => new URLSearchParams(hash.replace(/^#/, "")).get("clip");

function hashOf(filters, clipId) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(filters)) {
    if (value !== unfiltered[name]) said.set(name, value);
  }
  if (clipId) said.set("clip", clipId);
  return `#${said}`;
}

function searchedText(entry) {
  entry.searched ??= [entry.title, entry.id, entry.partition ?? "", entry.prompt].join("\n").toLowerCase();
  return entry.searched;
}

function filtered(filters) {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = entries.filter((entry) => {
    const day = entry.created.slice(0, 10);
    return (
      (!filters.tag || entry.tags.includes(filters.tag)) &&
      (!filters.model || entry.model === filters.model) &&
      (!filters.from || day >= filters.from) &&
      (!filters.to || day <= filters.to) &&
      (!filters.failed || entry.state === "failed") &&
      words.every((word) => searchedText(entry).includes(word))
    );
  });
  const newest = (a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : a.index - b.index);
  return found.sort(filters.sort === "cost" ? (a, b) => b.cost - a.cost || newest(a, b) : newest);
}

function showTotals(shown) {
  let cost = 0;
  let wasted = 0;
  for (const entry of shown) {
    if (entry.state === "failed") wasted += entry.cost;
    else cost += entry.cost;
  }
  const isAll = shown.length === entries.length;
  const part = (figure, all) => (isAll ? all : `${figure} of ${all}`);
  const { totals } = page;
  byId("total-clips").textContent = part(counted.format(shown.length), counted.format(totals.clips));
  byId("total-cost").textContent = part(inCents(cost, shown), inCents(totals.cost, entries));
  byId("total-wasted").textContent = part(inCents(wasted, []), inCents(totals.wasted, []));
  byId("wasted").hidden = totals.wasted === 0;
  byId("result").textContent = isAll
    ? countOf(totals.clips, "clip")
    : `${counted.format(shown.length)} of ${countOf(totals.clips, "clip")}`;
}

const cents = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });

const inCents = (usd, summed) =>
  (summed.some((entry) => entry.costIsEstimate) ? "≈ " : "") + cents.format(usd);

function optionsOf(name, values, all) {
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
