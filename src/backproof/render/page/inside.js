// Inside an open module the drawing is the module's own; outside it is that of the whole network again.

class Inside {
  constructor(home, stage) {
    this.stage = stage;
    this.figures = new Map();
    for (const figure of home.querySelectorAll("figure[data-view=module]")) {
      this.figures.set(figure.closest(".instant").dataset.module, figure);
    }
    this.made = new Map();
    this.module = null;
    this.tab = null;
    this.around = 0;
  }

  /** The module whose drawing belongs to an instant: the innermost around it that has one. */
  of(instant) {
    return around(instant).reverse().find(({ module }) => this.figures.has(this.drawn(module)))?.module ?? null;
  }

  /** The module that is drawn in place of one that repeats it. */
  drawn(module) {
    const other = this.repeated(module);
    return other ? this.stage.play.alike[other].first + module.slice(other.length) : module;
  }

  repeated(module) {
    return Object.keys(this.stage.play.alike ?? {}).find((other) => module === other || module.startsWith(`${other}.`));
  }

  /** The drawing of a module; one that repeats another has that one's, with its own names. */
  view(module) {
    const figure = this.figures.get(this.drawn(module)), other = this.repeated(module);
    if (!this.made.has(module)) this.made.set(module, new View(other ? this.renamed(figure, other) : figure, this.stage.now));
    return this.made.get(module);
  }

  renamed(figure, other) {
    const { first, names, symbols } = this.stage.play.alike[other], copy = figure.cloneNode(true);
    const path = new RegExp(`${first.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}(?!\\d)`, "g");
    const named = (name) => names[name] ?? (name.startsWith(`${first}.`) ? other + name.slice(first.length) : name);
    for (const shape of copy.querySelectorAll("[data-ref]")) {
      const ref = parseRef(shape.dataset.ref);
      shape.dataset.ref = `${ref.kind}:${named(ref.name)}:${ref.index.join(".")}:${ref.step}`;
    }
    for (const text of copy.querySelectorAll("text, title")) {
      const own = symbols[text.textContent], spans = text.querySelectorAll("tspan");
      if (own) text.textContent = own;
      else for (const part of spans.length ? spans : [text]) part.textContent = part.textContent.replace(path, other);
    }
    return copy;
  }

  follow(instant) {
    const module = this.of(instant), { stage } = this;
    if (module === this.module || !this.figures.size) return;
    const inside = this.module !== null && this.tab.getAttribute("aria-selected") === "true";
    if (this.module === null) this.around = Math.max(stage.views.indexOf(stage.view), 0);
    const stays = this.module !== null && module !== null && !inside;  // the reader chose the whole network
    this.leave();
    this.module = module;
    if (module === null) return stage.choose(this.around);
    stage.views.push(this.view(module));
    const place = stage.views.length - 1;
    this.tab = stage.tab("module", `Inside ${module}`, () => stage.choose(place));
    stage.find(".tabs").append(this.tab);
    stage.find(".tabs").hidden = false;
    stage.choose(stays ? this.around : place);
  }

  leave() {
    if (this.module === null) return;
    this.stage.views.pop();
    this.tab.remove();
    this.stage.find(".tabs").hidden = this.stage.views.length < 2;
  }

  /** What is lit: in the module's drawing the part alone, in the whole one its module. */
  sets(instant) {
    if (this.stage.view?.name !== "module") return instant.sets;
    return { ...instant.sets, lit: new Set(instant.computes.map(wholeKey)) };
  }
}
