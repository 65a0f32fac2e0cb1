// Pointing at a number, an edge or a letter lights the same quantity everywhere, and says it in full.

/** The quantity behind a reference, with its update: a weight after update 1 is the weight before update 2. */
function quantityKey(ref, now) {
  const step = ref.step || now.step;
  if (ref.kind === "after") return `before:${ref.name}:${step + 1}`;
  if (ref.kind === "state") return `state ${ref.state}:${ref.name}:${step}`;
  const fixed = now.leaves.has(ref.name) && !now.trained.has(ref.name) && ref.kind === "value";
  const kind = ref.kind === "value" && now.trained.has(ref.name) ? "before" : ref.kind;
  return `${kind}:${ref.name}:${fixed ? 0 : step}`;
}

/** Whether two references to one quantity meet: the same entry, or the whole of it; null is any sample. */
function samePlace(a, b) {
  return !a.length || !b.length || (a.length === b.length && a.every((place, i) => place === b[i] || place === null || b[i] === null));
}

class Light {
  /** home: the solution with its stage; stage: where the step is shown; say: told what is pointed at. */
  constructor(now, home, stage, say) {
    this.now = now;
    this.home = home;
    this.say = say;
    this.stage = stage;
    this.lit = [];
    this.pages = null;
    for (const event of ["pointerover", "focusin"]) home.addEventListener(event, (e) => this.point(e.target));
    for (const event of ["pointerout", "focusout"]) home.addEventListener(event, () => this.clear());
  }

  /** The elements of the solution below the stage by their quantity, collected when first needed. */
  below() {
    if (this.pages) return this.pages;
    this.pages = new Map();
    for (const element of this.home.querySelectorAll(".solution [data-ref]")) {
      const key = quantityKey(refOf(element), { ...this.now, step: 0 });
      if (!this.pages.has(key)) this.pages.set(key, []);
      this.pages.get(key).push(element);
    }
    return this.pages;
  }

  point(target) {
    const element = target instanceof Element && target.closest("[data-ref]");
    this.clear();
    if (!element) return;
    const ref = this.now.placed(refOf(element), element);
    const key = quantityKey(ref, this.now);
    for (const found of this.candidates(key)) {
      if (samePlace(this.now.placed(refOf(found), found).index, ref.index)) this.mark(found);
    }
    this.say(ref);
  }

  *candidates(key) {
    yield* this.below().get(key) ?? [];
    for (const element of this.stage.querySelectorAll("[data-ref]")) {
      if (quantityKey(refOf(element), this.now) === key) yield element;
    }
  }

  mark(element) {
    element.classList.add("pointed");
    this.lit.push(element);
  }

  clear() {
    for (const element of this.lit) element.classList.remove("pointed");
    if (this.lit.length) this.say(null);
    this.lit = [];
  }
}

/** What is copied has its numbers in full. */
function copyInFull(event) {
  const selection = document.getSelection();
  if (!selection || selection.isCollapsed || !event.clipboardData) return;
  if (event.target instanceof HTMLInputElement) return;
  const copy = document.createElement("div");
  for (let i = 0; i < selection.rangeCount; i++) copy.append(selection.getRangeAt(i).cloneContents());
  const numbers = [...copy.querySelectorAll("[data-full], .number[title]")];
  if (!numbers.length) return;
  for (const number of numbers) number.textContent = number.dataset.full ?? number.title;
  for (const cell of copy.querySelectorAll("td, th")) cell.append("\t");
  for (const line of copy.querySelectorAll("tr, p, h2, h3, h4, .step, .equation")) line.append("\n");
  event.clipboardData.setData("text/plain", copy.textContent);
  event.preventDefault();
}
