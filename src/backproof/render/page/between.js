// Updates that the solution does not write out: their instants are those of one that it does, with their own numbers
// from the record. They are made when they are first looked at.

/** A reference's text with another update in place of the template's. */
function otherStep(text, from, to) {
  const parts = text.split(":"), place = parts.length - (parts[0] === "state" ? 2 : 1);
  if (Number(parts[place]) === from) parts[place] = String(to);
  return parts.join(":");
}

/** A copy of an element for another update: no ids, its references moved, its numbers from the book. */
function copyFor(element, from, to, book, trees) {
  const copy = element.cloneNode(true);
  for (const marked of [copy, ...copy.querySelectorAll("[id]")]) marked.removeAttribute("id");
  if (from === to) return copy;
  for (const marked of copy.querySelectorAll("[data-ref]")) marked.dataset.ref = otherStep(marked.dataset.ref, from, to);
  for (const number of copy.querySelectorAll("[data-ref][data-full]")) {
    if (!number.closest(".put")) writeOrBlank(number, book.number(refOf(number), refOf(number).step));
  }
  for (const step of copy.querySelectorAll(".equation[data-ref] .put")) {
    const made = trees?.step(refOf(step.closest(".equation")), book);
    if (made) step.innerHTML = made;
    else step.remove();
  }
  return copy;
}

function writeOrBlank(element, value) {
  if (value === undefined) element.textContent = "…";
  else writeNumber(element, value);
}

/** For each update of the record the written one that it is like: of the same sample, if there is one, else the nearest. */
class Likeness {
  constructor(instants, record) {
    this.written = [...new Set(instants.map(({ step }) => step))].filter((step) => step);
    this.sample = (step) => record.steps[step - 1]?.sample ?? null;
  }

  of(step) {
    if (!this.written.length || this.written.includes(step)) return step;
    const far = (other) => Math.abs(other - step) + (this.same(other, step) ? 0 : 1e6);
    return this.written.reduce((best, other) => (far(other) < far(best) ? other : best));
  }

  same(a, b) {
    return this.sample(a) === this.sample(b);
  }
}

/** An instant of an update that is not written out. */
class Unwritten {
  constructor(like, step, stage, facts) {
    const moved = (ref) => ({ ...ref, step: ref.step === like.step ? step : ref.step });
    Object.assign(this, {
      phase: like.phase, title: like.title, step, module: "", parent: null,
      key: like.key.replace(`update-${like.step}/`, `update-${step}/`),
      computes: like.computes.map(moved), reads: like.reads.map(moved), ...facts,
    });
    this.like = like;
    this.stage = stage;
    this.made = null;
    this.book = stage.now.record;
  }

  get element() {
    this.made ??= this.phase === "update" ? this.tables() : copyFor(this.like.element, this.like.step, this.step, this.book, this.stage.trees);
    return this.made;
  }

  /** The parameters before and after: an update's formula counts the updates in its letters, so it is not copied. */
  tables() {
    const frame = document.createElement("div"), names = new Set(this.computes.map(({ name }) => name));
    for (const { frame: table, cells } of this.stage.tables.copied(this.step).copies) {
      if (cells[0].ref.kind === "before" && names.has(cells[0].ref.name)) frame.append(table);
    }
    return frame;
  }
}

/** All instants in order, with those of the updates in between. */
function withUnwritten(written, stage) {
  const { play, now } = stage, likeness = now.likeness, found = [];
  if (play.large) return written;
  const after = written.filter(({ step, phase }) => !step && phase === "result");
  found.push(...written.filter((instant) => !instant.step && !after.includes(instant)));
  for (let step = 1; step <= play.updates; step++) {
    const like = likeness.of(step), own = written.filter((instant) => instant.step === like);
    if (like === step) found.push(...own);
    else if (likeness.same(like, step)) found.push(...own.map((instant) => new Unwritten(instant, step, stage, {})));
    else found.push(...atOnce(own, step, stage));
  }
  found.push(...after);
  found.forEach((instant, place) => (instant.place = place));
  return found;
}

/** An update on a sample for which nothing is written out: one instant, with everything that it computes. */
function atOnce(own, step, stage) {
  const last = own.findLast(({ phase }) => phase === "update");
  if (!last) return [];
  const key = `${stage.prefix}update-${step}/update/all`, computes = own.flatMap((instant) => instant.computes);
  const instant = new Unwritten(last, step, stage, { title: "forward, backward and update at once", key });
  instant.computes = computes.map((ref) => ({ ...ref, step }));
  return [instant];
}
