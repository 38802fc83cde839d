// The data of the page, and the format of its figures.

const page = JSON.parse(document.getElementById("data").textContent);

const entries = page.entries.map((fields, index) => ({
  tags: [], videos: [], checksFailed: [], costUsd: 0, ...fields, index, children: [],
  costIsUnknown: fields.costUsd === undefined,
}));
for (const entry of entries) {
  entry.parent = entry.parent === undefined ? null : entries[entry.parent];
  if (entry.parent) entry.parent.children.push(entry);
}
const entryById = new Map(entries.map((entry) => [entry.id, entry]));

const dollars = new Intl.NumberFormat("en-US", {
  style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 4,
});
const integers = new Intl.NumberFormat("en-US");

const formatCount = (count, noun) => `${integers.format(count)} ${noun}${count === 1 ? "" : "s"}`;

const formatCost = (entry) =>
  entry.costIsUnknown ? "cost unknown" : (entry.costIsEstimate ? "≈ " : "") + dollars.format(entry.costUsd);

const formatDuration = (seconds) => `${Math.round(seconds * 10) / 10} s`;

const aspectOf = (entry) =>
  entry.width > 0 && entry.height > 0 ? entry.width / entry.height : 16 / 9;

const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

function formatTime(timestamp) {
  const [year, month, day] = timestamp.slice(0, 10).split("-").map(Number);
  return `${day} ${months[month - 1]} ${year}, ${timestamp.slice(11, 16)} UTC`;
}

function formatGenerationTime(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${Math.round(seconds - 60 * minutes)} s`;
}

function problemsOf(entry) {
  const problems = [];
  if (entry.state === "failed") problems.push("Failed");
  if (entry.state === "partial") problems.push("Partial");
  if (entry.checksFailed.length) problems.push(`${formatCount(entry.checksFailed.length, "check")} failed`);
  if (entry.removed) problems.push("Removed");
  return problems;
}

// Text is inserted as text: no data is ever parsed as HTML.
function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

const byId = (id) => document.getElementById(id);
