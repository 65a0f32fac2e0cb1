// The time axis: instants in order, a slider and buttons, the keys, the address.

const PHASE_WORDS = { given: "given", forward: "forward", loss: "loss", backward: "backward", update: "update", result: "result" };
const PLAY_EVERY = 1400;

/** An instant as it stands in the solution below. */
function instantOf(element, place) {
  const { phase = "", step = "0", title, computes = "", reads = "", module = "" } = element.dataset;
  const refs = (text) => text.split("\n").filter(Boolean).map(parseRef);
  const key = element.id;
  element.removeAttribute("id");  // the address means the stage now
  const details = module && element.querySelector(":scope > details");
  return { element, place, key, phase, step: Number(step), title, computes: refs(computes), reads: refs(reads), module, details, parent: null };
}

/** All instants in order, each with the module that it is a part of. */
function instantsIn(root) {
  const instants = [...root.querySelectorAll(".instant")].map(instantOf);
  const of = new Map(instants.map((instant) => [instant.element, instant]));
  for (const instant of instants) instant.parent = of.get(instant.element.parentElement.closest(".instant")) ?? null;
  return instants;
}

/** What is lit, read and known at each instant. */
function addSets(instants) {
  let known = new Set(), step = -1;
  for (const instant of instants) {
    if (instant.step !== step && instant.phase !== "result") known = new Set();
    step = instant.step;
    const own = instant.computes.map(wholeKey), before = known;
    const lit = new Set([...own, ...(instant.parent?.sets.lit ?? [])]);  // with a part, its module is lit
    known = new Set([...known, ...own]);
    const backward = ["backward", "update", "result"].includes(instant.phase);
    instant.sets = { lit, read: new Set(instant.reads.map(wholeKey)), known, backward };
    if (instant.module) known = before;  // its parts follow
  }
}

/** Where we are: the update, the sample and the book whose numbers are shown. */
class Now {
  constructor(play, record, prefix) {
    this.play = play;
    this.prefix = prefix;
    this.leaves = new Set(play.given);
    this.trained = new Set(play.trained);
    this.batched = new Set(play.bySample ? [] : play.batched);
    this.record = record;
    this.book = record;
    this.step = 1;
    this.sample = play.samples > 1 && !play.bySample ? 0 : null;
  }

  /** The row of the chosen sample; null for all of them, whose mean a drawing shows. */
  get row() {
    return this.sample ?? (this.isAll ? null : 0);
  }

  get isAll() {
    return this.sample === null && this.batched.size > 0 && this.play.samples > 1;
  }

  /** A reference as it is meant now: in a drawing, the present update and the chosen sample. */
  placed(ref, element) {
    if (!element.ownerSVGElement || ref.step) return ref.step ? ref : { ...ref, step: this.step };
    const own = ref.index.length && this.batched.has(ref.name);
    return { ...ref, step: this.step, index: own ? [this.row, ...ref.index.slice(1)] : ref.index };
  }

  number(ref) {
    if (ref.index[0] === null) return this.mean(ref);
    return this.book.number(ref, ref.step || this.step);
  }

  mean(ref) {
    let sum = 0;
    for (let i = 0; i < this.play.samples; i++) sum += this.number({ ...ref, index: [i, ...ref.index.slice(1)] });
    return Number.isNaN(sum) ? undefined : sum / this.play.samples;
  }

  /** How many numbers a whole tensor has for the chosen sample. */
  rowLength(ref) {
    const { values, gradients } = this.record.steps[(ref.step || this.step) - 1] ?? { values: {}, gradients: {} };
    const nested = (ref.kind === "gradient" ? gradients : values)[ref.name] ?? this.play.leaves[ref.name];
    const row = this.batched.has(ref.name) && Array.isArray(nested) ? nested[0] : nested;
    return Array.isArray(row) ? flatten(row).length : 1;
  }

  inRow(ref, place) {
    const row = this.batched.has(ref.name) ? [this.row] : [];
    const single = this.rowLength(ref) === 1 && row.length;
    const deep = this.play.bySample && this.play.batched.includes(ref.name);
    return { ...ref, index: single ? row : deep ? [0, place] : [...row, place] };
  }

  write(element, ref) {
    const value = this.book.number(ref, ref.step);
    if (value !== undefined && (this.book !== this.record || element.dataset.original)) writeNumber(element, value);
  }
}

class Timeline {
  constructor(stage, modules, prefix, show) {
    this.stage = stage;
    this.prefix = prefix;
    this.modules = modules;
    this.show = show;
    this.place = -1;
    this.timer = 0;
    this.pushed = 0;
    this.range = stage.querySelector("input[type=range]");
    this.lay();
    this.listen();
  }

  /** Lay out the instants of what is open now. */
  lay() {
    this.instants = this.modules.visible();
    this.instants.forEach((instant, place) => (instant.place = place));
    this.range.max = String(this.instants.length - 1);
    this.stage.querySelector(".phases").replaceChildren();
    this.stage.querySelector(".updates").replaceChildren();
    this.drawPhases();
    this.drawUpdates();
  }

  /** A module opened or closed: stay where we are, or as near as can be. */
  refold() {
    const current = this.current;
    this.lay();
    if (!current) return;
    this.place = NaN;  // whatever the place is, it is another one now
    this.go(this.modules.standIn(current, this.instants).place, { push: false });
  }

  get current() {
    return this.instants[this.place];
  }

  /** A coloured and patterned stretch for each phase. */
  drawPhases() {
    const last = this.instants.length - 1 || 1, track = this.stage.querySelector(".phases");
    for (const run of runsOf(this.instants, (a, b) => a.phase === b.phase && a.step === b.step)) {
      const stretch = document.createElement("span");
      const start = Math.max(0, (run[0].place - 0.5) / last), end = Math.min(1, (run.at(-1).place + 0.5) / last);
      stretch.className = `stretch phase-${run[0].phase}`;
      stretch.style.left = `${100 * start}%`;
      stretch.style.width = `${100 * (end - start)}%`;
      stretch.innerHTML = `<span>${PHASE_WORDS[run[0].phase] ?? ""}</span>`;
      track.append(stretch);
    }
  }

  /** A button for each update; of many, as many as have room. */
  drawUpdates() {
    const place = this.stage.querySelector(".updates"), last = this.instants.length - 1 || 1;
    const runs = runsOf(this.instants, (a, b) => a.step === b.step).filter((run) => run[0].step);
    const every = Math.ceil(runs.length / 12);
    runs.forEach((run, i) => i % every === 0 && place.append(this.updateButton(run[0], last, runs.length)));
  }

  updateButton(instant, last, count) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = count > 4 ? String(instant.step) : `update ${instant.step}`;
    button.setAttribute("aria-label", `Update ${instant.step}`);
    button.dataset.step = String(instant.step);
    button.style.left = `${(100 * Math.max(0, instant.place - 0.5)) / last}%`;
    button.addEventListener("click", () => this.go(instant.place));
    return button;
  }

  listen() {
    this.range.addEventListener("input", () => this.go(Number(this.range.value), { push: false }));
    for (const button of this.stage.querySelectorAll("[data-go]")) {
      button.addEventListener("click", () => this.act(button.dataset.go));
    }
    document.addEventListener("keydown", (event) => this.key(event));
  }

  act(what) {
    const last = this.instants.length - 1;
    if (what === "play") return this.timer ? this.stop() : this.play();
    this.stop();
    const to = { first: 0, back: this.place - 1, next: this.place + 1, last }[what];
    this.go(Math.min(Math.max(to, 0), last));
  }

  /** The keys, unless something else on the page wants them. */
  key(event) {
    const what = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "last", " ": "play" }[event.key];
    if (!what || this.stage.closest("[hidden]") || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.closest("input, textarea, select, summary, dialog, [role=tablist]") || (event.key === " " && target.closest("button, a"))) return;
    if (target.closest(".solution") || !this.inSight()) return;
    event.preventDefault();
    this.act(what);
  }

  inSight() {
    const { top, bottom } = this.stage.querySelector(".timebar").getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  }

  play() {
    if (this.place >= this.instants.length - 1) this.go(0);
    this.timer = setInterval(() => this.tick(), PLAY_EVERY);
    this.sayPlaying();
  }

  tick() {
    if (this.place >= this.instants.length - 1) return this.stop();
    this.go(this.place + 1, { push: false, keep: true });
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.sayPlaying();
  }

  sayPlaying() {
    const button = this.stage.querySelector(".play");
    button.querySelector("span").textContent = this.timer ? "Pause" : "Play";
    button.classList.toggle("is-playing", Boolean(this.timer));
  }

  /** Go to an instant. push: a new entry of the history, so that "back" returns; keep: go on playing. */
  go(place, { push = true, keep = false } = {}) {
    if (!keep && this.timer) this.stop();
    if (place === this.place) return;
    const first = this.place < 0;
    this.place = place;
    this.range.value = String(place);
    this.range.setAttribute("aria-valuetext", sentence(this.current));
    this.stage.querySelector(".count").textContent = `${place + 1} / ${this.instants.length}`;
    for (const button of this.stage.querySelectorAll(".updates button")) {
      button.setAttribute("aria-current", String(Number(button.dataset.step) === this.current.step));
    }
    this.show(this.current);
    if (!first) setTimeout(() => this.remember(push));  // after the step is on the screen
  }

  /** The place in the address. In a frame without an origin there is no address to write to. */
  remember(push) {
    const often = performance.now() - this.pushed < 250;
    if (push) this.pushed = performance.now();
    try {
      history[push && !often ? "pushState" : "replaceState"](null, "", `#${this.current.key}`);
    } catch { /* about:srcdoc, or too many in a row */ }
  }

  /** The instant that the address means: #update-2/backward/s, or #t=17, each after the chapter's name. */
  placeInAddress() {
    const wanted = decoded(location.hash.slice(1));
    const number = wanted.startsWith(this.prefix) && /^t=(\d+)$/.exec(wanted.slice(this.prefix.length));
    if (number) return Math.min(Number(number[1]), this.instants.length - 1);
    const meant = this.modules.instants.find((instant) => instant.key === wanted);
    if (!meant) return -1;
    this.modules.reveal(meant);
    return this.modules.standIn(meant, this.instants).place;
  }

  fromAddress() {
    const place = this.placeInAddress();
    if (place < 0 && location.hash && this.place >= 0) return;
    this.go(Math.max(place, 0), { push: false });
    if (place >= 0 && !this.inSight()) this.stage.scrollIntoView();
  }
}

function sentence({ step, phase, title }) {
  return [step ? `Update ${step}` : "", PHASE_WORDS[phase], title].filter(Boolean).join(", ");
}

/** A list cut into runs of like neighbours. */
function runsOf(list, alike) {
  const runs = [];
  for (const item of list) {
    if (runs.length && alike(runs.at(-1).at(-1), item)) runs.at(-1).push(item);
    else runs.push([item]);
  }
  return runs;
}
