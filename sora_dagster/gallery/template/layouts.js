// Position of each card. A layout is {height, items, edges, panels}; an item is
// {entry, x, y, width, height, posterWidth, posterHeight, shape, level}.

const captionHeight = 50;

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

// Rows of posters of equal height, each in its own aspect ratio.
function gridLayout(shown, width) {
  const wanted = width < 560 ? 176 : 226;
  const gap = width < 560 ? 12 : 18;
  const items = [];
  let y = 0;
  const heightOf = (row, aspects) => (width - gap * (row.length - 1)) / aspects;
  const closeRow = (row, height, number) => {
    let x = 0;
    row.forEach(({ entry, aspect }) => {
      const posterWidth = aspect * height;
      items.push({
        entry, x, y, width: posterWidth, height: height + captionHeight,
        posterWidth, posterHeight: height, shape: "card", row: number,
      });
      x += posterWidth + gap;
    });
    y += height + captionHeight + gap;
  };
  let row = [];
  let aspects = 0;
  let number = 0;
  for (const entry of shown) {
    const aspect = clamp(aspectOf(entry), 0.5625, entry.state === "failed" ? 1 : 2.4);
    const wider = heightOf([...row, entry], aspects + aspect);
    const narrower = row.length ? heightOf(row, aspects) : Infinity;
    if (row.length && narrower / wanted < wanted / wider) {
      closeRow(row, narrower, number++);
      row = [];
      aspects = 0;
    }
    row.push({ entry, aspect });
    aspects += aspect;
  }
  if (row.length) closeRow(row, Math.min(heightOf(row, aspects), wanted), number);
  return { height: y, items, edges: [], panels: [] };
}

const wideTree = { column: 200, gap: 60, poster: 112, row: 112 + captionHeight + 22 };
const narrowTree = { poster: 72, row: 72 + 16 };

// Each family is a tree: from left to right if that fits, indented otherwise. A family is shown
// completely if one of its members is; small ones are placed side by side and below each other.
function familiesLayout(shown, width) {
  const padding = width < 560 ? 12 : 24;
  const gap = width < 560 ? 12 : 20;
  const layout = { height: 0, items: [], edges: [], panels: [] };
  const matching = new Set(shown);
  let shelf = { y: 0, height: 0, columns: [] };
  for (const root of familyRoots(shown)) {
    const members = membersOf(root);
    const depth = members.reduce((most, member) => Math.max(most, member.level), 0);
    const treeWidth = (depth + 1) * wideTree.column + depth * wideTree.gap;
    const isWide = treeWidth + 2 * padding <= width;
    const placed = isWide ? placeWide(members) : placeIndented(members, depth, width - 2 * padding);
    const panel = {
      width: isWide ? treeWidth + 2 * padding : width,
      height: placed.height + 2 * padding,
    };
    let column = shelf.columns.find(
      (other) => other.width >= panel.width && other.filled + panel.height <= shelf.height,
    );
    if (!column) {
      const last = shelf.columns[shelf.columns.length - 1];
      let x = last ? last.x + last.width + gap : 0;
      if (x > 0 && x + panel.width > width) {
        shelf = { y: shelf.y + shelf.height + gap, height: 0, columns: [] };
        x = 0;
      }
      column = { x, width: panel.width, filled: 0 };
      shelf.columns.push(column);
    }
    const { x } = column;
    const y = shelf.y + column.filled;
    column.filled += panel.height + gap;
    shelf.height = Math.max(shelf.height, column.filled - gap);
    layout.panels.push({ ...panel, x, y });
    const itemOf = new Map();
    for (const item of placed.items) {
      item.x += x + padding;
      item.y += y + padding;
      item.isDimmed = !matching.has(item.entry);
      itemOf.set(item.entry, item);
      layout.items.push(item);
      if (item.level > 0) layout.edges.push({ from: itemOf.get(item.entry.parent), to: item, isWide });
    }
  }
  layout.height = shelf.y + shelf.height;
  return layout;
}

function familyRoots(shown) {
  const rootOf = new Map();
  const roots = new Set();
  for (const entry of shown) {
    if (!entry.parent && !entry.children.length) continue;
    const path = [];
    let root = entry;
    while (root.parent && !rootOf.has(root)) {
      path.push(root);
      root = root.parent;
    }
    root = rootOf.get(root) ?? root;
    for (const member of path) rootOf.set(member, root);
    roots.add(root);
  }
  return roots;
}

// Parents before their children, in reading order of the tree.
function membersOf(root) {
  const members = [];
  const waiting = [{ entry: root, level: 0 }];
  while (waiting.length) {
    const member = waiting.pop();
    members.push(member);
    for (const child of [...member.entry.children].reverse()) {
      waiting.push({ entry: child, level: member.level + 1 });
    }
  }
  return members;
}

function placeWide(members) {
  const rowOf = new Map();
  let rows = 0;
  for (const { entry } of members) if (!entry.children.length) rowOf.set(entry, rows++);
  for (const { entry } of [...members].reverse()) {
    if (!entry.children.length) continue;
    const first = rowOf.get(entry.children[0]);
    const last = rowOf.get(entry.children[entry.children.length - 1]);
    // In the middle of its children, but near the first, to be found above hundreds of them.
    rowOf.set(entry, Math.min((first + last) / 2, first + 1.5));
  }
  const items = members.map(({ entry, level }) => ({
    entry, level, shape: "card",
    x: level * (wideTree.column + wideTree.gap),
    y: rowOf.get(entry) * wideTree.row,
    width: wideTree.column,
    height: wideTree.poster + captionHeight,
    posterWidth: Math.min(wideTree.column, aspectOf(entry) * wideTree.poster),
    posterHeight: wideTree.poster,
  }));
  return { items, height: rows * wideTree.row - 22 };
}

function placeIndented(members, depth, width) {
  const step = depth ? Math.min(28, Math.max(0, width - 230) / depth) : 0;
  const items = members.map(({ entry, level }, index) => ({
    entry, level, shape: "strip",
    x: level * step,
    y: index * narrowTree.row,
    width: width - level * step,
    height: narrowTree.poster,
    posterWidth: clamp(aspectOf(entry) * narrowTree.poster, 40, 112),
    posterHeight: narrowTree.poster,
  }));
  return { items, height: members.length * narrowTree.row - 16 };
}

// A line with rounded corners from the parent's poster to the child's.
function edgePath({ from, to, isWide }) {
  if (!isWide) {
    const x = from.x + Math.min(14, (to.x - from.x) / 2);
    const end = to.y + to.posterHeight / 2;
    const radius = Math.min(8, to.x - x);
    return `M${x} ${from.y + from.posterHeight}V${end - radius}Q${x} ${end} ${x + radius} ${end}H${to.x}`;
  }
  const start = from.y + from.posterHeight / 2;
  const end = to.y + to.posterHeight / 2;
  const left = from.x + from.posterWidth;
  const middle = to.x - wideTree.gap / 2;
  if (Math.abs(end - start) < 1) return `M${left} ${start}H${to.x}`;
  const radius = Math.min(12, Math.abs(end - start) / 2);
  const down = end > start ? radius : -radius;
  return (
    `M${left} ${start}H${middle - radius}Q${middle} ${start} ${middle} ${start + down}` +
    `V${end - down}Q${middle} ${end} ${middle + radius} ${end}H${to.x}`
  );
}
