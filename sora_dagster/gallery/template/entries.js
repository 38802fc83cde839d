// The data of the page, and how its figures read.

const page = JSON.parse(document.getElementById("data").textContent);

const entries = page.entries.map((fields, index) => ({
  tags: [], videos: [], checks: [], cost: 0, ...fields, index, children: [],
}));
for (const entry of entries) {
  entry.parent = entry.parent === undefined ? null : entries[entry.parent];
  if (entry.parent) entry.parent.children.push(entry);
}
const entryById = new Map(entries.map((entry) => [entry.id, entry]));

const dollars = new Intl.NumberFormat("en-US", {
  style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 4,
});
const counted = new Intl.NumberFormat("en-US");

const countOf = (count, noun) => `${counted.format(count)} ${noun}${count === 1 ? "" : "s"}`;

const costOf = (entry) => (entry.costIsEstimate ? "≈ " : "") + dollars.format(entry.cost);

const lengthOf = (seconds) => `${Math.round(seconds * 10) / 10} s`;

const aspectOf = (entry) =>
  entry.width > 0 && entry.height > 0 ? entry.width / entry.height : 16 / 9;

const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

function timeOf(timestamp) {
  const [year, month, day] = timestamp.slice(0, 10).split("-").map(Number);
  return `${day} ${months[month - 1]} ${year}, ${timestamp.slice(11, 16)} UTC`;
}

function spanOf(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${Math.round(seconds - 60 * minutes)} s`;
}

function troublesOf(entry) {
  const troubles = [];
  if (entry.state === "failed") troubles.push("Failed");
  if (entry.state === "partial") troubles.push("Partial");
  if (entry.checks.length) troubles.push(`${countOf(entry.checks.length, "check")} failed`);
  return troubles;
}

// Text goes in as text: nothing of the data is ever read as HTML.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const byId = (id) => document.getElementById(id);
