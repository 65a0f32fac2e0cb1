// Formulas with their numbers put in, as MathML: the same rules for parentheses and signs as render/printer.py.

const LEVEL = { relation: 0, sum: 1, leading: 2, term: 3, product: 4, factor: 5, fraction: 6, power: 7, atom: 8 };
const HEAD_LEVEL = { "+": "sum", n: "leading", "*": "product", "/": "fraction", "^": "power", "[]": "atom", cases: "sum" };
const SIGNS = { ">": "&gt;", ">=": "≥", "<": "&lt;", "<=": "≤", "=": "=", "!=": "≠" };

const infix = (sign) => `<mo form="infix">${sign}</mo>`;
const prefix = '<mo form="prefix">−</mo>';
const row = (pieces) => (pieces.length === 1 ? pieces[0] : `<mrow>${pieces.join("")}</mrow>`);

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** MathML of a number without its sign. */
function sizeMath(value) {
  const [digits, power] = decimal(value);
  if (!power) return `<mn>${digits}</mn>`;
  const raised = power < 0 ? `<mrow>${prefix}<mn>${-power}</mn></mrow>` : `<mn>${power}</mn>`;
  return `<mrow><mn>${digits}</mn>${infix("·")}<msup><mn>10</mn>${raised}</msup></mrow>`;
}

/** Prints trees; `number` says what a leaf is worth and `key` what it refers to. */
class FormulaPrinter {
  constructor(functions, number, key) {
    this.functions = functions;
    this.number = number;
    this.key = key;
  }

  /** The number that a tree is, or undefined for anything else. */
  value(tree) {
    if (typeof tree === "number") return tree;
    return typeof tree[0] === "number" ? this.number(tree) : undefined;
  }

  isNegative(tree) {
    const value = this.value(tree);
    return value === undefined ? tree[0] === "n" : value < 0;
  }

  level(tree) {
    const value = this.value(tree);
    if (value !== undefined) return value < 0 ? LEVEL.leading : decimal(value)[1] ? LEVEL.product : LEVEL.atom;
    if (tree[0] === "f") return this.isRoot(tree) || this.isPowerOfE(tree) ? LEVEL.power : LEVEL.atom;
    return tree[0].startsWith("rel") ? LEVEL.relation : LEVEL[HEAD_LEVEL[tree[0]]];
  }

  isRoot(tree) {
    return tree[0] === "f" && this.functions[tree[1]].name === "sqrt" && !this.functions[tree[1]].primes;
  }

  isPowerOfE(tree) {
    const made = this.functions[tree[1]];
    return made.name === "exp" && !made.primes && this.count(tree[2]) <= 4;
  }

  /** The number of numbers in a flat formula; many where something tall is inside. */
  count(tree) {
    if (this.value(tree) !== undefined) return 1;
    return ["+", "n", "*", "^"].includes(tree[0]) ? tree.slice(1).reduce((n, part) => n + this.count(part), 0) : 99;
  }

  show(tree, within) {
    const body = this.body(tree, this.level(tree) < within ? LEVEL.relation : within);
    return this.level(tree) < within ? this.fence(body, tree) : body;
  }

  fence(body, tree, left = "(", right = ")") {
    const grows = `stretchy="${this.isTall(tree)}" lspace="0" rspace="0"`;
    const mark = (form, sign) => `<mo form="${form}" fence="true" ${grows}>${sign}</mo>`;
    return `<mrow>${mark("prefix", left)}${body}${mark("postfix", right)}</mrow>`;
  }

  isTall(tree) {
    if (this.value(tree) !== undefined) return false;
    return tree[0] === "/" || tree[0] === "cases" || tree.slice(tree[0] === "f" ? 2 : 1).some((part) => this.isTall(part));
  }

  /** A number's element with what it refers to and its full precision. */
  marked(body, tree) {
    if (typeof tree === "number") return body;
    const key = this.key(tree);
    const added = `${key && ` data-ref="${escaped(key)}"`} data-full="${fullText(this.number(tree))}"`;
    return body.replace(/^<\w+/, (start) => start + added);
  }

  body(tree, within) {
    const value = this.value(tree);
    if (value !== undefined) return this.marked(value < 0 ? row([prefix, sizeMath(-value)]) : sizeMath(value), tree);
    const [head, ...parts] = tree;
    if (head === "+") return row([this.show(parts[0], LEVEL.leading), ...parts.slice(1).flatMap((part) => this.signed(part))]);
    if (head === "*") return row(this.factors(parts, within));
    if (head === "n") return row([prefix, this.show(parts[0], LEVEL.term)]);
    if (head === "/") return `<mfrac>${this.show(parts[0], 0)}${this.show(parts[1], 0)}</mfrac>`;
    if (head === "^") return `<msup>${this.show(parts[0], LEVEL.atom)}${this.show(parts[1], 0)}</msup>`;
    if (head === "[]") return this.fence(this.show(parts[0], 0), parts[0], "[", "]");
    if (head === "cases") return this.cases(parts);
    return head === "f" ? this.call(tree) : this.relation(head.slice(3), parts);
  }

  /** A later term of a sum, with its sign before it. */
  signed(term) {
    const size = this.isNegative(term) ? this.withoutSign(term) : this.show(term, LEVEL.term);
    return [infix(this.isNegative(term) ? "−" : "+"), size];
  }

  withoutSign(term) {
    const value = this.value(term);
    if (value === undefined) return this.show(term[1], LEVEL.term);
    return this.marked(sizeMath(-value), term);
  }

  factors(parts, within) {
    const first = within <= LEVEL.leading && this.isNegative(parts[0]) ? LEVEL.leading : LEVEL.factor;
    const later = parts.slice(1).flatMap((part) => [this.between(part), this.show(part, LEVEL.factor)]);
    return [this.show(parts[0], first), ...later];
  }

  between(part) {
    return this.isRoot(part) ? '<mo>\u2062</mo><mspace width="0.17em"></mspace>' : infix("·");
  }

  relation(sign, [left, right]) {
    return row([this.show(left, LEVEL.sum), infix(SIGNS[sign]), this.show(right, LEVEL.sum)]);
  }

  call([, name, ...args]) {
    const made = this.functions[name];
    if (this.isRoot(["f", name])) return `<msqrt>${this.show(args[0], 0)}</msqrt>`;
    if (this.isPowerOfE(["f", name, ...args])) return `<msup><mi>e</mi>${this.show(args[0], 0)}</msup>`;
    if (made.name === "abs" && !made.primes) return this.fence(this.show(args[0], 0), args[0], "|", "|");
    const title = `<mi>${escaped(made.text || made.name)}</mi>`;
    const shown = made.primes ? `<msup>${title}<mo>${"′".repeat(made.primes)}</mo></msup>` : title;
    const list = args.flatMap((arg) => ['<mo separator="true">,</mo>', this.show(arg, LEVEL.sum)]).slice(1);
    return `<mrow>${shown}<mo>\u2061</mo>${this.fence(row(list), ["f", name, ...args])}</mrow>`;
  }

  cases(parts) {
    const rows = [];
    for (let place = 0; place < parts.length; place += 2) rows.push(this.caseRow(parts[place], parts[place + 1]));
    return `<mrow><mo form="prefix" fence="true" stretchy="true">{</mo><mtable class="cases">${rows.join("")}</mtable></mrow>`;
  }

  caseRow(value, test) {
    const when = test === undefined ? "<mtext>otherwise</mtext>" : `<mrow><mtext>if\u00a0</mtext>${this.show(test, 0)}</mrow>`;
    return `<mtr><mtd>${this.show(value, 0)}</mtd><mtd>${when}</mtd></mtr>`;
  }

  /** A step "= ..." of a chain; a sum in one piece for each term, so that lines can break between them. */
  step(tree) {
    const math = (body) => `<math displaystyle="true">${body}</math>`;
    if (this.value(tree) !== undefined || tree[0] !== "+") return math(row([infix("="), this.show(tree, LEVEL.sum)]));
    const [first, ...rest] = tree.slice(1);
    const pieces = rest.map((term) => math(row(this.signed(term))));
    return [math(row([infix("="), this.show(first, LEVEL.leading)])), ...pieces].join(" ");
  }
}
