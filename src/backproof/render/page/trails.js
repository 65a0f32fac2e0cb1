"use strict";
// The slider under a picture of runs: each way is drawn up to the chosen update, and its end mark moves along.
for (const figure of document.querySelectorAll('figure[data-view="trails"]')) {
  const label = figure.querySelector(".trail-slider");
  const slider = label.querySelector("input"), said = label.querySelector("output");
  const ways = [...figure.querySelectorAll("path.role-trail")].map((path) => ({
    path,
    points: path.getAttribute("d").slice(1).split("L"),
    mark: path.nextElementSibling,
  }));
  const most = Math.max(...ways.map((way) => way.points.length)) - 1;
  slider.max = most;
  slider.value = most;
  const show = () => {
    const step = Number(slider.value);
    said.textContent = `${step} of ${most}`;
    for (const { path, points, mark } of ways) {
      const last = Math.min(step, points.length - 1);
      const shown = points.slice(0, last + 1);
      path.setAttribute("d", `M${(shown.length > 1 ? shown : [shown[0], shown[0]]).join("L")}`);
      const [x, y] = points[last].split(" ").map(Number), [a, b] = points[points.length - 1].split(" ").map(Number);
      if (mark) mark.setAttribute("transform", `translate(${x - a} ${y - b})`);
    }
  };
  slider.addEventListener("input", show);
  label.hidden = false;
  show();
}
