// The dialog that plays one video and tells all about its clip.

const player = {
  entry: null,
  dialog: byId("player"),
  video: byId("video"),

  open(entry, { plays }) {
    this.entry = entry;
    this.tell(entry);
    if (!this.dialog.open) this.dialog.showModal();
    byId("player-title").focus({ preventScroll: true });
    this.dialog.scrollTop = 0;
    this.load(0, plays && !matchMedia("(prefers-reduced-motion: reduce)").matches);
  },

  close() {
    this.unload();
    this.entry = null;
    if (this.dialog.open) this.dialog.close();
  },

  unload() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.removeAttribute("poster");
    this.video.load();
  },

  load(number, plays) {
    this.unload();
    const video = this.entry.videos[number];
    this.video.hidden = !video;
    byId("open").hidden = !video;
    this.note(video ? "" : "There is no video: the generation failed.");
    byId("stage").style.setProperty("--aspect", (video ? video.width / video.height : aspectOf(this.entry)) || 16 / 9);
    for (const [place, button] of [...byId("variants").children].entries()) {
      button.setAttribute("aria-pressed", place === number);
    }
    if (!video) return;
    if (this.entry.poster && number === 0) this.video.poster = this.entry.poster;
    this.video.setAttribute("aria-label", `Video of ${this.entry.title}`);
    this.video.src = video.href;
    byId("open").href = video.href;
    this.facts(this.entry, video);
    // Refused where nobody has clicked yet, as on a page that was opened by a link to a clip.
    if (plays) this.video.play().catch(() => {});
  },

  note(text) {
    byId("stage-note").textContent = text;
    byId("stage-note").hidden = !text;
  },

  tell(entry) {
    byId("player-title").textContent = entry.title;
    byId("player-line").textContent = [...troublesOf(entry), timeOf(entry.created)].join(" · ");
    byId("player-failure").textContent = entry.failure ?? "";
    byId("player-failure").hidden = !entry.failure;
    byId("player-prompt").textContent = entry.prompt;
    byId("player-tags").replaceChildren(
      ...entry.tags.map((tag) => {
        const button = element("button", "tag", tag);
        button.type = "button";
        button.dataset.tag = tag;
        return button;
      }),
    );
    byId("player-checks").hidden = !entry.checks.length;
    byId("player-checks").lastElementChild.replaceChildren(...entry.checks.map((name) => element("li", "", name)));
    byId("variants").hidden = entry.videos.length < 2;
    byId("variants").replaceChildren(
      ...(entry.videos.length < 2 ? [] : entry.videos).map((video, number) => {
        const button = element("button", "variant", `Video ${number + 1}`);
        button.type = "button";
        button.addEventListener("click", () => this.load(number, true));
        return button;
      }),
    );
    this.facts(entry, undefined);
    byId("player-family").replaceChildren(...familyOf(entry));
    byId("copied").textContent = "";
    byId("link-field").hidden = true;
  },

  facts(entry, video) {
    const width = video?.width ?? entry.width;
    const height = video?.height ?? entry.height;
    const seconds = video?.seconds ?? entry.seconds;
    const isOneOfMany = entry.videos.length > 1 && video?.cost !== undefined;
    const facts = {
      Cost: costOf(entry) + (isOneOfMany ? ` in all, ${dollars.format(video.cost)} this video` : ""),
      Estimate: entry.estimate === undefined ? undefined : dollars.format(entry.estimate),
      Model: entry.model,
      Seed: video?.seed,
      Size: width && height ? `${width} × ${height}` : undefined,
      Length: seconds ? lengthOf(seconds) : undefined,
      "Generated in": entry.generationSeconds === undefined ? undefined : spanOf(entry.generationSeconds),
      Take: entry.take,
      Asset: entry.asset,
      Partition: entry.partition,
      Clip: entry.partition === entry.clip ? undefined : entry.clip,
      Format: video?.type,
    };
    byId("player-facts").replaceChildren(
      ...Object.entries(facts)
        .filter(([, value]) => value !== undefined && value !== "")
        .map(([name, value]) => {
          const pair = element("div");
          pair.append(element("dt", "", name), element("dd", "", String(value)));
          return pair;
        }),
    );
  },
};

function familyOf(entry) {
  const blocks = [];
  if (entry.parent) blocks.push(relatives("Remix of", [entry.parent]));
  if (entry.parentElsewhere) {
    const block = element("div");
    block.append(element("h3", "", "Remix of"), element("p", "quiet", `${entry.parentElsewhere} (not linked here)`));
    blocks.push(block);
  }
  if (entry.children.length) blocks.push(relatives(countOf(entry.children.length, "remix").replace(/xs$/, "xes"), entry.children));
  return blocks;
}

function relatives(heading, members) {
  const block = element("div");
  const list = element("ul", "relatives");
  block.append(element("h3", "", heading), list);
  for (const member of members) {
    const button = element("button", "relative");
    button.type = "button";
    button.dataset.id = member.id;
    const width = between(aspectOf(member) * 48, 30, 85);
    button.append(poster(member, { posterWidth: width, posterHeight: 48 }), element("span", "title", member.title));
    const place = element("li");
    place.append(button);
    list.append(place);
  }
  return block;
}
