"use strict";
document.documentElement.classList.add("js");

/* Tables: sort by a column, filter by words, turn pages. Rows are in the page already; this only moves and hides them. */
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const counted = new Intl.NumberFormat("en");

class SortableTable {
  constructor(root) {
    this.root = root;
    this.body = root.querySelector("tbody");
    this.rows = Array.from(this.body.rows);
    this.matching = this.rows;
    this.texts = null;
    this.page = 0;
    this.pageSize = Number(root.dataset.pageSize);
    this.one = root.dataset.one;
    this.many = root.dataset.many;
    this.shown = root.querySelector("output");
    this.pager = root.querySelector(".pager");
    this.headers = Array.from(Array.from(root.querySelector("thead").rows).at(-1).cells);
    this.headers.forEach((header, column) => {
      if (header.hasAttribute("aria-sort")) header.addEventListener("click", () => this.sort(column));
    });
    root.querySelector("input").addEventListener("input", (event) => this.filter(event.target.value));
    this.pager.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.turn(Number(button.dataset.step));
    });
    this.draw();
  }

  sort(column) {
    const header = this.headers[column];
    const descending = header.getAttribute("aria-sort") === "ascending";
    for (const other of this.headers) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const numeric = header.dataset.type === "number";
    const keyed = this.rows.map((row) => {
      const cell = row.cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      return [numeric ? parseFloat(text) : text, row];
    });
    const absent = (key) => (numeric ? Number.isNaN(key) : key === "");
    keyed.sort(([a], [b]) => {
      if (absent(a) || absent(b)) return absent(a) - absent(b); /* absent values stay last both ways */
      const order = numeric ? a - b : collator.compare(a, b);
      return descending ? -order : order;
    });
    this.rows = keyed.map(([, row]) => row);
    this.texts = null;
    this.body.append(...this.rows);
    this.filter(this.root.querySelector("input").value);
  }

  filter(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    this.texts ??= this.rows.map((row) => row.textContent.toLowerCase());
    this.matching = this.rows.filter((_, place) => wanted.every((word) => this.texts[place].includes(word)));
    this.page = 0;
    this.draw();
  }

  turn(step) {
    this.page += step;
    this.draw();
  }

  draw() {
    const first = this.page * this.pageSize;
    const visible = new Set(this.matching.slice(first, first + this.pageSize));
    for (const row of this.rows) row.hidden = !visible.has(row);
    const total = this.matching.length;
    const of = total === this.rows.length ? "" : ` of ${counted.format(this.rows.length)}`;
    this.shown.textContent = `${counted.format(total)}${of} ${this.rows.length === 1 ? this.one : this.many}`;
    this.pager.hidden = total <= this.pageSize;
    const [back, on] = this.pager.querySelectorAll("button");
    back.disabled = this.page === 0;
    on.disabled = first + this.pageSize >= total;
    const last = Math.min(first + this.pageSize, total);
    this.pager.querySelector("span").textContent = `${counted.format(first + 1)}–${counted.format(last)}`;
  }
}

for (const table of document.querySelectorAll("[data-table]")) new SortableTable(table);

/* Gallery: keep the generators whose name, family or prompts hold every word. */
const galleryFilter = document.querySelector("#gallery-filter");
if (galleryFilter) {
  const articles = Array.from(document.querySelectorAll("article.generator"));
  const shown = document.querySelector("#gallery-shown");
  const texts = articles.map((article) => article.textContent.toLowerCase());
  const draw = () => {
    const wanted = galleryFilter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    articles.forEach((article, place) => {
      article.hidden = !wanted.every((word) => texts[place].includes(word));
      visible += article.hidden ? 0 : 1;
    });
    shown.textContent = `${counted.format(visible)} of ${counted.format(articles.length)} shown`;
  };
  galleryFilter.addEventListener("input", draw);
  draw();
}

/* A row under the pointer lights its ROC curve. */
for (const table of document.querySelectorAll("[data-curves]")) {
  const curves = new Map();
  for (const path of document.querySelectorAll(`#${table.dataset.curves} path[data-generator]`)) curves.set(path.dataset.generator, path);
  for (const [name, state] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]]) {
    table.addEventListener(name, (event) => {
      const row = event.target.closest("tbody tr");
      const curve = row && curves.get(row.dataset.generator);
      if (curve) curve.classList.toggle("on", state);
    });
  }
}

/* One picture, large: Enter opens, arrows step within its group, Escape closes and focus goes back. */
const viewer = document.querySelector("#viewer");
if (viewer) {
  const stage = viewer.querySelector(".stage");
  const title = viewer.querySelector("h3");
  const quote = viewer.querySelector("blockquote");
  const facts = viewer.querySelector("dl");
  const command = viewer.querySelector("pre");
  let group = [];
  let place = 0;

  const enlarged = (image, caption, columns) => {
    const figure = document.createElement("figure");
    const copy = document.createElement("img");
    copy.src = image.getAttribute("src");
    copy.alt = image.alt;
    const width = image.naturalWidth || Number(image.getAttribute("width"));
    const height = image.naturalHeight || Number(image.getAttribute("height"));
    const room = Math.min((stage.clientWidth - 60) / columns / width, (window.innerHeight * 0.72) / height);
    const scale = Math.min(Math.floor(room), Math.ceil(384 / width));
    if (scale > 1) { /* whole multiples only, so that every pixel stays a square of one colour */
      copy.width = width * scale;
      copy.height = height * scale;
      copy.style.imageRendering = "pixelated";
    }
    const text = document.createElement("figcaption");
    text.textContent = caption;
    figure.append(copy, text);
    return figure;
  };

  const show = (next) => {
    place = (next + group.length) % group.length;
    const button = group[place];
    const images = Array.from(button.querySelectorAll("img"));
    stage.replaceChildren(...images.map((image) => enlarged(image, image.dataset.kind, images.length)));
    title.textContent = button.dataset.generator;
    quote.textContent = button.dataset.prompt;
    quote.hidden = !button.dataset.prompt;
    facts.replaceChildren();
    for (const [name, value, code] of JSON.parse(button.dataset.facts)) {
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      if (code) detail.className = "code";
      facts.append(term, detail);
    }
    command.replaceChildren();
    (button.dataset.command ?? "").split(" ").forEach((word, number) => {
      const part = document.createElement("span"); /* lines break between words only, never after an option's hyphens */
      part.textContent = word;
      command.append(number ? " " : "", part);
    });
    command.hidden = !button.dataset.command;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.picture");
    if (!button) return;
    group = Array.from(button.closest("ul").querySelectorAll("button.picture"));
    viewer.showModal();
    show(group.indexOf(button));
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(place + 1);
    if (event.key === "ArrowLeft") show(place - 1);
  });
  viewer.querySelector(".previous").addEventListener("click", () => show(place - 1));
  viewer.querySelector(".next").addEventListener("click", () => show(place + 1));
  viewer.querySelector(".close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("close", () => { stage.replaceChildren(); if (group[place]) group[place].focus(); });
}
