// One worked solution, or several as chapters: each gets its stage when it is first opened, and only the open one listens.

/** A worked solution as it stands in the page: the whole body, or an article of its own. */
class Chapter {
  constructor(element) {
    this.element = element;
    this.key = element.dataset.part ?? "";
    this.stage = undefined;
  }

  /** What stands in a script element of this chapter. */
  data(name) {
    const found = this.element.querySelector(`:scope > script.data-${name}`);
    return found ? JSON.parse(found.textContent) : null;
  }

  /** The stage, set up on the first call; null where there is nothing to step through. */
  open() {
    if (this.stage !== undefined) return this.stage;
    const play = this.data("play"), steps = play && this.data("record")?.steps;
    this.stage = null;
    if (!steps?.length || this.element.querySelectorAll(".instant").length < 3) return null;
    this.stage = new Stage(this.element, play, steps);
    this.element.querySelector(":scope > .layout").before(this.stage.root);
    this.stage.timeline.fromAddress();
    return this.stage;
  }

  /** Whether an address lies in this chapter. */
  holds(address) {
    return address === this.key || address.startsWith(`${this.key}/`);
  }
}

/** All worked solutions of the page; one of them is open. */
class Chapters {
  constructor() {
    const parts = [...document.querySelectorAll("main > article.part")];
    this.links = [...document.querySelectorAll(".chapters a")];
    this.list = (parts.length ? parts : [document.body]).map((element) => new Chapter(element));
    this.current = null;
    for (const chapter of this.list) chapter.element.addEventListener("beforematch", () => this.open(chapter));
    this.links.forEach((link, place) => link.addEventListener("click", (event) => this.choose(event, this.list[place])));
    for (const event of ["popstate", "hashchange"]) addEventListener(event, () => this.fromAddress());
  }

  /** Show a chapter and put the others away, where the browser's search still finds them. */
  open(chapter) {
    if (chapter === this.current) return false;
    this.current?.stage?.timeline.stop();
    this.current = chapter;
    this.list.forEach((other, place) => {
      if (other === chapter) other.element.removeAttribute("hidden");
      else other.element.setAttribute("hidden", "until-found");
      if (other === chapter) this.links[place]?.setAttribute("aria-current", "true");
      else this.links[place]?.removeAttribute("aria-current");
    });
    chapter.open();
    return true;
  }

  choose(event, chapter) {
    event.preventDefault();
    if (!this.open(chapter)) return;
    const place = chapter.stage ? chapter.stage.timeline.current.key : chapter.key;
    try {
      history.pushState(null, "", `#${place}`);
    } catch { /* a frame without an origin has no address */ }
  }

  /** The chapter that the address means, or none. */
  meant() {
    const address = decoded(location.hash.slice(1));
    const element = address && document.getElementById(address);
    return this.list.find(({ key, element: own }) => key && element && own.contains(element)) ??
      this.list.find((chapter) => chapter.key && chapter.holds(address));
  }

  fromAddress() {
    const opened = this.open(this.meant() ?? this.current ?? this.list[0]);
    if (!opened) this.current.stage?.timeline.fromAddress();
    if (this.current.key && decoded(location.hash.slice(1)) === this.current.key) this.current.element.scrollIntoView();
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
