// What if: other numbers for the givens, the weights and the step size, and everything computed again.

/** What a record's rounding lets numbers differ by, relative to the size of a quantity, and which size counts as none. */
const ROUNDING = { float64: { error: 1e-9, floor: 1e-6 }, float32: { error: 1e-4, floor: 1e-3 } };

/** The largest relative disagreement between a computed book and the record, and where it is. */
function disagreement(computed, record, floor) {
  let worst = { error: 0, name: "" };
  const compare = (name, ours, theirs, floor) => {
    const [a, b] = [flatten(ours), flatten(theirs)];
    const scale = Math.max(...b.map(Math.abs), floor, 1e-300);
    a.forEach((value, i) => {
      const error = Object.is(value, b[i]) || value === b[i] ? 0 : Math.abs(value - b[i]) / scale;
      if (!(error <= worst.error)) worst = { error, name };
    });
  };
  record.steps.forEach((step, place) => compareStep(computed.steps[place], step, compare, floor));
  return worst;
}

function compareStep(ours, theirs, compare, share) {
  for (const kind of ["values", "gradients"]) {
    const floor = share * Math.max(...Object.values(theirs[kind]).filter((v) => v !== null).flatMap(flatten).map(Math.abs), 0);
    for (const [name, value] of Object.entries(ours[kind])) {
      if (theirs[kind][name] !== null && theirs[kind][name] !== undefined) compare(name, value, theirs[kind][name], floor);
    }
  }
  for (const [name, entry] of Object.entries(theirs.parameters)) compare(name, ours.parameters[name].after, entry.after, 0);
}

/** The state of the question: the numbers at the start, what was changed, and the book that follows. */
class WhatIf {
  constructor(play, record) {
    this.play = play;
    this.why = play.whatif.why ?? "";
    if (this.why) return;
    this.model = new Model(play);
    this.start = Object.fromEntries(this.model.data.inputs.map((i) => [i.name, flatten(play.leaves[i.name])]));
    this.changes = new Map();
    const rounding = ROUNDING[this.model.data.dtype];
    const worst = disagreement(this.compute(), record, rounding.floor);
    if (worst.error > rounding.error || Number.isNaN(worst.error)) {
      this.why = `computed in the page, ${worst.name} differs from the record by ${numberText(worst.error, 2)} (relative)`;
    }
  }

  get changed() {
    return Boolean(this.changes?.size);
  }

  compute() {
    const leaves = Object.fromEntries(Object.entries(this.start).map(([name, flat]) => [name, [...flat]]));
    const hyper = { ...this.model.data.hyper };
    for (const { name, place, value } of this.changes.values()) {
      if (place < 0) hyper[name] = value;
      else leaves[name][place] = value;
    }
    return this.model.run(leaves, hyper);
  }

  /** Change one number; back at its start it is no change. */
  set(name, place, value) {
    const start = place < 0 ? this.model.data.hyper[name] : this.start[name][place];
    if (value === start) this.changes.delete(`${name} ${place}`);
    else this.changes.set(`${name} ${place}`, { name, place, value, start });
  }
}

/** The fields: a grid of numbers for each given and weight, and one for each hyper-parameter. */
class Fields {
  constructor(form, whatIf, changed) {
    this.form = form;
    this.whatIf = whatIf;
    const { inputs, hyper } = whatIf.model.data;
    for (const [name, value] of Object.entries(hyper)) form.append(this.group(HYPER_NAMES[name] ?? name, name, [], [value], -1));
    const order = { weight: 0, parameter: 0, input: 1, target: 2 };
    const sorted = [...inputs].sort((a, b) => (order[a.kind] ?? 3) - (order[b.kind] ?? 3));
    for (const input of sorted) form.append(this.group(input.label, input.name, whatIf.model.fullShape(input), whatIf.start[input.name], 0));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => this.read(event.target) && changed());
  }

  group(label, name, shape, numbers, first) {
    const group = document.createElement("fieldset");
    group.innerHTML = `<legend>${escaped(label)}</legend><div class="grid"></div>`;
    const grid = group.querySelector(".grid");
    grid.style.gridTemplateColumns = `repeat(${Math.max(shape.length > 1 ? shape.at(-1) : Math.min(numbers.length, 4), 1)}, minmax(4.2em, 6.5em))`;
    numbers.forEach((value, place) => grid.append(field(label, name, shape, first < 0 ? -1 : place, value, this.whatIf.play.base)));
    return group;
  }

  /** Take a field's number over; false while it is no number. */
  read(input) {
    const value = input.value.trim() === "" ? NaN : Number(input.value);
    const fine = Number.isFinite(value);
    input.setAttribute("aria-invalid", String(!fine));
    if (!fine) return false;
    this.whatIf.set(input.dataset.name, Number(input.dataset.place), value);
    input.classList.toggle("is-changed", String(value) !== input.dataset.start);
    return true;
  }

  reset() {
    for (const input of this.form.querySelectorAll("input")) {
      input.value = input.dataset.start;
      input.classList.remove("is-changed");
      input.setAttribute("aria-invalid", "false");
    }
    this.whatIf.changes.clear();
  }

  find(name, place) {
    return [...this.form.querySelectorAll("input")].find((input) => input.dataset.name === name && Number(input.dataset.place) === place);
  }
}

const HYPER_NAMES = { lr: "step size η (lr)", momentum: "momentum μ", weight_decay: "weight decay λ", beta1: "β₁", beta2: "β₂", eps: "ε" };

function field(label, name, shape, place, value, base) {
  const input = document.createElement("input");
  input.type = "number";
  input.step = "any";
  input.value = String(value);
  Object.assign(input.dataset, { name, place, start: String(value) });
  input.setAttribute("aria-label", place < 0 ? label : `${label} ${placeText(shape, place, base)}`.trim());
  return input;
}

/** The indices of an entry as they are printed: "2, 1". */
function placeText(shape, place, base) {
  const indices = [];
  for (let axis = shape.length - 1, rest = place; axis >= 0; axis--) {
    indices.unshift((rest % shape[axis]) + base);
    rest = Math.floor(rest / shape[axis]);
  }
  return indices.join(", ");
}

/** The tree of an equation by the reference of what it computes, with what its leaves are worth and refer to. */
class Trees {
  constructor(model) {
    this.model = model;
    this.keys = [...model.data.inputs.map((i) => i.key), ...model.data.quantities.map(([key]) => key)];
    this.shapes = [...model.data.inputs.map((i) => i.shape), ...model.data.quantities.map(([, shape]) => shape)];
  }

  /** The put-in step of an equation as MathML, or null where there is none. */
  step(ref, book) {
    const found = ref.kind === "value" || ref.kind === "gradient" ? this.quantity(ref, book) : this.assignment(ref, book);
    return found && new FormulaPrinter(this.model.data.functions, found.number, found.key).step(found.tree);
  }

  quantity(ref, book) {
    const which = this.keys.indexOf(`${ref.kind}:${ref.name}`) - this.model.data.first;
    if (which < 0) return null;
    const [, shape, trees] = this.model.data.quantities[which];
    const key = ([quantity, flat]) => `${this.keys[quantity]}:${placeOf(this.shapes[quantity], flat).join(".")}:${ref.step}`;
    return { tree: trees[flatPlace(shape, ref.index)], key, number: (leaf) => book.number(parseRef(key(leaf)), ref.step) };
  }

  assignment(ref, book) {
    const rule = this.model.rules[this.model.data.ruleOf[ref.step - 1]];
    const names = rule.trees.map(({ name }) => name);
    const node = ref.kind === "after" ? rule.outputs.w : names.find((name) => name.split("#")[0] === ref.state && name !== rule.outputs.w);
    const { shape } = this.model.data.inputs.find((input) => input.name === ref.name);
    const locals = book.steps[ref.step - 1].parameters[ref.name].columns?.[flatPlace(shape, ref.index)];
    const place = this.model.data.rules.indexOf(this.model.data.rules[this.model.data.ruleOf[ref.step - 1]]);
    const tree = this.model.data.rules[place].trees.find(([name]) => name === node)?.[1];
    if (!locals || !tree) return null;
    const kinds = { w: "before", g: "gradient" };
    const key = ([i]) => (kinds[rule.names[i]] ? `${kinds[rule.names[i]]}:${ref.name}:${ref.index.join(".")}:${ref.step}` : "");
    return { tree, key, number: ([i]) => locals[rule.names[i]] };
  }
}

function flatPlace(shape, index) {
  return index.reduce((flat, place, axis) => flat * shape[axis] + place, 0);
}

function placeOf(shape, flat) {
  const index = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(flat % shape[axis]);
    flat = Math.floor(flat / shape[axis]);
  }
  return index;
}

/** Write a book's numbers into every equation and cell below an element. */
function rewrite(root, book, trees) {
  for (const element of root.querySelectorAll("[data-ref][data-full]")) {
    if (element.closest(".put")) continue;
    const value = book.number(refOf(element), refOf(element).step);
    if (value !== undefined) writeNumber(element, value);
  }
  for (const step of root.querySelectorAll(".equation[data-ref] .put")) putIn(step, book, trees);
}

function putIn(step, book, trees) {
  step.dataset.made ??= "";
  if (!putIn.kept.has(step)) putIn.kept.set(step, step.innerHTML);
  const made = trees && trees.step(refOf(step.closest(".equation")), book);
  step.innerHTML = made ?? putIn.kept.get(step);
}
putIn.kept = new WeakMap();
