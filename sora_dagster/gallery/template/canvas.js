// Draws a layout. Only cards near the window are in the document.

const canvas = {
  layout: { height: 0, items: [], edges: [], panels: [] },
  kind: "grid",
  current: null, // entry that has the focus, or gets it by Tab
  cards: new Map(), // element of each item that is in the document
  lines: new Map(),
  frames: new Map(),

  show(layout, kind) {
    const hadFocus = byId("cards").contains(document.activeElement);
    this.layout = layout;
    this.kind = kind;
    this.itemOf = new Map(layout.items.map((item, index) => [item.entry, index]));
    if (!this.itemOf.has(this.current)) this.current = layout.items[0]?.entry ?? null;
    for (const drawn of [this.cards, this.lines, this.frames]) {
      for (const node of drawn.values()) node.remove();
      drawn.clear();
    }
    const list = byId("cards");
    list.setAttribute("role", kind === "grid" ? "list" : "tree");
    list.setAttribute("aria-label", kind === "grid" ? "Clips" : "Families of remixes");
    byId("canvas").style.height = `${layout.height}px`;
    this.draw();
    if (hadFocus) this.cards.get(layout.items[this.itemOf.get(this.current)])?.firstChild.focus({ preventScroll: true });
  },

  // The range of the layout that is drawn: the window, and its height above and below.
  drawnRange() {
    const top = -byId("canvas").getBoundingClientRect().top;
    return { from: top - innerHeight, to: top + 2 * innerHeight };
  },

  draw() {
    const { from, to } = this.drawnRange();
    const isNear = (box) => box.y < to && box.y + box.height > from;
    const focused = document.activeElement?.closest("#cards > li");
    syncNodes(this.frames, this.layout.panels.filter(isNear), (panel) => placed(element("div", "panel"), panel));
    for (const frame of this.frames.values()) if (!frame.isConnected) byId("canvas").prepend(frame);
    const near = this.layout.items.filter((item) => isNear(item) || this.cards.get(item) === focused);
    if (near.length) syncNodes(this.cards, near, (item) => this.card(item));
    this.drawEdges(isNear, from, to);
    this.attachInOrder(near);
    const reached = near.find((item) => item.entry === this.current) ?? near.find((item) => item.y >= from + innerHeight) ?? near[0];
    for (const [item, node] of this.cards) node.firstChild.tabIndex = item === reached ? 0 : -1;
  },

  attachInOrder(near) {
    const list = byId("cards");
    let before = list.firstChild;
    for (const item of near) {
      const node = this.cards.get(item);
      if (node === before) before = before.nextSibling;
      else list.insertBefore(node, before);
    }
  },

  // All edges of the drawn cards; of those to children beyond the range, one on each side.
  drawEdges(isNear, from, to) {
    const passing = new Set();
    const near = this.layout.edges.filter((edge) => {
      if (isNear(edge.to)) return true;
      const isBelow = edge.to.y >= to;
      const reaches = isBelow ? edge.from.y < to : edge.from.y + edge.from.height > from;
      const key = `${edge.from.entry.index} ${isBelow}`;
      if (!reaches || passing.has(key)) return false;
      passing.add(key);
      return true;
    });
    syncNodes(this.lines, near, (edge) => {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("class", "edge");
      line.setAttribute("d", edgePath(edge));
      byId("edges").append(line);
      return line;
    });
  },

  card(item) {
    const { entry } = item;
    const index = this.itemOf.get(entry);
    const place = placed(element("li", `place ${item.shape}`), item);
    const button = element("button", item.isDimmed ? "clip dimmed" : "clip");
    button.type = "button";
    button.dataset.id = entry.id;
    button.append(poster(entry, item), caption(entry, item));
    place.append(button);
    if (this.kind === "grid") {
      place.setAttribute("role", "listitem");
      place.setAttribute("aria-setsize", this.layout.items.length);
      place.setAttribute("aria-posinset", index + 1);
    } else {
      const siblings = entry.parent ? entry.parent.children : [entry];
      place.setAttribute("role", "none");
      button.setAttribute("role", "treeitem");
      button.setAttribute("aria-level", item.level + 1);
      button.setAttribute("aria-setsize", siblings.length);
      button.setAttribute("aria-posinset", siblings.indexOf(entry) + 1);
    }
    return place;
  },

  focus(entry) {
    const item = this.layout.items[this.itemOf.get(entry)];
    if (!item) return;
    this.current = entry;
    const top = byId("canvas").getBoundingClientRect().top + item.y;
    const covered = stickyHeight() + 12;
    if (top < covered) scrollBy({ top: top - covered, behavior: "instant" });
    else if (top + item.height > innerHeight - 12) {
      scrollBy({ top: Math.min(top + item.height - innerHeight + 12, top - covered), behavior: "instant" });
    }
    this.draw();
    this.cards.get(item).firstChild.focus({ preventScroll: true });
  },

  // The entry that an arrow key moves to, or undefined.
  neighbourOf(entry, key) {
    const { items } = this.layout;
    const index = this.itemOf.get(entry);
    if (key === "Home") return items[0].entry;
    if (key === "End") return items[items.length - 1].entry;
    if (this.kind === "families") {
      const step = { ArrowUp: items[index - 1]?.entry, ArrowDown: items[index + 1]?.entry };
      return { ...step, ArrowLeft: entry.parent, ArrowRight: entry.children[0] }[key] ?? undefined;
    }
    if (key === "ArrowLeft") return items[index - 1]?.entry;
    if (key === "ArrowRight") return items[index + 1]?.entry;
    const { row, x, width } = items[index];
    const wanted = row + (key === "ArrowDown" ? 1 : -1);
    const middle = x + width / 2;
    const distance = (item) => Math.abs(item.x + item.width / 2 - middle);
    return items
      .filter((item) => item.row === wanted)
      .reduce((best, item) => (!best || distance(item) < distance(best) ? item : best), undefined)?.entry;
  },
};

function syncNodes(drawn, wanted, make) {
  const stays = new Set(wanted);
  for (const [key, node] of drawn) {
    if (stays.has(key)) continue;
    node.remove();
    drawn.delete(key);
  }
  for (const key of wanted) if (!drawn.has(key)) drawn.set(key, make(key));
}

function placed(node, { x, y, width, height }) {
  Object.assign(node.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
  return node;
}

function poster(entry, size) {
  const frame = element("span", "poster");
  Object.assign(frame.style, { width: `${size.posterWidth}px`, height: `${size.posterHeight}px` });
  const blank = () => {
    const node = element("span", "blank");
    const isRoomy = size.shape === "card" && size.posterHeight > wideTree.poster;
    const reason = entry.state === "failed" ? "No video" : "No poster";
    node.append(element("span", "", (isRoomy && entry.failure) || reason));
    return node;
  };
  if (entry.posterHref) {
    const picture = element("img");
    picture.alt = "";
    picture.loading = "lazy";
    picture.decoding = "async";
    picture.addEventListener("error", () => picture.replaceWith(blank()), { once: true });
    picture.src = entry.posterHref;
    frame.append(picture);
  } else {
    frame.append(blank());
  }
  return frame;
}

function caption(entry, item) {
  const text = element("span", "caption");
  text.append(element("span", "title", entry.title));
  const facts = [formatCost(entry)];
  if (entry.durationSeconds && entry.state !== "failed") facts.push(formatDuration(entry.durationSeconds));
  if (entry.videos.length > 1) facts.push(formatCount(entry.videos.length, "video"));
  if (entry.take > 1) facts.push(`take ${entry.take}`);
  const line = element("span", "line");
  for (const problem of problemsOf(entry)) line.append(element("span", "badge", problem), " ");
  line.append(element("span", "", facts.join(" · ")));
  text.append(line);
  if (item.isDimmed) text.append(element("span", "visually-hidden", "(does not match the filters)"));
  return text;
}

const stickyHeight = () => {
  const toolbar = byId("filters");
  return getComputedStyle(toolbar).position === "sticky" ? toolbar.offsetHeight : 0;
};
