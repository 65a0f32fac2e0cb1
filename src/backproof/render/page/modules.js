// Modules of a large network open and close, in every pass and update at once, on the time axis and in the solution.

class Modules {
  /** changed: called after a module opened or closed. */
  constructor(place, instants, changed) {
    this.place = place;
    this.instants = instants;
    this.changed = changed;
    this.open = new Set();
    this.wholes = instants.filter((instant) => instant.module);
    this.names = new Set(this.wholes.map((whole) => whole.module));
    for (const whole of this.wholes) whole.details.addEventListener("toggle", () => this.follow(whole));
    place.hidden = !this.wholes.length;
    place.querySelector("[data-all=open]").addEventListener("click", () => this.set(this.names, true));
    place.querySelector("[data-all=close]").addEventListener("click", () => this.set(this.names, false));
  }

  /** A module was opened or closed in the solution below. */
  follow({ module, details }) {
    if (details.open !== this.open.has(module)) this.set([module], details.open);
  }

  set(names, open) {
    for (const name of names) open ? this.open.add(name) : this.open.delete(name);
    for (const whole of this.wholes) whole.details.open = this.open.has(whole.module);
    this.changed();
  }

  /** The instants to step through: a closed module is one, an open one is its parts. */
  visible() {
    return this.instants.filter((instant) => this.closedAround(instant).length === 0 && !this.open.has(instant.module));
  }

  closedAround(instant) {
    return around(instant).filter(({ module }) => !this.open.has(module));
  }

  /** The instant to step to that stands for another one: the closed module around it, or its first part. */
  standIn(instant, visible) {
    const closed = this.closedAround(instant)[0];
    return closed ?? visible.find((other) => other === instant || around(other).includes(instant));
  }

  /** Open what an instant lies in. */
  reveal(instant) {
    const closed = this.closedAround(instant);
    if (closed.length) this.set(closed.map(({ module }) => module), true);
  }

  /** A button for each module around an instant, and for itself. */
  update(instant) {
    if (this.place.hidden) return;
    const chain = [...around(instant), instant].filter(({ module }) => module);
    const focused = this.place.contains(document.activeElement) ? document.activeElement.dataset.module : undefined;
    const list = this.place.querySelector(".module-list");
    list.replaceChildren(...chain.map(({ module }) => this.button(module)));
    if (focused) [...list.children].find((button) => button.dataset.module === focused)?.focus();
  }

  button(module) {
    const button = document.createElement("button"), open = this.open.has(module);
    button.type = "button";
    button.textContent = `Parts of ${module}`;
    button.dataset.module = module;
    button.setAttribute("aria-expanded", String(open));
    button.addEventListener("click", () => this.set([module], !open));
    return button;
  }
}

/** The modules that an instant lies in, the outermost first. */
function around({ parent }) {
  return parent ? [...around(parent), parent] : [];
}
