// The loss over the updates as a small curve; a dot for the present update, the original as a dashed line behind a what-if.

const CURVE = { width: 320, height: 150, left: 50, right: 12, top: 12, bottom: 26 };

class Curve {
  constructor(place, now) {
    this.place = place;
    this.now = now;
  }

  update(instant, books) {
    const lines = books.map((book) => book.steps.map((_, place) => book.loss(place + 1)).filter((v) => v !== undefined));
    this.place.hidden = !(lines[0]?.length > 1);
    this.place.parentElement.classList.toggle("has-curve", !this.place.hidden);
    if (this.place.hidden) return;
    this.place.innerHTML = curveSvg(lines, instant.step);
  }
}

function curveSvg(lines, step) {
  const finite = lines.flat().filter(Number.isFinite);
  const low = Math.min(...finite), high = Math.max(...finite), log = low > 0 && high / low > 1000;
  const scale = (v) => (log ? Math.log10(v) : v);
  const span = scale(high) - scale(low) || 1, count = Math.max(...lines.map((line) => line.length)) - 1;
  const x = (i) => CURVE.left + (i / count) * (CURVE.width - CURVE.left - CURVE.right);
  const y = (v) => CURVE.top + (1 - (scale(v) - scale(low)) / span) * (CURVE.height - CURVE.top - CURVE.bottom);
  const path = (line) => line.map((v, i) => (Number.isFinite(v) ? `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}` : "")).join("").replace(/^L/, "M");
  const paths = lines.map((line, place) => `<path class="${place ? "before" : "line"}" d="${path(line)}"></path>`).reverse();
  const here = lines[0][step - 1];
  const dot = Number.isFinite(here) ? `<circle cx="${x(step - 1)}" cy="${y(here)}" r="5"></circle>` : "";
  const text = (label, px, py, anchor) => `<text x="${px}" y="${py}" text-anchor="${anchor}">${label}</text>`;
  const labels = text(numberText(high, 3), CURVE.left - 8, CURVE.top + 4, "end") + text(numberText(low, 3), CURVE.left - 8, CURVE.height - CURVE.bottom + 4, "end") +
    text("update 1", CURVE.left, CURVE.height - 8, "start") + text(count + 1, CURVE.width - CURVE.right, CURVE.height - 8, "end");
  const base = `<path class="axis" d="M${CURVE.left} ${CURVE.height - CURVE.bottom}H${CURVE.width - CURVE.right}"></path>`;
  const words = `The loss before each update: ${lines[0].map((v) => numberText(v)).slice(0, 12).join(", ")}`;
  return `<svg viewBox="0 0 ${CURVE.width} ${CURVE.height}" role="img" aria-label="${words}">${base}${paths.join("")}${dot}${labels}</svg>`;
}
