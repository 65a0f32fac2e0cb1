// How numbers are written: four significant digits, as in render/notation.py. In full they are JavaScript's
// shortest form, which has the same digits as Python's.

/** The first `count` digits of a positive number, rounded half to even on its exact expansion, and its power of ten. */
function roundedDigits(size, count) {
  const [mantissa, power] = size.toExponential(60).split("e");
  const digits = mantissa.replace(".", "");
  const rest = digits.slice(count);
  const half = "5" + "0".repeat(rest.length - 1);
  let head = BigInt(digits.slice(0, count));
  if (rest > half || (rest === half && head % 2n === 1n)) head += 1n;
  const text = String(head);
  return text.length > count ? [text.slice(0, count), Number(power) + 1] : [text, Number(power)];
}

/** The size of a number as it is shown: its digits, and a power of ten (0 where none is written). */
function decimal(value, count = 4) {
  const size = Math.abs(value);
  if (Number.isNaN(size)) return ["nan", 0];
  if (!Number.isFinite(size)) return ["∞", 0];
  if (Number.isInteger(size) && size < 1e7) return [String(size), 0];
  let [digits, power] = roundedDigits(size, count);
  const [longer, longerPower] = roundedDigits(size, 12);
  // 0.1 + 0.2 is shown as 0.3: what differs only in the last binary digits is noise
  if (longer === digits.padEnd(12, "0") && longerPower === power) digits = digits.replace(/0+$/, "");
  return power < -4 || power >= 5 ? [withPoint(digits, 0), power] : [withPoint(digits, power), 0];
}

/** Digits with a decimal point after the first `power + 1` of them. */
function withPoint(digits, power) {
  if (power < 0) return "0." + "0".repeat(-power - 1) + digits;
  const whole = digits.slice(0, power + 1).padEnd(power + 1, "0");
  return digits.length > power + 1 ? `${whole}.${digits.slice(power + 1)}` : whole;
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** A number as text: −0.0179, 1.97·10⁻⁵. */
function numberText(value, count = 4) {
  const [digits, power] = decimal(value, count);
  const sign = value < 0 ? "−" : "";
  const raised = [...String(power)].map((sign) => RAISED[sign]).join("");
  return power ? `${sign}${digits}·10${raised}` : sign + digits;
}

/** A number in full precision, as Python prints it. */
function fullText(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const text = String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e16) return Object.is(value, -0) ? "-0.0" : `${text}.0`;
  const [head, power] = text.split("e");
  const size = Math.abs(value);
  if (size < 1e-4 && !power) return pythonPower(value.toExponential());
  return power ? pythonPower(text) : head;
}

/** 1e-7 as Python has it: 1e-07. */
function pythonPower(text) {
  const [head, power] = text.split("e");
  const size = String(Math.abs(Number(power))).padStart(2, "0");
  return `${head}e${Number(power) < 0 ? "-" : "+"}${size}`;
}

/** A number as it stands in JSON: inf and nan are words there. */
function fromJson(value) {
  if (typeof value === "number") return value;
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : NaN;
}
