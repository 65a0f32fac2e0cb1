// The buttons of the header: print the page, take its LaTeX source along.

/** Whether the browser may refuse to save a file or to print, and without a word: in a frame without an origin. */
function isShutIn() {
  return origin === "null" && (window !== window.top || location.protocol !== "file:");
}

class Tools {
  constructor(template) {
    this.root = template.content.firstElementChild.cloneNode(true);
    this.dialog = this.root.querySelector("dialog");
    this.shutIn = isShutIn();
    this.on("print", () => print()).hidden = this.shutIn;
    this.on("latex", async () => (this.shutIn ? this.show(await source()) : this.save(await source())));
    this.on("copy", () => this.copy());
    this.on("close", () => this.dialog.close());
  }

  on(name, act) {
    const button = this.root.querySelector(`[data-tool=${name}]`);
    button.addEventListener("click", act);
    return button;
  }

  save(text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/x-tex" }));
    link.download = fileName(document.title);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  show(source) {
    const text = this.dialog.querySelector("textarea");
    text.value = source;
    this.dialog.querySelector("output").textContent = "";
    this.dialog.showModal();
    text.focus();
    text.setSelectionRange(0, 0);
  }

  /** The old way of copying works in a frame too, where the clipboard is out of reach. */
  copy() {
    this.dialog.querySelector("textarea").select();
    const done = document.execCommand("copy");
    this.dialog.querySelector("output").textContent = done ? "Copied." : "Selected: copy it with Ctrl+C or ⌘C.";
  }
}

/** The LaTeX source, which lies compressed in the page. */
async function source() {
  const packed = JSON.parse(document.getElementById("latex").textContent).deflated;
  const bytes = Uint8Array.from(atob(packed), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

/** A title as the name of a file that every system accepts. */
function fileName(title) {
  const plain = title.replace(/\s*[\\/:*?"<>|\p{Cc}][\s\\/:*?"<>|\p{Cc}]*/gu, " - ").replace(/^[\s.-]+|[\s.-]+$/g, "").slice(0, 120);
  return `${plain || "solution"}.tex`;
}
