// The record of all updates, and how a reference (data-ref) is looked up in it.

/** A reference from its text form kind:name:index:step[:state]; the name may hold colons. */
function parseRef(text) {
  const parts = text.split(":");
  const kind = parts.shift();
  const state = kind === "state" ? parts.pop() : "";
  const step = Number(parts.pop());
  const place = parts.pop();
  const index = place === "" ? [] : place.split(".").map(Number);
  return { kind, name: parts.join(":"), index, step, state };
}

const parsedRefs = new Map();

/** A parsed reference of an element, remembered by its text. */
function refOf(element) {
  const text = element.dataset.ref;
  if (!parsedRefs.has(text)) parsedRefs.set(text, parseRef(text));
  return parsedRefs.get(text);
}

/** One entry of nested lists. */
function entryOf(nested, index) {
  let found = nested;
  for (const place of index) found = Array.isArray(found) ? found[place] : undefined;
  return found === undefined || found === null || typeof found === "object" ? undefined : fromJson(found);
}

/** A book of numbers: the steps of a record, with the leaves they start from. */
class Book {
  constructor(steps, play, leaves) {
    this.steps = steps;
    this.play = play;
    this.leaves = leaves;
  }

  /** The number that a reference means in an update; undefined where the record has none. */
  number(ref, step) {
    const record = this.steps[step - 1];
    if (!record) return this.given(ref, null);
    const parameter = record.parameters[ref.name];
    if (ref.kind === "gradient") return entryOf(record.gradients[ref.name], ref.index);
    if (ref.kind === "after") return parameter && entryOf(parameter.after, ref.index);
    if (ref.kind === "state") return parameter && this.state(parameter, ref);
    if (parameter) return entryOf(parameter.before, ref.index);
    const value = record.values[ref.name];
    return value === undefined ? this.given(ref, record.sample) : entryOf(value, ref.index);
  }

  /** A state after the update, or a step on the way to it, which only a computed book has. */
  state(parameter, ref) {
    const found = parameter.state[ref.state] ?? (parameter.inner && parameter.inner[ref.state]);
    return entryOf(found, ref.index);
  }

  /** A given number; with one update per sample, the rows of that sample alone are used. */
  given(ref, sample) {
    const ownRow = this.play.bySample && this.play.batched.includes(ref.name) && sample !== null;
    const index = ownRow && ref.index.length ? [ref.index[0] + (sample ?? 0), ...ref.index.slice(1)] : ref.index;
    return entryOf(this.leaves[ref.name], index);
  }

  loss(step) {
    const loss = this.steps[step - 1].loss;
    return loss === null ? undefined : fromJson(loss);
  }
}
