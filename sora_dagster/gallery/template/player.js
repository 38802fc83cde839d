// The dialog that plays one video and shows the details of its clip.

const player = {
  entry: null,
  dialog: byId("player"),
  video: byId("video"),

  open(entry, { plays }) {
    this.entry = entry;
    this.describe(entry);
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
    this.setNote(video ? "" : "No video: the generation failed.");
    byId("stage").style.setProperty("--aspect", (video ? video.width / video.height : aspectOf(this.entry)) || 16 / 9);
    for (const [place, button] of [...byId("variants").children].entries()) {
      button.setAttribute("aria-pressed", place === number);
    }
    if (!video) return;
    if (this.entry.posterHref && number === 0) this.video.poster = this.entry.posterHref;
    this.video.setAttribute("aria-label", `Video of ${this.entry.title}`);
    this.video.src = video.href;
    byId("open").href = video.href;
    this.facts(this.entry, video);
    // Rejected before the first click, as on a page opened by a link to a clip.
    if (plays) this.video.play().catch(() => {});
  },

  setNote(text) {
    byId("stage-note").textContent = text;
    byId("stage-note").hidden = !text;
  },

  describe(entry) {
    byId("player-title").textContent = entry.title;
    byId("player-line").textContent = [...problemsOf(entry), formatTime(entry.createdAt)].join(" · ");
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
    byId("player-checks").hidden = !entry.checksFailed.length;
    byId("player-checks").lastElementChild.replaceChildren(...entry.checksFailed.map((name) => element("li", "", name)));
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
    const seconds = video?.durationSeconds ?? entry.durationSeconds;
    const isOneOfMany = entry.videos.length > 1 && video?.costUsd !== undefined;
    const facts = {
      Cost: formatCost(entry) + (isOneOfMany ? ` in total, ${dollars.format(video.costUsd)} for this video` : ""),
      Estimate: entry.estimateUsd === undefined ? undefined : dollars.format(entry.estimateUsd),
      Model: entry.modelId ? `${entry.model} (${entry.modelId})` : entry.model,
      Options: entry.options,
      Seed: video?.seed,
      Size: width && height ? `${width} × ${height}` : undefined,
      Duration: seconds ? formatDuration(seconds) : undefined,
      "Generated in": entry.generationSeconds === undefined ? undefined : formatGenerationTime(entry.generationSeconds),
      Take: entry.take,
      Asset: entry.asset,
      Partition: entry.partition,
      Clip: entry.partition === entry.clip ? undefined : entry.clip,
      Format: video?.contentType,
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
  if (entry.missingParent) {
    const block = element("div");
    block.append(element("h3", "", "Remix of"), element("p", "muted", `${entry.missingParent} (not in this gallery)`));
    blocks.push(block);
  }
  if (entry.children.length) blocks.push(relatives(formatCount(entry.children.length, "remix").replace(/xs$/, "xes"), entry.children));
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
    const width = clamp(aspectOf(member) * 48, 30, 85);
    button.append(poster(member, { posterWidth: width, posterHeight: 48 }), element("span", "title", member.title));
    const place = element("li");
    place.append(button);
    list.append(place);
  }
  return block;
}
