// The drawings kept in step: what is computed at this instant is lit, edges are as thick as their weight is large now,
// units and operations show their numbers.

const SVG = "http://www.w3.org/2000/svg";
const THICKEST = 4, THINNEST = 0.8;

/** One picture of the network, on the stage. */
class View {
  constructor(figure, now) {
    this.now = now;
    this.name = figure.dataset.view;
    this.kind = this.name === "units" ? "units" : "operations";
    this.svg = figure.querySelector("svg").cloneNode(true);
    this.svg.removeAttribute("aria-labelledby");
    this.svg.querySelector("title")?.remove();
    this.svg.setAttribute("aria-label", figure.querySelector("title")?.textContent ?? "Drawing");
    this.shapes = [...this.svg.querySelectorAll("[data-ref]")];
    this.numbers = this.shapes.filter((shape) => isSpot(shape)).map((shape) => this.prepared(shape)).filter(Boolean);
    this.edges = this.shapes.filter((shape) => isWeight(shape));
    for (const edge of this.edges) if (edge.tagName === "path") edge.after(grip(edge));
    this.widen();
  }

  /** Room below the lowest caption for its number. */
  widen() {
    const [x, y, width, height] = this.svg.getAttribute("viewBox").split(" ").map(Number);
    const more = this.kind === "operations" ? 18 : 0;
    this.svg.setAttribute("viewBox", `${x} ${y} ${width} ${height + more}`);
    this.svg.removeAttribute("width");
    this.svg.removeAttribute("height");
    this.svg.dataset.wide = String(width > 400);
    this.tall = height > 1.2 * width;
    this.svg.style.maxWidth = `${Math.round(width * (this.tall ? 1 : 1.75))}px`;
  }

  /** A letter with a place for its number below it: in a unit, or below an operation's caption. */
  prepared(label) {
    const text = document.createElementNS(SVG, "text");
    const [x, y] = [Number(label.getAttribute("x")), Number(label.getAttribute("y"))];
    const inUnit = this.kind === "units";
    if (!inUnit && !this.isCaption(label)) return null;
    if (inUnit) label.setAttribute("y", y - 7);
    text.setAttribute("class", "spot");
    text.setAttribute("x", x);
    text.setAttribute("y", inUnit ? y + 9 : y + 14);
    text.setAttribute("text-anchor", label.getAttribute("text-anchor"));
    text.dataset.ref = label.dataset.ref;
    label.after(text);
    return text;
  }

  /** Whether a letter stands beside its shape, not in it: the last of those with its reference. */
  isCaption(label) {
    const same = this.shapes.filter((shape) => shape.dataset.ref === label.dataset.ref);
    const box = same.find((shape) => shape.tagName === "rect");
    return same.at(-1) === label && !(box && Math.abs(Number(box.getAttribute("y")) + box.getAttribute("height") / 2 - label.getAttribute("y")) < 2);
  }

  update(instant, sets) {
    this.svg.setAttribute("class", `drawing now-${instant.phase || "given"}`);
    for (const shape of this.shapes) this.light(shape, sets);
    for (const text of this.numbers) this.write(text, instant, sets);
    this.weigh(instant, sets);
    this.scroll();
  }

  /** A tall drawing keeps its size and scrolls to what is lit. */
  scroll() {
    const frame = this.svg.parentElement, lit = this.tall && this.svg.querySelector(".shape.is-lit");
    if (!frame || !lit) return;
    const [a, b] = [lit.getBoundingClientRect(), frame.getBoundingClientRect()];
    frame.scrollTop += a.top + a.height / 2 - b.top - b.height / 2;
  }

  light(shape, sets) {
    const key = wholeKey(refOf(shape));
    const lit = sets.lit.has(key) || (isWeightRef(refOf(shape)) && sets.lit.has(`gradient:${refOf(shape).name}`)) ||
      (isWeightRef(refOf(shape)) && sets.lit.has(`after:${refOf(shape).name}`)) ||
      (sets.backward && sets.lit.has(`gradient:${refOf(shape).name}`));
    shape.classList.toggle("is-lit", lit);
    shape.classList.toggle("is-read", !lit && (sets.read.has(key) || (sets.backward && sets.read.has(`gradient:${refOf(shape).name}`))));
    shape.classList.toggle("is-later", !lit && !sets.read.has(key) && !this.known(refOf(shape), sets));
  }

  known(ref, sets) {
    return ref.kind === "before" || sets.known.has(`${ref.kind}:${ref.name}`) || this.now.leaves.has(ref.name);
  }

  /** The number of a unit: its error signal once the backward pass has reached it, else its value. */
  write(text, instant, sets) {
    const ref = this.now.placed(refOf(text), text);
    const back = sets.backward && sets.known.has(`gradient:${ref.name}`) && !this.now.trained.has(ref.name);
    const shown = back ? { ...ref, kind: "gradient" } : ref;
    const known = this.known(shown, sets);
    const list = known ? this.entries(shown, sets.lit.has(wholeKey(shown))) : [];
    text.textContent = list.map((value) => shortText(value, this.kind === "units" ? 5 : 9)).join("  ");
    text.classList.toggle("is-back", back);
  }

  /** The numbers behind a letter: one for an entry; for a whole tensor the sample's row, where it has room. */
  entries(ref, roomy) {
    const one = this.now.number(ref);
    if (one !== undefined) return [one];
    const count = this.now.rowLength(ref);
    return count > (roomy ? 3 : 1) ? [] : Array.from({ length: count }, (_, i) => this.now.number(this.now.inRow(ref, i))).filter((v) => v !== undefined);
  }

  /** Edges by their weight now: thickness by size, colour and dash by sign; labels with the number. */
  weigh(instant, sets) {
    if (this.kind !== "units") return;
    const largest = Math.max(...this.edges.map((edge) => Math.abs(this.weight(edge, instant, sets).value) || 0), 1e-300);
    for (const edge of this.edges) {
      const { value, kind } = this.weight(edge, instant, sets);
      if (value === undefined) continue;
      if (edge.tagName === "text") this.label(edge, value, kind);
      else if (edge.tagName === "rect") continue;
      else if (edge.tagName === "path" && !Number.isNaN(value)) style(edge, value, largest);
    }
  }

  /** What an edge shows: its weight, its gradient when that is computed, its new weight in the update. */
  weight(edge, instant, sets) {
    const ref = refOf(edge);
    const at = (kind) => ({ value: this.now.number({ ...ref, kind }), kind });
    if (edge.tagName === "text" && sets.lit.has(`gradient:${ref.name}`)) return at("gradient");
    if (sets.known.has(`after:${ref.name}`)) return at("after");
    return at("before");
  }

  label(text, value, kind) {
    if (text.dataset.shown === `${kind} ${value}`) return;
    text.dataset.shown = `${kind} ${value}`;
    text.textContent = shortText(value, 7);
    text.classList.toggle("is-gradient", kind === "gradient");
    const patch = text.previousElementSibling;
    if (patch?.tagName !== "rect") return;
    const width = 7.2 * text.textContent.length + 6;
    patch.setAttribute("x", text.getAttribute("x") - width / 2);
    patch.setAttribute("width", width);
  }
}

const isSpot = (shape) => shape.tagName === "text" && ["value", "gradient"].includes(refOf(shape).kind);
const isWeightRef = (ref) => ref.kind === "before";
const isWeight = (shape) => isWeightRef(refOf(shape)) && refOf(shape).index.length > 0;
const wholeKey = (ref) => `${ref.kind}:${ref.name}`;

/** A number where there is little room: three digits or fewer, no zero before the point, 2e−5 for a power of ten. */
function shortText(value, most) {
  for (let digits = 3; ; digits--) {
    const text = numberText(value, digits).replace("·10", "e").replace(/[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+/, plainPower).replace(/^(−?)0\./, "$1.");
    if (text.length <= most || digits === 1) return text;
  }
}

function plainPower(raised) {
  return [...raised].map((sign) => Object.keys(RAISED).find((plain) => RAISED[plain] === sign)).join("").replace("-", "−");
}

/** A wide invisible line over an edge, so that a thin one can be pointed at too. */
function grip(edge) {
  const wide = edge.cloneNode();
  wide.setAttribute("class", "grip");
  wide.setAttribute("stroke-width", "12");
  wide.removeAttribute("stroke-dasharray");
  return wide;
}

function style(edge, value, largest) {
  const role = value === 0 ? "muted" : value > 0 ? "positive" : "negative";
  edge.setAttribute("stroke-width", (THINNEST + THICKEST * Math.min(Math.abs(value) / largest, 1)).toFixed(2));
  edge.removeAttribute("stroke-dasharray");
  for (const other of ["muted", "positive", "negative", "parameter"]) edge.classList.toggle(`role-${other}`, other === role);
}
