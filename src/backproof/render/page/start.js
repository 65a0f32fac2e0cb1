// Puts the stage above the solution. Whatever goes wrong here, the solution stays as it is.

class Stage {
  /** home: the chapter's element, or the body. */
  constructor(home, play, steps) {
    this.home = home;
    this.root = document.getElementById("stage").content.firstElementChild.cloneNode(true);
    this.find = (selector) => this.root.querySelector(selector);
    this.play = play;
    this.prefix = home.dataset.part ? `${home.dataset.part}/` : "";
    this.now = new Now(play, new Book(steps, play, play.leaves), this.prefix);
    const written = instantsIn(home);
    this.now.likeness = new Likeness(written, this.now.record);
    this.instants = withUnwritten(written, this);
    addSets(this.instants);
    this.views = [...home.querySelectorAll("figure[data-view]:not([data-view=module])")].map((figure) => new View(figure, this.now));
    this.views.sort((a) => (a.kind === "units" ? -1 : 1));
    this.inside = new Inside(home, this);
    this.tables = new Tables(this.find(".record-tables"), this.now);
    this.curve = new Curve(this.find(".curve"), this.now);
    this.makeTabs();
    this.makeSamples();
    this.makeWhatIf();
    this.light = new Light(this.now, home, this.root, (ref) => this.readout(ref));
    this.modules = new Modules(this.find(".modules"), this.instants, () => this.timeline.refold());
    this.timeline = new Timeline(this.root, this.modules, this.prefix, (instant) => this.show(instant));
    this.find(".panel").addEventListener("scroll", () => (this.scrolled = true), { passive: true });
  }

  // --- drawings ---
  makeTabs() {
    const list = this.find(".tabs"), names = { units: "Network", operations: "Computation" };
    this.views.forEach((view, place) => {
      list.append(this.tab(view.kind, names[view.kind] ?? view.kind, () => this.choose(place)));
    });
    this.find(".canvas").id = `${this.prefix}stage-view`;
    list.addEventListener("keydown", (event) => this.tabKey(event));
    list.hidden = this.views.length < 2;
    this.find(".view").hidden = !this.views.length;
    this.find(".stage-grid").classList.toggle("has-view", this.views.length > 0);
    if (this.views.length) this.choose(0);
  }

  tab(name, words, act) {
    const tab = document.createElement("button");
    Object.assign(tab, { type: "button", id: `${this.prefix}tab-${name}`, textContent: words });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", `${this.prefix}stage-view`);
    tab.addEventListener("click", act);
    return tab;
  }

  tabKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const place = (this.views.indexOf(this.view) + step + this.views.length) % this.views.length;
    this.choose(place);
    this.find(".tabs").children[place].focus();
    event.preventDefault();
  }

  choose(place) {
    this.view = this.views[place];
    [...this.find(".tabs").children].forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === place));
      tab.tabIndex = i === place ? 0 : -1;
    });
    this.find(".canvas").setAttribute("aria-labelledby", `${this.prefix}tab-${this.view.name}`);
    this.find(".canvas").replaceChildren(this.view.svg);
    this.find(".canvas").classList.toggle("tall", this.view.tall);
    if (this.timeline?.current) this.view.update(this.timeline.current, this.inside.sets(this.timeline.current));
  }

  // --- samples ---
  makeSamples() {
    const group = this.find(".samples");
    group.hidden = this.now.sample === null;
    if (group.hidden) return;
    const many = this.play.samples > 12;
    group.innerHTML = `<span aria-hidden="true">sample</span>`;
    for (let i = 0; i < Math.min(this.play.samples, 12); i++) group.append(this.sampleButton(i, String(i + this.play.base)));
    if (!many) group.append(this.sampleButton(null, "all"));
    this.sayChosen();
  }

  sampleButton(sample, label) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label });
    button.dataset.sample = String(sample);
    button.setAttribute("aria-label", sample === null ? "All samples" : `Sample ${label}`);
    button.addEventListener("click", () => {
      this.now.sample = sample;
      this.sayChosen();
      this.show(this.timeline.current);
    });
    return button;
  }

  sayChosen() {
    for (const button of this.find(".samples").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.dataset.sample === String(this.now.sample)));
    }
  }

  // --- what if ---
  makeWhatIf() {
    this.whatIf = new WhatIf(this.play, this.now.record);
    const place = this.find(".whatif");
    if (this.whatIf.why) {
      place.replaceWith(Object.assign(document.createElement("p"), { className: "no-whatif", textContent: `No “what if” here: ${this.whatIf.why}.` }));
      return;
    }
    this.root.classList.add("can-whatif");
    if (this.whatIf.model.data.dtype === "float32") {
      place.querySelector("small").append(" The record is in float32; here it is computed in float64, and the two agree within float32’s rounding.");
    }
    this.trees = new Trees(this.whatIf.model);
    this.fields = new Fields(place.querySelector("form"), this.whatIf, () => this.recompute());
    this.find(".changed button").addEventListener("click", () => this.reset());
    this.find(".canvas").addEventListener("click", (event) => this.edit(event.target));
  }

  /** A click on a weight or a given in the drawing opens its field. */
  edit(target) {
    const shape = target.closest("[data-ref]");
    const ref = shape && this.now.placed(refOf(shape), shape);
    const input = ref && this.whatIf.model.data.inputs.find(({ name }) => name === ref.name);
    if (!input || ["gradient", "state"].includes(ref.kind)) return;
    this.find(".whatif").open = true;
    if (ref.index.includes(null)) return;  // all samples: no single field is meant
    const field = this.fields.find(ref.name, flatPlace(this.whatIf.model.fullShape(input), ref.index));
    field?.focus();
    field?.select();
  }

  reset() {
    this.fields.reset();
    this.recompute();
    this.find(".whatif summary").focus();
  }

  recompute() {
    this.now.book = this.whatIf.changed ? this.whatIf.compute() : this.now.record;
    this.root.classList.toggle("is-whatif", this.whatIf.changed);
    this.home.classList.toggle("has-whatif", this.whatIf.changed);
    this.find(".changed").hidden = !this.whatIf.changed;
    this.find(".changed span").textContent = this.changesInWords();
    this.show(this.timeline.current);
    clearTimeout(this.later);
    this.later = setTimeout(() => this.rewriteSolution(), 200);
  }

  changesInWords() {
    const inputs = this.whatIf.model.data.inputs;
    return [...this.whatIf.changes.values()].map(({ name, place, value, start }) => {
      const input = inputs.find((i) => i.name === name);
      const label = place < 0 ? name : `${input.label} ${placeText(this.whatIf.model.fullShape(input), place, this.play.base)}`;
      return `${label.trim()}: ${start} → ${value}`;
    }).join(" · ");
  }

  /** The solution below follows too; numbers of the analyses around it stay what they were, and say so. */
  rewriteSolution() {
    for (const instant of this.instants) if (instant.made !== null) this.follow(instant);
    for (const table of this.home.querySelectorAll(".solution details table")) rewrite(table, this.now.book, null);
  }

  /** Write the present book into an instant of the solution, unless it stands there already. */
  follow(instant) {
    if ((instant.book ?? this.now.record) === this.now.book) return;
    rewrite(instant.element, this.now.book, this.whatIf.changed || instant.made ? this.trees : null);
    instant.book = this.now.book;
  }

  // --- an instant ---
  show(instant) {
    this.now.step = instant.step || (instant.phase === "result" ? this.play.updates : 1);
    this.root.dataset.phase = instant.phase;
    this.find(".now-phase").className = `now-phase phase-${instant.phase}`;
    this.find(".now-phase .phase").textContent = PHASE_WORDS[instant.phase] ?? "";
    const record = this.now.record.steps[instant.step - 1];
    const sample = this.play.bySample && record ? `, sample ${(record.sample ?? 0) + this.play.base}` : "";
    this.find(".now-title").textContent = [instant.step ? `Update ${instant.step}${sample}` : "", instant.title].filter(Boolean).join(" · ");
    this.fill(instant);
    this.inside.follow(instant);
    this.view?.update(instant, this.inside.sets(instant));
    this.find(".view-note").textContent = this.now.isAll ? `numbers: mean of ${this.play.samples} samples` : "";
    this.tables.update(instant, instant.sets, this.now.sample);
    this.curve.update({ step: this.now.step }, this.whatIf.changed ? [this.now.book, this.now.record] : [this.now.record]);
    this.modules.update(instant);
    this.find(".status").textContent = sentence(instant);
  }

  /** The formulas of the instant, for the chosen sample. */
  fill(instant) {
    this.follow(instant);
    const panel = this.find(".panel"), copy = instant.element.cloneNode(true);
    for (const marked of copy.querySelectorAll("[id], [aria-labelledby]")) {
      marked.removeAttribute("id");
      marked.removeAttribute("aria-labelledby");
    }
    const kept = this.forSample([...copy.querySelectorAll(".equation[data-ref]")]);
    copy.classList.toggle("few", kept <= 4);
    for (const equation of copy.querySelectorAll(".equation[data-ref]")) this.focusable(equation);
    for (const scroll of copy.querySelectorAll(".scroll")) unframe(scroll);
    for (const other of copy.querySelectorAll(".plot-data, figure[data-view]")) other.remove();
    for (const details of copy.querySelectorAll("details")) details.replaceWith(...details.querySelector(".folded").childNodes);
    panel.replaceChildren(...copy.childNodes);
    panel.classList.toggle("few", kept <= 4);
    if (this.now.sample !== null && instant.computes.some((ref) => this.now.batched.has(ref.name))) hideMatrices(panel);
    if (this.scrolled) panel.scrollTop = 0;  // asking for it, or setting it, costs a layout
    this.scrolled = false;
  }

  /** An equation can be reached with the Tab key, and then says its result in full. */
  focusable(equation) {
    equation.tabIndex = 0;
    equation.setAttribute("role", "group");
    equation.setAttribute("aria-label", this.inWords(refOf(equation)));
  }

  /** Take out the other samples' equations; returns how many entries are left. */
  forSample(equations) {
    let kept = 0;
    for (const equation of equations) {
      const ref = refOf(equation);
      const other = this.now.sample !== null && this.now.batched.has(ref.name) && ref.index.length && ref.index[0] !== this.now.sample;
      if (other) equation.remove();
      else if (ref.index.length || equations.length === 1) kept++;
    }
    return kept;
  }

  /** What is pointed at, in full. */
  readout(ref) {
    this.find(".readout").textContent = ref ? this.inWords(ref) : "";
  }

  /** A quantity's name, place and number: "gradient by W 1, 2 = -0.01998". */
  inWords(ref) {
    const place = ref.index.map((i) => (i === null ? "·" : i + this.play.base)).join(", ");
    const mean = ref.index[0] === null ? `mean of ${this.play.samples} samples:` : "";
    const words = [mean, KIND_WORDS[ref.kind], ref.state, ref.name, place].filter(Boolean).join(" ");
    const value = this.now.number(ref);
    return value === undefined ? words : `${words} = ${fullText(value)}`;
  }
}

const KIND_WORDS = { gradient: "gradient by", after: "updated" };

/** With one sample chosen, the matrix of all samples is left to the tables. */
function hideMatrices(panel) {
  for (const matrix of panel.querySelectorAll(".step:last-child:not(:first-child) mtable.matrix")) {
    matrix.closest(".step").classList.add("for-all");
  }
}

/** In the panel nothing scrolls by itself. */
function unframe(scroll) {
  for (const name of ["role", "aria-label", "aria-labelledby"]) scroll.removeAttribute(name);
}

function start() {
  if (!document.querySelector("script.data-play")) return;
  document.addEventListener("copy", copyInFull);
  const chapters = new Chapters();
  chapters.fromAddress();
  if (chapters.list.length === 1 && !chapters.list[0].stage) return;
  document.body.classList.add("has-stage");
  document.getElementById("title").after(new Tools(document.getElementById("tools")).root);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start();
