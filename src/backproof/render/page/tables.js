// The record of the current update: a table for each quantity, filled as time goes on.

class Tables {
  constructor(place, now) {
    this.place = place;
    this.now = now;
    this.made = new Map();
    this.shown = null;
  }

  /** The tables of an update, taken from the solution below. */
  of(step) {
    if (!this.made.has(step)) this.made.set(step, this.copied(step));
    return this.made.get(step);
  }

  copied(step) {
    const like = this.now.likeness.of(step);
    const section = document.getElementById(`${this.now.prefix}update-${like}`)?.closest("section");
    const found = [...(section?.querySelectorAll(":scope > details table") ?? [])];
    const copies = found.map((table) => this.copy(table, like, step)).filter(Boolean);
    return { copies, cells: copies.flatMap((copy) => copy.cells) };
  }

  copy(table, like, step) {
    const copy = copyFor(table, like, step, this.now.record, null);
    const cells = [...copy.querySelectorAll("td [data-ref][data-full]")].map((element) => ({ element, ref: refOf(element) }));
    if (!cells.length) return null;
    const caption = copy.querySelector("caption");
    if (caption) caption.textContent = cells[0].ref.name;
    const frame = document.createElement("div");
    frame.className = "record-table";
    frame.append(copy);
    return { frame, cells, step };
  }

  update(instant, sets, sample) {
    const tables = this.of(this.now.step);
    if (this.shown !== tables) {
      this.place.replaceChildren(...tables.copies.map((copy) => copy.frame));
      this.shown = tables;
    }
    for (const cell of tables.cells) this.cell(cell, instant, sets, sample);
  }

  cell({ element, ref }, instant, sets, sample) {
    const whole = wholeKey(ref), td = element.closest("td");
    td.classList.toggle("is-lit", sets.lit.has(whole));
    td.classList.toggle("is-read", sets.read.has(whole));
    td.classList.toggle("is-later", !(ref.kind === "before" || sets.known.has(whole)));
    td.parentElement.hidden = sample !== null && this.now.batched.has(ref.name) && ref.index[0] !== sample;
    this.now.write(element, ref);
  }
}

/** Write a number into an element that shows one, whichever of the three forms it has. */
function writeNumber(element, value) {
  const full = fullText(value);
  if (element.dataset.full === full) return;
  element.dataset.exact ??= element.innerHTML;
  element.dataset.original ??= element.dataset.full;
  const back = element.dataset.original === full;
  element.dataset.full = full;
  if (element.title) element.title = full;
  if (back) element.innerHTML = element.dataset.exact;
  else if (element.classList.contains("number")) writeCell(element, value);
  else element.innerHTML = element.tagName.toLowerCase() === "mn" ? plainDigits(value) : (value < 0 ? prefix : "") + sizeMath(Math.abs(value));
}

/** What goes into an <mn>, where there is no room for a sign's own element. */
const plainDigits = (value) => numberText(value);

/** A table's number, cut at the point so that a column lines up. */
function writeCell(element, value) {
  const text = numberText(value), place = text.search(/[.·]/);
  const after = element.querySelector(".after");
  if (!after) element.textContent = text;
  else {
    element.firstChild.nodeType === 3 ? (element.firstChild.data = place < 0 ? text : text.slice(0, place)) : element.prepend(text);
    after.textContent = place < 0 ? "" : text.slice(place);
  }
}
