// Formulas as trees (see studies/whatif.py) become functions once, and are then computed as often as wanted.

const RELATIONS = {
  ">": (a, b) => a > b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, "<=": (a, b) => a <= b,
  "=": (a, b) => a === b, "!=": (a, b) => a !== b,
};

const ELEMENTARY = {
  Abs: Math.abs, sign: Math.sign, floor: Math.floor, ceiling: Math.ceil, exp: Math.exp, log: Math.log,
  sin: Math.sin, cos: Math.cos, tan: Math.tan, asin: Math.asin, acos: Math.acos, atan: Math.atan,
  sinh: Math.sinh, cosh: Math.cosh, tanh: Math.tanh, asinh: Math.asinh, acosh: Math.acosh, atanh: Math.atanh,
  Max: Math.max, Min: Math.min, erf: errorFunction,
};

/** erf by its series near zero and its continued fraction further out; both reach the last digits. */
function errorFunction(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size > 2.5) return Math.sign(x) * (1 - complement(size));
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum) && n < 200; n++) {
    term *= -x * x / n;
    sum += term / (2 * n + 1);
  }
  return sum * 2 / Math.sqrt(Math.PI);
}

function complement(x) {
  let fraction = x;
  for (let n = 80; n >= 1; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (fraction * Math.sqrt(Math.PI));
}

/** A tree as a function of the environment: a list of number lists, one for each quantity. */
function compiled(tree, functions) {
  if (typeof tree === "number") return () => tree;
  if (typeof tree[0] === "number") return (env) => env[tree[0]][tree[1]];
  if (tree[0] === "f") return calledFunction(tree, functions);
  return combined(tree[0], tree.slice(1).map((part) => compiled(part, functions)), tree);
}

function calledFunction([, name, ...args], functions) {
  const body = compiled(functions[name].body, functions);
  const inner = args.map((arg) => compiled(arg, functions));
  return (env) => body(inner.map((arg) => arg(env)));
}

function combined(head, parts, tree) {
  if (head === "x") return (env) => env[tree[1]];  // an operand of an operation's own formula
  if (head === "+") return (env) => parts.reduce((sum, part) => sum + part(env), 0);
  if (head === "*") return (env) => parts.reduce((product, part) => product * part(env), 1);
  if (head === "n") return (env) => -parts[0](env);
  if (head === "/") return (env) => parts[0](env) / parts[1](env);
  if (head === "^") return (env) => power(parts[0](env), parts[1](env));
  if (head === "[]") return (env) => (parts[0](env) ? 1 : 0);
  if (head === "cases") return (env) => chosen(parts, env);
  if (head.startsWith("rel")) return relation(RELATIONS[head.slice(3)], parts);
  return elementary(ELEMENTARY[head.slice(1)], parts);
}

function relation(holds, [left, right]) {
  return (env) => (holds(left(env), right(env)) ? 1 : 0);
}

function elementary(apply, parts) {
  return (env) => apply(...parts.map((part) => part(env)));
}

/** Small whole powers are products, and x to 1/2 is a root: exact where Math.pow may be off in the last digit. */
function power(base, exponent) {
  if (exponent === 2) return base * base;
  if (exponent === 0.5) return Math.sqrt(base);
  if (exponent === -0.5) return 1 / Math.sqrt(base);
  return Math.pow(base, exponent);
}

/** The value of the first case whose condition holds; a last part without one is "otherwise". */
function chosen(parts, env) {
  for (let place = 0; place + 1 < parts.length; place += 2) {
    if (parts[place + 1](env)) return parts[place](env);
  }
  return parts.length % 2 ? parts[parts.length - 1](env) : NaN;
}

/** A network that can be computed again: its formulas, compiled. */
class Model {
  constructor(play) {
    const data = play.whatif;
    this.play = play;
    this.data = data;
    this.quantities = data.quantities.map(([key, shape, trees]) => ({
      ...parseRef(`${key}::0`), shape, compute: trees.map((tree) => compiled(tree, data.functions)),
    }));
    this.rules = data.rules.map((rule) => ({
      ...rule, trees: rule.trees.map(([name, tree]) => ({ name, compute: compiled(tree, data.functions) })),
    }));
  }

  /** Compute all updates from the leaves' numbers (flat lists by name) and the hyper-parameters. */
  run(leaves, hyper) {
    const state = { now: { ...leaves }, kept: {}, total: {} };
    const names = this.data.state;
    for (const name of this.play.trained) {
      state.kept[name] = Object.fromEntries(names.map((s) => [s, leaves[name].map(() => 0)]));
    }
    const steps = [];
    for (let step = 1; step <= this.play.updates; step++) steps.push(this.step(step, state, hyper));
    const nested = Object.fromEntries(this.data.inputs.map((i) => [i.name, nest(leaves[i.name], this.fullShape(i))]));
    return new Book(steps, this.play, nested);
  }

  /** The shape of a leaf with all its samples, where the formulas see one of them. */
  fullShape(input) {
    return this.isCut(input) ? [this.play.samples, ...input.shape.slice(1)] : input.shape;
  }

  isCut(input) {
    return this.play.bySample && this.data.sampled.includes(input.name);
  }

  /** What one update sees of a leaf. */
  seen(input, flat, sample) {
    if (!this.isCut(input)) return flat;
    const size = flat.length / this.play.samples;
    return flat.slice(sample * size, (sample + 1) * size);
  }

  step(number, state, hyper) {
    const sample = this.play.bySample ? (number - 1) % this.play.samples : null;
    const env = this.data.inputs.map((input) => this.seen(input, state.now[input.name], sample));
    const found = { step: number, sample, loss: null, values: {}, gradients: {}, parameters: {} };
    const gradients = {};
    for (const quantity of this.quantities) {
      const flat = quantity.compute.map((entry) => entry(env));
      env.push(flat);
      if (quantity.kind === "gradient") gradients[quantity.name] = flat;
      const book = quantity.kind === "gradient" ? found.gradients : found.values;
      book[quantity.name] = nest(flat, quantity.shape);
    }
    if (this.play.loss in found.values) found.loss = found.values[this.play.loss];
    while (Array.isArray(found.loss)) found.loss = found.loss[0];
    for (const name of this.play.trained) this.update(number, name, this.summed(name, gradients[name], state), state, hyper, found);
    return found;
  }

  /** The gradient that an update uses: where gradients are not cleared, the sum of all so far. */
  summed(name, gradient, { total }) {
    if (!this.data.accumulate || !gradient) return gradient;
    total[name] = gradient.map((value, i) => value + (total[name]?.[i] ?? 0));
    return total[name];
  }

  update(number, name, gradient, state, hyper, found) {
    const { shape } = this.data.inputs.find((input) => input.name === name);
    const before = state.now[name];
    const entry = { before: nest(before, shape), gradient: null, after: nest(before, shape), state: {}, inner: {} };
    found.parameters[name] = entry;
    if (!gradient || !this.rules.length) return;
    entry.gradient = nest(gradient, shape);
    const rule = this.rules[this.data.ruleOf[number - 1]];
    const columns = before.map((w, i) => this.assign(rule, w, gradient[i], number, hyper, state.kept[name], i));
    const column = (node) => columns.map((locals) => locals[node]);
    entry.columns = columns;
    for (const { name: node } of rule.trees) {
      if (node !== rule.outputs.w) entry.inner[node.split("#")[0]] = nest(column(node), shape);
    }
    state.now[name] = column(rule.outputs.w);
    entry.after = nest(state.now[name], shape);
    for (const kept of this.data.state) {
      state.kept[name][kept] = column(rule.outputs[kept]);
      entry.state[kept] = nest(state.kept[name][kept], shape);
    }
  }

  /** The assignments of the rule for one entry: a mapping from each name to its number. */
  assign(rule, w, g, t, hyper, kept, place) {
    const locals = { w, g, t, ...hyper };
    for (const name of this.data.state) locals[name] = kept[name][place];
    const env = rule.names.map((name) => [locals[name]]);
    for (const { name, compute } of rule.trees) {
      locals[name] = compute(env);
      env[rule.names.indexOf(name)][0] = locals[name];
    }
    return locals;
  }
}

/** A flat list as nested lists of a shape. */
function nest(flat, shape) {
  if (!shape.length) return flat[0];
  if (shape.length === 1) return [...flat];
  const size = flat.length / shape[0];
  return Array.from({ length: shape[0] }, (_, row) => nest(flat.slice(row * size, (row + 1) * size), shape.slice(1)));
}

/** Nested lists as one flat list of numbers. */
function flatten(nested) {
  return Array.isArray(nested) ? nested.flatMap(flatten) : [fromJson(nested)];
}
